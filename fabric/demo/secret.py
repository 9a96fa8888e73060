"""Decides whether a name and the string given to it look like a password in the source, and hides
the string.
"""

from __future__ import annotations

import re

#: What stands in for the value: a report must not spread what it warns of.
MASK = "***"
#: Characters of a token or key. Shorter values name a kind of token, they are none.
KEY_CHARS_MIN = 8
#: Characters of a password. Shorter ones are placeholders.
PASSWORD_CHARS_MIN = 4

_PASSWORD_NAME = re.compile(r"(?:^|_)(?:password|passwd|passphrase)$")
_KEY_NAME = re.compile(
    r"(?:^|_)(?:secret|secret_key|api_?key|access_key|private_key|auth_?token|access_token|api_token|client_secret)$"
)
#: A word that names what it should hold, a template, an address, an option, or an obvious
#: placeholder.
_HARMLESS = re.compile(
    r"pass|pwd|secret|token|key|prompt|example|placeholder|change|dummy|redact|[<>{}%$]|://|\*\*|xxx|\.\.\.|^[-/.~]",
    re.I,
)
_SHOUTED_NAME = re.compile(r"[A-Z][A-Z0-9_]*_[A-Z0-9_]+")
_LITERAL = re.compile(r"""(["'])(?:\\.|(?!\1).)*(?:\1|$)""")
_SENSITIVE = re.compile(r"passw|passphrase|secret|token|api_?key|access_key|private_key", re.I)


def is_secret(name: str, value: str) -> bool:
    """Tell whether `name = "value"` hard-codes a password, key or token. Placeholders and type
    names are none.
    """
    if not value.isprintable() or any(char.isspace() for char in value) or _HARMLESS.search(value):
        return False
    if _SHOUTED_NAME.fullmatch(value):
        return False
    lowered = name.lower()
    if _PASSWORD_NAME.search(lowered):
        return len(value) >= PASSWORD_CHARS_MIN and len(set(value)) > 1
    if _KEY_NAME.search(lowered):
        has_digit = any(char.isdigit() for char in value)
        has_letter = any(char.isalpha() for char in value)
        return len(value) >= KEY_CHARS_MIN and has_digit and has_letter
    return False


def masked(line: str) -> str:
    """Return a source line with every string in it hidden when the line speaks of passwords, keys
    or tokens.

    A string that goes on in the next line is hidden up to the end of this one.
    """
    if not _SENSITIVE.search(line):
        return line
    return _LITERAL.sub(lambda match: f"{match[1]}{MASK}{match[1]}", line)
