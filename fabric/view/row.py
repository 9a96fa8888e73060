"""A row of a timeline, and how its cells keep within bounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Characters of one cell. What agents say can be long; the log has all of it.
CELL_CHARS_MAX = 200


class Row(NamedTuple):
    """One event of a session, or several that are shown as one. `ms` is server time.

    `agents` are who speaks or who is spoken to, `streams` theirs, each of them once. A detail is
    what follows from the rows around it.
    """

    id: str
    ms: int
    signal: str
    streams: tuple[str, ...]
    agents: tuple[str, ...]
    action: str
    is_detail: bool

    @property
    def stream(self) -> str:
        """Return the Stream column's cell: `A, B`."""
        return listed(self.streams)

    @property
    def agent(self) -> str:
        """Return the agents as one cell."""
        return listed(self.agents)


def cell(text: str) -> str:
    """Return a text as one line: agents may have put anything into it, for a terminal too."""
    line = " ".join(text.split()) if not text.isprintable() else text
    line = "".join(c if c.isprintable() else "·" for c in line)
    return _cut(line, CELL_CHARS_MAX)


def listed(parts: Sequence[str], separator: str = ", ", chars_max: int = CELL_CHARS_MAX) -> str:
    """Return parts as one text of at most `chars_max` characters: `A, B, and 498 more`."""
    whole = separator.join(parts)
    if len(whole) <= chars_max or len(parts) == 1:
        return _cut(whole, chars_max)
    room = chars_max - len(f"{separator}and {len(parts)} more")
    shown, end = 1, len(parts[0])
    while (end := end + len(separator) + len(parts[shown])) <= room:
        shown += 1
    # The first part is there even if it has to be cut.
    beginning = _cut(separator.join(parts[:shown]), room)
    return f"{beginning}{separator}and {len(parts) - shown} more"


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
