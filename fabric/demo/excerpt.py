"""Text from outside, made fit to show: printable, on one line, bounded."""

from __future__ import annotations

#: Characters of a source line, a path or a name that a message carries. Longer adds nothing to a
#: report.
EXCERPT_CHARS_MAX = 160


def printable(text: str) -> str:
    """Return `text` with everything that does not print replaced by a backslash escape.

    Covers terminal escapes, bidirectional controls, line ends and lone surrogates, so the result
    can be written to any UTF-8 terminal, JSON document or file.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def excerpt(text: str, chars_max: int = EXCERPT_CHARS_MAX) -> str:
    """Return the trimmed, printable start of `text`; what was cut is marked by an ellipsis."""
    # Cut before anything else: a line may be a million characters long.
    start = text[: 20 * chars_max].strip()[: chars_max + 1]
    shown = printable(start.replace("\t", " "))
    if len(shown) > chars_max:
        return shown[: chars_max - 1] + "…"
    return shown


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
