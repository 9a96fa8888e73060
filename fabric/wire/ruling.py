"""Rules as the log keeps them: one JSON document, and the digest by which a session names it."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from fabric.core.rules import Rules

#: The document of the defaults.
DEFAULTS: Final = b"{}"

#: Bytes of a digest: enough that no two sets of rules of one session share one.
_DIGEST_BYTES = 8


def document(rules: Rules) -> bytes:
    """Return rules as JSON; the same bytes from every process for the same rules.

    Without the hook: no decision depends on its arguments, and one of them may be a secret.
    """
    kept = msgspec.structs.replace(rules, hook=())
    if kept == Rules():
        return DEFAULTS
    return msgspec.json.encode(kept, order="deterministic")


def digest(raw: bytes) -> str:
    """Return what tells a document of rules from others, in hexadecimal; "" for the defaults."""
    if raw == DEFAULTS:
        return ""
    return hashlib.blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()


def read(raw: bytes) -> Rules:
    """Return the rules of a document. Raises MsgspecError, ValueError, RecursionError."""
    return msgspec.json.decode(raw, type=Rules)
