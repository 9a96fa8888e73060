"""How a synthesis grows, revision by revision, while the agents are at work. Pure."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import msgspec

from fabric.client.synthesis import Revision
from fabric.core.contradiction import FINDINGS
from fabric.core.synthesis.part import State
from fabric.core.synthesis.partial import unescape
from fabric.demo.opinion import KEY

#: Findings that stay in view as the newest.
NEWEST_MAX = 5

#: A finding in one of these states is there.
_STANDING = frozenset({State.AGREED, State.CONTRADICTED, State.DECIDED})

_POINTER = f"/{FINDINGS}/"


class Point(msgspec.Struct, frozen=True):
    """A revision as it was seen, `at_ms` after the session's first signal.

    `findings` counts those of the review. `begun` and `ended` are the agents that had done so, by
    the log as it was when the revision was seen: later than when it was published.
    """

    number: int
    at_ms: int
    findings: int
    percent: float
    contradictions: int
    begun: int
    ended: int


class News(msgspec.Struct, frozen=True):
    """A finding that has just arrived: its key, its agent, and when."""

    at_ms: int
    agent: str
    key: str


class Growth:
    """Follows the revisions of a synthesis."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        #: The last one comes last.
        self.newest: deque[News] = deque(maxlen=NEWEST_MAX)
        #: Whether all agents known have ended, and all that they gave is in the synthesis.
        self.is_final = False
        #: Key → who was the first to report it.
        self._found: dict[str, str] = {}

    @property
    def counts(self) -> Counter[str]:
        """Findings by agent, as of the last revision."""
        return Counter(self._found.values())

    def take(self, revision: Revision, at_ms: int, begun: int, ended: int) -> None:
        """Take in the next revision, seen when so many agents had begun and ended."""
        complete: dict[str, Any] = {}
        for operation in revision.patch:
            path: str = operation["path"]
            value: Any = operation.get("value")
            if path == "":
                complete = value["complete"]
            elif path == "/complete":
                complete = value
            elif path.startswith(_POINTER):
                self._follow(unescape(path.removeprefix(_POINTER)), value, at_ms)
        self.is_final = revision.is_final
        self.points.append(
            Point(
                revision.number,
                at_ms,
                len(self._found),
                complete.get("percent", 0),
                complete.get("contradictions", 0),
                begun,
                ended,
            )
        )

    def _follow(self, key: str, part: dict[str, Any] | None, at_ms: int) -> None:
        if key == KEY:
            return
        if part is None or part["state"] not in _STANDING:
            self._found.pop(key, None)
        elif key not in self._found:
            agent = self._found[key] = part["first"]["agent"]
            self.newest.append(News(at_ms, agent, key))
