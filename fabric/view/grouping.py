"""Rows that say the same of several agents, shown as one, as in the seeds' example session.

    0:00  STARTED                   A, B    A begins work; B begins work

Pure: time is that of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fabric.view.row import Row, listed

#: Rows of one signal are one event if they come within this time of the first. The example's
#: events are seconds apart; agents that act on the same cause are not.
MERGE_MS = 1_000


class Grouping:
    """Makes one row of adjacent rows with the same signal. Holds back the last one until `flush`.

    Wherever the rows are cut into portions, the result is the same, unless they are flushed there.
    """

    def __init__(self) -> None:
        self._first: Row | None = None
        #: In order: what comes again counts once, or is counted.
        self._streams: dict[str, None] = {}
        self._agents: dict[str, None] = {}
        self._actions: Counter[str] = Counter()

    def feed(self, rows: Iterable[Row]) -> list[Row]:
        """Take the next rows; return those that are finished, in order."""
        finished = []
        for row in rows:
            if not self._takes(row):
                finished += self.flush()
                self._first = row
            self._streams.update(dict.fromkeys(row.streams))
            self._agents.update(dict.fromkeys(row.agents))
            self._actions[row.action] += 1
        return finished

    def flush(self) -> list[Row]:
        """Return the row that was held back, if there is one."""
        if self._first is None:
            return []
        said = [f"{said} ({n:,} times)" if n > 1 else said for said, n in self._actions.items()]
        merged = self._first._replace(
            streams=tuple(self._streams),
            agents=tuple(self._agents),
            action=listed(said, "; "),
        )
        self._first = None
        for seen in (self._streams, self._agents, self._actions):
            seen.clear()
        return [merged]

    def _takes(self, row: Row) -> bool:
        first = self._first
        return (
            first is not None and row.signal == first.signal and abs(row.ms - first.ms) <= MERGE_MS
        )


def merge(rows: Iterable[Row]) -> list[Row]:
    """Return rows with those merged that say the same of several agents."""
    grouping = Grouping()
    return [*grouping.feed(rows), *grouping.flush()]
