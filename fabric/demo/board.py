"""What is known of a running review, taken from the session's log entry by entry. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.decision import EVERYONE
from fabric.demo.finding import from_partial
from fabric.demo.fleet import FLEET
from fabric.demo.recommend import Draft
from fabric.demo.remark import FIELD as REMARKS
from fabric.demo.report import AgentSummary, Arrival, Row
from fabric.demo.turns import Turns
from fabric.store.port import Entry
from fabric.wire.timeline import Timeline

_ENDS = {"COMPLETED": "completed", "FAILED": "failed"}

#: Rows that only make ready for the next one: a conflict and a barrier have rows of their own.
_UNSHOWN = frozenset({"INTENT", "(pause)"})

WORKING = "working"


class Standing(msgspec.Struct):
    """How far one agent has come."""

    name: str
    stream: str
    is_reviewer: bool = True
    status: str = "waiting to start"
    percent: float = 0
    checkpoint: str = ""
    findings: int = 0
    ended_ms: int | None = None
    draft: Draft = Draft(())


class Board:
    """The fleet's standings, all findings with the time of their arrival, and the timeline."""

    def __init__(self) -> None:
        self.agents = {
            member.name: Standing(member.name, member.stream, bool(member.review))
            for member in FLEET
        }
        self.arrivals: list[Arrival] = []
        self.timeline: list[Row] = []
        self.turns = Turns({member.name: member.priority for member in FLEET})
        #: What agents say did not go as it should.
        self.remarks: list[str] = []
        #: The barrier that agents are to stop at, and who has stopped there.
        self._barrier = ""
        self._stopped: set[str] = set()
        self._rows = Timeline({member.name: member.stream for member in FLEET})
        self._opened_ms: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether every agent has ended."""
        return all(agent.ended_ms is not None for agent in self.agents.values())

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
        fields = {
            name.decode(): value for name, value in zip(entry[1][::2], entry[1][1::2], strict=True)
        }
        ms = int(fields.get("ms", b"0"))
        if self._opened_ms is None:
            self._opened_ms = ms
        at_ms = ms - self._opened_ms
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
        elif kind == "PARTIAL_RESULT":
            self._collect(agent, payload["partial"], at_ms)
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

    def _collect(self, agent: Standing, partial: dict[str, Any], at_ms: int) -> None:
        for item in partial.get("findings", ()):
            self.arrivals.append(Arrival(agent.name, at_ms, from_partial(item)))
            agent.findings += 1
        for name, words in partial.get(REMARKS, {}).items():
            self.remarks.append(f"{name}: {words}")
        drafted = partial.get("recommendations", {}).get(agent.name)
        if drafted is not None:
            agent.draft = msgspec.convert(drafted, Draft)
