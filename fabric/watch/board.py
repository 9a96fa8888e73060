"""A model of a running session: agents and waits, questions, timeline and synthesis. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from fabric.client.synthesis import Revision
from fabric.core.record import ENDED, AgentRecord, BarrierRecord, ClaimRecord
from fabric.core.synthesis.partial import unescape
from fabric.core.synthesis.state import State
from fabric.ops.questions import Question
from fabric.store.port import Entry
from fabric.view.status import waits
from fabric.view.synthesis import Synthesis
from fabric.view.timeline import Row, Timeline, merge

#: Rows of the timeline that are kept for the view.
ROWS_KEPT_MAX = 200

#: Findings that the view shows as the newest.
NEWEST_MAX = 5

#: Points of the growth chart. Over this, every second one goes.
POINTS_MAX = 2_000

#: A finding in one of these states counts.
_IN_FORCE = frozenset({State.AGREED, State.CONTRADICTED, State.DECIDED})


class Point(msgspec.Struct, frozen=True):
    """The synthesis at one revision.

    `at_ms` is when the watcher saw the revision, `made_ms` the latest time among its causes; both
    in ms since the session opened. `findings` counts those in force, `begun` and `ended` the agents
    that had begun or ended by then.
    """

    number: int
    at_ms: int
    findings: int
    percent: float
    contradictions: int
    made_ms: int = 0
    begun: int = 0
    ended: int = 0


class NewFinding(NamedTuple):
    """A finding that has just arrived: when (ms since the session opened), from whom, its key."""

    at_ms: int
    agent: str
    key: str


class Growth:
    """Follows the revisions of a synthesis. Findings whose key is in `ignored` do not count."""

    def __init__(self, ignored: Collection[str] = ()) -> None:
        self.points: list[Point] = []
        self.first_finding: Point | None = None
        self.newest: deque[NewFinding] = deque(maxlen=NEWEST_MAX)
        self.is_final = False
        self._ignored = frozenset(ignored)
        #: Key → the agent that reported it first.
        self._found: dict[str, str] = {}
        #: How complete the synthesis is: a revision says so only when that has changed.
        self._complete: Mapping[str, Any] = {}

    @property
    def counts(self) -> Counter[str]:
        """Findings by agent, as of the last revision."""
        return Counter(self._found.values())

    @property
    def revision(self) -> int:
        """The number of the last revision; 0 before the first."""
        return self.points[-1].number if self.points else 0

    def begin_at(self, synthesis: Synthesis, at_ms: int) -> None:
        """Begin with a whole synthesis, because the revisions up to it are gone."""
        whole = [{"path": "", "value": synthesis.document}]
        revision = Revision(synthesis.revision, whole, [], 0, synthesis.is_final)
        self.take(revision, at_ms, at_ms)

    def take(self, revision: Revision, at_ms: int, made_ms: int) -> None:
        """Take in the next revision; see Point for the times."""
        for operation in revision.patch:
            path: str = operation["path"]
            value: Any = operation.get("value")
            if path == "":
                self._complete = value.get("complete", {})
                for key, part in value.get("findings", {}).items():
                    self._take_finding(key, part, made_ms)
            elif path == "/complete":
                self._complete = value
            elif path.startswith("/findings/"):
                self._take_finding(unescape(path.removeprefix("/findings/")), value, made_ms)
        self.is_final = revision.is_final
        names = ("percent", "contradictions", "agents", "ended")
        percent, open_, begun, ended = (self._complete.get(name, 0) for name in names)
        found = len(self._found)
        point = Point(revision.number, at_ms, found, percent, open_, made_ms, begun, ended)
        self.points.append(point)
        if self.first_finding is None and self._found:
            self.first_finding = point
        if len(self.points) > POINTS_MAX:
            del self.points[1:-1:2]

    def _take_finding(self, key: str, part: Mapping[str, Any] | None, at_ms: int) -> None:
        if key in self._ignored:
            return
        if part is None or part["state"] not in _IN_FORCE:
            self._found.pop(key, None)
        elif key not in self._found:
            agent = self._found[key] = part["first"]["agent"]
            self.newest.append(NewFinding(at_ms, agent, key))


class Board:
    """What the view shows. With `in_full` the timeline has its details and merges no rows."""

    def __init__(
        self, session: str, *, ignored: Collection[str] = (), in_full: bool = False
    ) -> None:
        self.session = session
        #: When the session opened, ms since the epoch; 0 before its first signal.
        self.opened_ms = 0
        #: Time of the newest log entry, ms since the session opened.
        self.at_ms = 0
        self.agents: dict[str, AgentRecord] = {}
        self.waits: dict[str, list[str]] = {}
        #: Open questions that a person is asked, the oldest first.
        self.questions: list[Question] = []
        self.rows: deque[Row] = deque(maxlen=ROWS_KEPT_MAX)
        self.growth = Growth(ignored)
        #: Why nothing new can be seen at present; "" when all is well.
        self.trouble = ""
        self._in_full = in_full
        self._timeline = Timeline()

    @property
    def has_ended(self) -> bool:
        """Whether every agent known has ended."""
        return bool(self.agents) and all(one.status in ENDED for one in self.agents.values())

    def begin(self, opened_ms: int, streams: Mapping[str, str]) -> None:
        """Set what is known before the first log entry that `take_log` gets."""
        self.opened_ms = opened_ms
        self._timeline = Timeline(streams)

    def take_log(self, entries: Iterable[Entry]) -> list[Row]:
        """Take in log entries; return the new rows of the timeline."""
        rows = [row for entry in entries if (row := self._timeline.row(*entry)) is not None]
        if rows:
            self.opened_ms = self.opened_ms or rows[0].ms
            self.at_ms = max(self.at_ms, rows[-1].ms - self.opened_ms)
        if not self._in_full:
            rows = merge(row for row in rows if not row.is_detail)
        self.rows.extend(rows)
        return rows

    def take_records(
        self,
        agents: dict[str, AgentRecord],
        claims: Mapping[str, ClaimRecord],
        barriers: Mapping[str, BarrierRecord],
        questions: Iterable[Question],
    ) -> None:
        """Take in the records as they are now."""
        self.agents = agents
        self.waits = waits(agents, claims, barriers)
        self.questions = [one for one in questions if one.is_asked]
