"""Small pieces of Markdown (CommonMark, GitHub tables) around text that may be hostile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fabric.wire.stored import printable

_SPECIAL = re.compile(r"[\\`*{}\[\]<>|~#!&@^$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|www\.")
#: The beginning of a line, up to the character that makes it an item of a list or a heading.
_LEADING = re.compile(r"^(\s*(?:(?=[-+=])|\d+(?=[.)])))")
_BACKTICKS = re.compile(r"`+")


def text(value: str) -> str:
    """Return `value` as one line of text without any markup: no heading, link, tag or emphasis."""
    escaped = _SPECIAL.sub(_escape, printable(value))
    return _LEADING.sub(r"\1\\", escaped)


def prose(value: str) -> str:
    """Return a message as text without markup; names between paired backticks become code."""
    parts = value.split("`")
    if len(parts) % 2 == 0:
        return text(value)
    return "".join(code(part) if number % 2 else text(part) for number, part in enumerate(parts))


def code(value: str) -> str:
    """Return `value` as a code span on one line; its fence is longer than any backticks inside."""
    shown = printable(value)
    if not shown.strip():
        return ""
    fence = "`" * (_longest(shown) + 1)
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def block(lines: Iterable[str], language: str = "") -> list[str]:
    """Return the lines of a fenced code block that no line inside can close."""
    shown = [printable(line) for line in lines]
    fence = "`" * max(3, _longest("\n".join(shown)) + 1)
    return [f"{fence}{language}", *shown, fence]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table. Cells are Markdown; bars in them are escaped here."""
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(' --- ' for _ in header)}|"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return lines


def _cell(value: str) -> str:
    # A bar ends the cell even inside a code span. Bars that are escaped already stay.
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", value)


def _escape(match: re.Match[str]) -> str:
    found = match[0]
    if found == "//":
        return "/\\/"
    return "www\\." if found == "www." else f"\\{found}"


def _longest(value: str) -> int:
    return max(map(len, _BACKTICKS.findall(value)), default=0)
