"""Text from outside as one line of printable characters."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` with a backslash escape for every character that does not print.

    This covers terminal escapes, bidirectional controls, line ends and lone surrogates, so that the
    result can be written to any UTF-8 terminal, JSON document or file.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def shortened(text: str, chars_max: int) -> str:
    """Return a text of at most `chars_max` characters; an ellipsis marks where it was cut."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
