"""What came of a review: gathered from the session's log, its synthesis, and the scratch copy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fabric import NotFoundError, Session, Synthesis
from fabric.core.synthesis.part import Standing, State
from fabric.demo.finding import (
    VOTE,
    Draft,
    Finding,
    Opinion,
    draft,
    from_partial,
    from_vote,
)
from fabric.demo.fixing import Workshop, resource
from fabric.demo.fleet import COPY_FOLDER, FIXERS, FLEET, REMARKS
from fabric.demo.tree import Skipped, Tree
from fabric.store.port import Entry
from fabric.view.timeline import Timeline
from fabric.watch.board import Growth, Point
from fabric.wire.stored import text_fields_of

#: Rows that only prepare the next one: a conflict and a barrier have rows of their own.
UNSHOWN = frozenset({"INTENT", "(pause)"})

#: Parts of the run at which the findings so far are counted, in percent.
MARKS = {"a quarter": 25, "half": 50, "three quarters": 75}

_ENDS = {"COMPLETED": "completed", "FAILED": "failed"}


class Row(msgspec.Struct, frozen=True):
    """One line of the timeline; `at_ms` since the session's first signal. The action names the
    agent.
    """

    at_ms: int
    signal: str
    stream: str
    agent: str
    action: str


class Arrival(msgspec.Struct, frozen=True):
    """A finding, the agent that reported it first, when, and the number of the log entry."""

    agent: str
    at_ms: int
    finding: Finding
    log: int = 0


class View(msgspec.Struct, frozen=True):
    """One agent's vote on where to begin, and whether the agent still holds it."""

    agent: str
    opinion: Opinion
    is_held: bool


class Dispute(msgspec.Struct, frozen=True):
    """An open contradiction: value → the agents that gave it, and the question to a person."""

    part: str
    question: str
    values: dict[str, tuple[str, ...]]
    options: tuple[str, ...]


class Milestone(msgspec.Struct, frozen=True):
    """How many findings were there at a part of the run."""

    after: str
    at_ms: int
    findings: int
    share: float


