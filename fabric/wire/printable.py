"""Text from outside, made fit to show: every character of it prints, on one line."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` with everything that does not print replaced by a backslash escape.

    Covers terminal escapes, bidirectional controls, line ends and lone surrogates, so the result
    can be written to any UTF-8 terminal, JSON document or file.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def shortened(text: str, chars_max: int) -> str:
    """Return the start of a text; what was cut is marked by an ellipsis."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
