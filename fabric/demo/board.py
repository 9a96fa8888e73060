"""What is known of a running review: how each agent stands, taken from the session's log entry by
entry, and what they have found, from the synthesis. Pure.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.decision import EVERYONE
from fabric.demo.course import Course, course
from fabric.demo.fleet import FLEET
from fabric.demo.growth import Growth
from fabric.demo.harvest import Arrival, Harvest
from fabric.demo.recommend import Draft
from fabric.demo.report import AgentSummary, Row
from fabric.demo.turns import Turns
from fabric.store.port import Entry
from fabric.view.timeline import Timeline
from fabric.wire.stored import pairs_of

_ENDS = {"COMPLETED": "completed", "FAILED": "failed"}

#: Rows that only make ready for the next one: a conflict and a barrier have rows of their own.
_UNSHOWN = frozenset({"INTENT", "(pause)"})

WAITING, WORKING = "waiting to start", "working"


class Standing(msgspec.Struct):
    """How far one agent has come."""

    name: str
    stream: str
    is_reviewer: bool = True
    status: str = WAITING
    percent: float = 0
    checkpoint: str = ""
    ended_ms: int | None = None
    draft: Draft = Draft(())


class Board:
    """The fleet's standings, the synthesis as it grows and in the end, and the timeline."""

    def __init__(self) -> None:
        self.agents = {
            member.name: Standing(member.name, member.stream, bool(member.review))
            for member in FLEET
        }
        self.growth = Growth()
        self._harvest = Harvest()
        self.timeline: list[Row] = []
        self.turns = Turns({member.name: member.priority for member in FLEET})
        #: The barrier that agents are to stop at, and who has stopped there.
        self._barrier = ""
        self._stopped: set[str] = set()
        self._rows = Timeline({member.name: member.stream for member in FLEET})
        self._opened_ms: int | None = None
        #: Time of the last entry, ms since the first one.
        self.at_ms = 0

    @property
    def opened_ms(self) -> int:
        """The time of the first signal, ms since the epoch; 0 before it."""
        return self._opened_ms or 0

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """All findings with the time of their arrival, once they are gathered."""
        return self._harvest.arrivals

    @property
    def remarks(self) -> tuple[str, ...]:
        """What agents say did not go as it should, once that is gathered."""
        return self._harvest.remarks

    @property
    def begun(self) -> int:
        """How many agents have begun."""
        return sum(agent.status != WAITING for agent in self.agents.values())

    @property
    def ended(self) -> int:
        """How many agents have ended."""
        return sum(agent.ended_ms is not None for agent in self.agents.values())

    @property
    def is_over(self) -> bool:
        """Whether every agent has ended."""
        return self.ended == len(self.agents)

    def gather(self, found: Harvest) -> None:
        """Take in what the synthesis holds at the end."""
        self._harvest = found
        for name, draft in found.drafts.items():
            if name in self.agents:
                self.agents[name].draft = draft

    def course(self) -> Course:
        """Return how the synthesis has grown, over a run that ended with its last agent."""
        run_ms = max(agent.ended_ms or self.at_ms for agent in self.agents.values())
        return course(self.growth.points, self._harvest, len(self.agents), run_ms)

    def summaries(self) -> tuple[AgentSummary, ...]:
        """Return how each agent fared."""
        return tuple(
            AgentSummary(
                agent.name,
                agent.stream,
                agent.status,
                agent.ended_ms,
                agent.draft,
                agent.is_reviewer,
            )
            for agent in self.agents.values()
        )

    def take(self, entry: Entry) -> list[Row]:
        """Take in one log entry; return its rows of the timeline."""
        fields = {name.decode(): value for name, value in pairs_of(entry[1])}
        ms = int(fields.get("ms", b"0"))
        if self._opened_ms is None:
            self._opened_ms = ms
        at_ms = self.at_ms = ms - self._opened_ms
        kind, sender = fields["type"].decode(), fields.get("emitter", b"").decode()
        payload = msgspec.json.decode(fields.get("payload") or b"{}")
        if fields["kind"] == b"signal" and sender in self.agents:
            self._follow(self.agents[sender], kind, payload, at_ms)
            self.turns.take(kind, sender, payload, at_ms)
        elif fields["kind"] == b"directive":
            told = fields["to"].decode()
            self._obey(told, kind, payload)
            self.turns.take(kind, told, payload, at_ms)
        made = self._rows.row(*entry)
        if made is None or made.signal in _UNSHOWN:
            return []
        # The action names the agent.
        row = Row(at_ms, made.signal, made.stream, "", made.action)
        self.timeline.append(row)
        return [row]

    def _follow(self, agent: Standing, kind: str, payload: dict[str, Any], at_ms: int) -> None:
        agent.checkpoint = payload.get("checkpoint") or agent.checkpoint
        agent.percent = payload.get("percent", agent.percent)
        if kind in ("STARTED", "PROGRESS"):
            agent.status = WORKING
        elif kind == "CHECKPOINT_REACHED" and self._barrier:
            agent.status = f"stopped for {self._barrier}"
            self._stopped.add(agent.name)
        elif kind == "BLOCKED":
            agent.status = f"blocked on {payload['on']}"
        elif kind in _ENDS:
            agent.status = _ENDS[kind]
            agent.percent = 100 if kind == "COMPLETED" else agent.percent
            agent.ended_ms = at_ms

    def _obey(self, told: str, kind: str, payload: dict[str, Any]) -> None:
        """Note what a directive means for those it is to."""
        if told == EVERYONE and kind == "PAUSE":
            self._barrier = payload.get("barrier", "")
        elif told == EVERYONE and kind == "RESUME":
            self._barrier = ""
            for name in self._stopped:
                self.agents[name].status = WORKING
            self._stopped.clear()
        agent = self.agents.get(told)
        if agent is None or agent.ended_ms is not None:
            return
        if kind == "WAIT":
            agent.status = f"waiting for {', '.join(payload['resources'])}"
        elif kind in ("RESUME", "PROCEED") and agent.name not in self._stopped:
            agent.status = WORKING