class Course(msgspec.Struct, frozen=True):
    """How the synthesis has grown. `agents` are those of the fleet, `findings` those at the end."""

    agents: int = 0
    findings: int = 0
    revisions: int = 0
    is_final: bool = False
    first: Point | None = None
    first_finding: Point | None = None
    milestones: tuple[Milestone, ...] = ()
    views: tuple[View, ...] = ()
    disputes: tuple[Dispute, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """What is not as it must be, in sentences."""
        found = []
        if self.first is None:
            found.append("the synthesis has no revision: no synthesizer was at work")
        elif self.first.ended:
            found.append(
                f"{self.first.ended} of {self.agents} agents had ended before the first revision "
                f"of the synthesis was published"
            )
        if not self.is_final:
            found.append("the synthesis is not final: the report may lack findings")
        return tuple(found)


class Turn(msgspec.Struct, frozen=True):
    """One agent's turn at one file, under a fencing token."""

    agent: str
    priority: int
    asked_ms: int
    given_ms: int
    token: int
    waited_for: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """One file of the copy: who has edited it, in order, by its journal (None when an edit was
    overwritten), and the turns that the log tells of.
    """

    path: str
    edits: tuple[str, ...] | None
    turns: tuple[Turn, ...]


class Changes(msgspec.Struct, frozen=True):
    """All files of the copy, the difference that was made to the first, and remarks of agents."""

    files: tuple[Change, ...] = ()
    difference: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[str, ...]:
        """The files that lack an edit."""
        whole = len(FIXERS)
        return tuple(one.path for one in self.files if len(one.edits or ()) != whole)


class AgentSummary(msgspec.Struct, frozen=True):
    """How one agent fared; `ended_ms` is None for one that has not ended."""

    name: str
    stream: str
    status: str
    ended_ms: int | None = None
    draft: Draft = Draft()
    is_reviewer: bool = True


class Report(msgspec.Struct, frozen=True):
    """Everything the report says. `elapsed_ms` is when the last reviewer ended; `commands` are
    redis-cli lines.
    """

    path: str
    session: str
    started: str
    elapsed_ms: int
    files: int
    agents: tuple[AgentSummary, ...]
    arrivals: tuple[Arrival, ...]
    timeline: tuple[Row, ...]
    commands: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    changes: Changes = Changes()
    course: Course = Course()


class _Log:
    """What the log tells: rows, when agents began and ended, and their turns at files."""

    def __init__(self) -> None:
        self.opened_ms = 0
        self.last_ms = 0
        self.rows: list[Row] = []
        self.began: dict[str, int] = {}
        self.ended: dict[str, tuple[str, int]] = {}
        self.turns: dict[str, list[Turn]] = {}
        #: (agent, path) → when it asked, and the agents that it has waited for so far.
        self._asked: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self._timeline = Timeline({member.name: member.stream for member in FLEET})

    def take(self, entry: Entry) -> None:
        fields = text_fields_of(entry[1])
        ms = int(fields["ms"])
        self.opened_ms = self.opened_ms or ms
        self.last_ms = at_ms = ms - self.opened_ms
        word, agent = fields["type"], fields.get("emitter", "")
        payload = msgspec.json.decode(fields.get("payload") or "{}")
        if fields["kind"] == "signal":
            if word == "STARTED":
                self.began.setdefault(agent, at_ms)
            elif word in _ENDS:
                self.ended[agent] = _ENDS[word], at_ms
            elif word == "INTENT":
                for path in payload.get("writes", ()):
                    self._asked.setdefault((agent, path), (at_ms, []))
        elif fields["kind"] == "directive":
            self._obey(word, fields["to"], payload, at_ms)
        row = self._timeline.row(*entry)
        if row is not None and row.signal not in UNSHOWN:
            self.rows.append(Row(at_ms, row.signal, row.stream, "", row.action))

    def _obey(self, word: str, agent: str, payload: Mapping[str, Any], at_ms: int) -> None:
        if word == "WAIT":
            for path in payload["resources"]:
                self._note(agent, path, payload["holder"])
        elif word == "PROCEED" and payload.get("token") is not None:
            for path in payload["resources"]:
                asked = self._asked.pop((agent, path), None)
                if asked is None:
                    continue  # it is told again what it has
                priority = next(one.priority for one in FLEET if one.name == agent)
                turn = Turn(agent, priority, asked[0], at_ms, payload["token"], tuple(asked[1]))
                self.turns.setdefault(path, []).append(turn)
                for other, wanted in self._asked:
                    if wanted == path:
                        self._note(other, path, agent)

    def _note(self, agent: str, path: str, holder: str) -> None:
        waited = self._asked.get((agent, path), (0, []))[1]
        if holder and holder not in waited:
            waited.append(holder)


async def gather(
    session: Session, growth: Growth, tree: Tree, scratch: Path, path: str, started: str
) -> Report:
    """Return the report on a session that has ended. Raises FabricError, OSError."""
    log = _Log()
    async for entry in session.log():
        log.take(entry)
    try:
        synthesis = await session.synthesis()
    except NotFoundError:
        synthesis = Synthesis({})
    arrivals = _arrivals(synthesis, log.opened_ms)
    agents = []
    for member in FLEET:
        status, ended_ms = log.ended.get(member.name, ("working", None))
        if member.name not in log.began:
            status = "waiting to start"
        drafted = draft(one.finding for one in arrivals if one.agent == member.name)
        agents.append(
            AgentSummary(member.name, member.stream, status, ended_ms, drafted, member.is_reviewer)
        )
    ends = [one.ended_ms or log.last_ms for one in agents if one.is_reviewer]
    return Report(
        path,
        session.name,
        started,
        max(ends),
        len(tree.files),
        tuple(agents),
        tuple(arrivals),
        tuple(log.rows),
        (),
        tree.skipped,
        _changes(scratch / COPY_FOLDER, log, synthesis),
        _course(synthesis, growth, log, len(arrivals)),
    )


def _arrivals(synthesis: Synthesis, opened_ms: int) -> list[Arrival]:
    found = []
    for key, record in synthesis.findings.items():
        said = [one for one in record.sources if one.value is not None]
        is_gone = record.state in (State.WITHDRAWN, State.SUPERSEDED)
        if key == VOTE or is_gone or not said:
            continue
        first = said[0]
        item = {"key": key, "value": record.value or first.value, "evidence": first.evidence or ""}
        if first.confidence is not None:
            item["confidence"] = first.confidence
        at_ms = record.first_ms - opened_ms
        found.append(Arrival(first.agent, at_ms, from_partial(item), first.log))
    return sorted(found, key=lambda one: (one.log, one.finding.key))


def _changes(folder: Path, log: _Log, synthesis: Synthesis) -> Changes:
    said: Mapping[str, Sequence[str]] = (synthesis.plain or {}).get(REMARKS, {})
    remarks = tuple(f"{name}: {text}" for name, texts in said.items() for text in texts)
    try:
        workshop = Workshop(folder)
    except FileNotFoundError:
        return Changes(remarks=remarks)
    files = tuple(
        Change(path, edits, tuple(log.turns.get(resource(path), ())))
        for path, edits in workshop.made().items()
    )
    difference: list[str] = []
    if files:
        path = files[0].path
        before, now = (
            workshop.read(path, part).decode("utf-8", "replace").splitlines()
            for part in ("before", "fixed")
        )
        names = f"before/{path}", f"fixed/{path}"
        difference = list(difflib.unified_diff(before, now, *names, n=1, lineterm=""))
    return Changes(files, tuple(line.expandtabs() for line in difference), remarks)


def _course(synthesis: Synthesis, growth: Growth, log: _Log, total: int) -> Course:
    run_ms = max([at_ms for _, at_ms in log.ended.values()], default=log.last_ms)
    milestones = []
    for after, percent in MARKS.items():
        at_ms = run_ms * percent // 100
        there = next((one.findings for one in reversed(growth.points) if one.at_ms <= at_ms), 0)
        milestones.append(Milestone(after, at_ms, there, there / total if total else 1))
    vote = synthesis.findings.get(VOTE)
    views = {
        one.agent: View(
            one.agent, from_vote(one.value, one.evidence), one.standing is Standing.HOLDS
        )
        for one in (vote.sources if vote is not None else ())
        if one.value is not None
    }
    disputes = tuple(
        Dispute(
            open_.part,
            open_.question,
            {str(one[0].value): tuple(source.agent for source in one) for one in open_.values},
            tuple(open_.options),
        )
        for open_ in synthesis.contradictions.values()
    )
    return Course(
        len(FLEET),
        total,
        synthesis.revision,
        synthesis.is_final,
        growth.points[0] if growth.points else None,
        growth.first_finding,
        tuple(milestones),
        tuple(views.values()),
        disputes,
    )
