"""The part of a session's synthesis that is in memory: parts, agents, and how complete it is.

The records are both what the store keeps and what the document consists of, under the same names:
field `<section>:<name>` of one hash, member `/<section>/<name>` of the document. The store loads
only the records that a batch touches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.contradiction import DOCUMENT, FINDINGS, ITEMS
from fabric.core.record import AgentStatus
from fabric.core.rules import RestartPolicy
from fabric.core.synthesis.part import Part, Standing, State, current

#: Sections of the document that hold no parts.
AGENTS: Final = "agents"
CONTRADICTIONS: Final = "contradictions"
REFINED: Final = "refined"

#: All sections, in the order of the document.
SECTIONS: Final = (AGENTS, CONTRADICTIONS, DOCUMENT, FINDINGS, ITEMS, REFINED)

#: Share of an agent that has completed, in hundredths of a percent: shares are added up as whole
#: numbers, so that no rounding depends on the order.
WHOLE: Final = 10_000

#: Encodes a record: the same bytes for the same record, however it came about.
encode = msgspec.json.Encoder(order="deterministic").encode


class Contributor(Struct, omit_defaults=True):
    """One agent, as the synthesis knows it. Times are server time, ms since the epoch."""

    status: AgentStatus
    incarnation: int = 0
    #: The highest that its present incarnation has reported.
    percent: int | float = 0
    #: Log number and time of its first result; 0 before that.
    reported: int = 0
    reported_ms: int = 0
    #: Incarnations that completed: their statements keep counting.
    completed: list[int] = []
    error: str = ""

    def counts(self, incarnation: int, policy: RestartPolicy) -> bool:
        """Whether statements of an incarnation still count."""
        if policy is RestartPolicy.KEEP or incarnation == self.incarnation:
            return True
        return incarnation in self.completed

    def share(self) -> int:
        """Return how far the agent has come, in hundredths of a percent."""
        return WHOLE if self.status is AgentStatus.COMPLETED else round(self.percent * 100)

    @property
    def has_ended(self) -> bool:
        """Whether its present incarnation has ended."""
        return self.status is not AgentStatus.ACTIVE


class Complete(Struct):
    """How complete a synthesis is. `percent` is the mean of all known agents."""

    agents: int = 0
    reported: int = 0
    ended: int = 0
    percent: float = 0
    #: Findings, places and items that any agent has ever spoken of.
    parts: int = 0
    findings: int = 0
    contradictions: int = 0
    final: bool = False
    #: Sum of the agents' shares, in hundredths of a percent.
    shares: int = 0
    #: Agents whose parts are still to be merged anew.
    sweeps: int = 0


class RivalStatement(Struct, omit_defaults=True):
    """An agent's statement of one of the values of a contradiction."""

    agent: str
    log: int
    value: Raw | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET


class ContradictionRecord(Struct, omit_defaults=True):
    """Different values for one part, in the order in which agents first gave them."""

    values: list[list[RivalStatement]]


class RefinementRecord(Struct, omit_defaults=True):
    """What a refiner made of a synthesis, and of which revision."""

    value: Raw
    log: int
    ms: int
    revision: int = 0


class Sweep(Struct, omit_defaults=True):
    """A pass over those of an agent's parts that must be merged anew, given by name prefixes.

    The pass is at the first prefix; it takes the names in order and has come as far as `after`.
    """

    within: list[str] = []
    after: str = ""


def contradiction_of(part: Part) -> ContradictionRecord:
    """Return the values of a contradicted part."""
    values: dict[bytes, list[RivalStatement]] = {}
    for agent, one in current(part).items():
        if one.standing is Standing.HOLDS and isinstance(one.value, Raw):
            rival = RivalStatement(agent, one.log, one.value, one.confidence, one.evidence)
            values.setdefault(bytes(one.value), []).append(rival)
    for rivals in values.values():
        rivals.sort(key=lambda one: one.log)
    verdict = part.verdict
    if verdict is not None and isinstance(verdict.value, Raw):
        # A value that a person decided for earlier is a candidate even if no agent gives it.
        decided = RivalStatement(verdict.by, verdict.log, verdict.value)
        values.setdefault(bytes(verdict.value), [decided])
    return ContradictionRecord(sorted(values.values(), key=lambda rivals: rivals[0].log))


#: The value of a field of the hash; None for a field that is known not to exist.
Record = Part | Contributor | ContradictionRecord | RefinementRecord | Sweep | None


class Before(NamedTuple):
    """A part as it was last published: its record, its state, and its contradiction."""

    record: bytes
    state: State
    contradiction: ContradictionRecord | None


@dataclass(slots=True, eq=False)
class SynthesisState:
    """One session's synthesis in memory. `records` holds what has been loaded, by field."""

    name: str
    revision: int = 0
    complete: Complete = field(default_factory=Complete)
    #: `complete` as the last revision has it, encoded; empty before the first one.
    published_complete: bytes = b""
    records: dict[str, Record] = field(default_factory=dict)
    #: Parts to be merged → agents whose current statement must be found anew.
    dirty: dict[str, set[str]] = field(default_factory=dict)
    #: The dirty parts as they were at the last revision, and the edges that led from them.
    before: dict[str, Before] = field(default_factory=dict)
    edges: dict[str, dict[tuple[str, str], int]] = field(default_factory=dict)
    #: Other records that have changed since the last revision.
    changed: set[str] = field(default_factory=set)
    #: Agent → parts that it has spoken of for the first time.
    index: dict[str, dict[str, None]] = field(default_factory=dict)
    #: Agents with a sweep to start or to continue.
    sweeps: dict[str, None] = field(default_factory=dict)
    #: Log numbers of the entries that lead to the next revision, and the latest time of these.
    causes: dict[int, None] = field(default_factory=dict)
    ms: int = 0

    def part(self, name: str) -> Part:
        """Return a part that is to change; a new one if there is none."""
        record = self.records.get(name)
        if record is None:
            record = self.records[name] = Part(State.WITHDRAWN)
        assert isinstance(record, Part)
        return record

    def known_part(self, name: str) -> Part | None:
        """Return a part if it has been loaded and exists."""
        record = self.records.get(name)
        return record if isinstance(record, Part) else None

    def note_before(self, name: str, part: Part) -> None:
        """Remember a part as it is, before it changes."""
        contradiction = contradiction_of(part) if part.state is State.CONTRADICTED else None
        self.before[name] = Before(encode(part), part.state, contradiction)

    def end_batch(self) -> None:
        """Forget what led to the revision that was just published."""
        for kept in (self.dirty, self.before, self.edges, self.changed, self.index, self.sweeps):
            kept.clear()
        self.causes.clear()

    def agent(self, name: str) -> Contributor:
        """Return an agent's record that is to change; a new one if there is none."""
        key = f"{AGENTS}:{name}"
        record = self.records.get(key)
        if record is None:
            record = self.records[key] = Contributor(AgentStatus.ACTIVE)
            self.complete.agents += 1
            self.changed.add(key)
        assert isinstance(record, Contributor)
        return record
