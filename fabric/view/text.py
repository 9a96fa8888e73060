"""Plain text for people: times, cells, tables, and lists that say how many more there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fabric.wire.stored import shortened

#: Characters of one cell. What agents say can be long; the log has all of it.
CELL_CHARS_MAX = 200


def rfc3339(ms: int) -> str:
    """Return a time as RFC 3339, to the second, in UTC; as a number of ms if no calendar has it."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # somebody wrote it by hand
        return f"{ms} ms"


def clock(ms: int, opened_ms: int) -> str:
    """Return the time since a session opened in minutes and seconds: `0:05`, `75:12`."""
    seconds = max(0, ms - opened_ms) // 1000
    return f"{seconds // 60}:{seconds % 60:02}"


def span(ms: float) -> str:
    """Return a length of time in ms as `12 s`, `5 min`, `3 h` or `2 d`."""
    seconds = max(0, ms) / 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def plain(text: str) -> str:
    """Return a text with `·` for every character that does not print: agents may write anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "·" for char in text)


def cell(text: str) -> str:
    """Return a text as one line of at most `CELL_CHARS_MAX` characters, all of them printable."""
    line = " ".join(text.split()) if not text.isprintable() else text
    return shortened(plain(line), CELL_CHARS_MAX)


def joined(parts: Sequence[str], separator: str = ", ", chars_max: int = CELL_CHARS_MAX) -> str:
    """Return parts as one text of at most `chars_max` characters: `A, B, and 498 more`."""
    whole = separator.join(parts)
    if len(whole) <= chars_max or len(parts) == 1:
        return shortened(whole, chars_max)
    room = chars_max - len(f"{separator}and {len(parts)} more")
    shown, end = 1, len(parts[0])
    while (end := end + len(separator) + len(parts[shown])) <= room:
        shown += 1
    # The first part is there even if it has to be cut.
    beginning = shortened(separator.join(parts[:shown]), room)
    return f"{beginning}{separator}and {len(parts) - shown} more"


def counted(number: int, what: str) -> str:
    """Return a number of things: `1 agent`, `2 agents`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Return the lines of a table, each column as wide as its widest cell."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    return [
        indent
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [list(header), *cells]
    ]
