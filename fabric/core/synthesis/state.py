"""A session's synthesis, as far as it is in memory: its parts, its agents, and how complete it is.

The records are what the store keeps as fields of one hash and what the document consists of, both
under the same names: `<section>:<name>` there, `/<section>/<name>` here. The store brings into
memory only what a batch touches.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.record import AgentStatus
from fabric.core.rules import RestartPolicy
from fabric.core.synthesis.part import Part, Standing, State, words

#: Sections of the document besides those of `partial.py`.
AGENTS: Final = "agents"
CONTRADICTIONS: Final = "contradictions"
REFINED: Final = "refined"

#: All sections, as the document has them.
SECTIONS: Final = (AGENTS, CONTRADICTIONS, "document", "findings", "items", REFINED)

#: Percent of an agent that has ended, in hundredths: shares are added up as whole numbers.
WHOLE: Final = 10_000

#: Encodes a record; the same bytes for the same record, whatever the order it grew in.
encode = msgspec.json.Encoder(order="deterministic").encode


class Contributor(Struct, omit_defaults=True):
    """What the synthesis knows of one agent. Times are server time, ms since the epoch."""

    status: AgentStatus
    incarnation: int = 0
    #: The highest that its present incarnation has told.
    percent: int | float = 0
    #: Log number and time of its first result; 0 while it has given none.
    reported: int = 0
    reported_ms: int = 0
    #: Incarnations that ended well: what they have said stands.
    completed: list[int] = []
    error: str = ""

    def counts(self, incarnation: int, policy: RestartPolicy) -> bool:
        """Whether what was said in an incarnation still counts."""
        if policy is RestartPolicy.KEEP or incarnation == self.incarnation:
            return True
        return incarnation in self.completed

    def share(self) -> int:
        """Return how far it has come, in hundredths of a percent."""
        if self.status is AgentStatus.COMPLETED:
            return WHOLE
        return round(self.percent * 100)

    @property
    def has_ended(self) -> bool:
        """Whether its present incarnation has said its last word."""
        return self.status is not AgentStatus.ACTIVE


class Complete(Struct):
    """How complete a synthesis is. `percent` is the mean of all agents known."""

    agents: int = 0
    reported: int = 0
    ended: int = 0
    percent: float = 0
    #: Findings, places and items that somebody has ever spoken of.
    parts: int = 0
    findings: int = 0
    contradictions: int = 0
    final: bool = False
    #: Sum of the agents' shares, in hundredths of a percent.
    shares: int = 0
    #: Agents whose parts are still to be judged anew.
    sweeps: int = 0


class Claimed(Struct, omit_defaults=True):
    """One of the values of a contradiction: who gives it, since when, how sure and why."""

    agent: str
    log: int
    value: Raw | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET


class Contradiction(Struct, omit_defaults=True):
    """Different values for one thing, in the order in which they were first given."""

    values: list[list[Claimed]]


class Refined(Struct, omit_defaults=True):
    """What a refiner has made of a synthesis, and of which revision."""

    value: Raw
    log: int
    ms: int
    revision: int = 0


class Sweep(Struct, omit_defaults=True):
    """An agent's parts that are to be judged anew, by what their names begin with.

    Those of the first prefix are at work, in the order of their names, up to `after`.
    """

    within: list[str] = []
    after: str = ""


def contradiction_of(part: Part) -> Contradiction:
    """Return the values that contradict each other in a part."""
    values: dict[bytes, list[Claimed]] = {}
    for agent, word in words(part).items():
        if word.standing is Standing.HOLDS and isinstance(word.value, Raw):
            claimed = Claimed(agent, word.log, word.value, word.confidence, word.evidence)
            values.setdefault(bytes(word.value), []).append(claimed)
    for claims in values.values():
        claims.sort(key=lambda one: one.log)
    verdict = part.verdict
    if verdict is not None and isinstance(verdict.value, Raw):
        # What a person has decided before is one of the values, even if no agent gives it.
        decided = Claimed(verdict.by, verdict.log, verdict.value)
        values.setdefault(bytes(verdict.value), [decided])
    return Contradiction(sorted(values.values(), key=lambda claims: claims[0].log))


#: What a field of the hash holds, None for one that is known not to be there.
Record = Part | Contributor | Contradiction | Refined | Sweep | None


class Before(NamedTuple):
    """A part as it was published last: its record, its state, and what contradicted there."""

    record: bytes
    state: State
    contradiction: Contradiction | None


class Synthesis:
    """One session's synthesis in memory. `records` holds what has been loaded, by field."""

    __slots__ = (
        "before",
        "causes",
        "changed",
        "complete",
        "dirty",
        "edges",
        "index",
        "ms",
        "name",
        "records",
        "revision",
        "shown",
        "sweeps",
    )

    def __init__(self, name: str, revision: int = 0, complete: Complete | None = None) -> None:
        self.name = name
        self.revision = revision
        self.complete = complete or Complete()
        #: What the last revision says of that.
        self.shown = encode(complete) if complete is not None else b""
        self.records: dict[str, Record] = {}
        #: Parts to be judged → agents whose word is to be looked for anew.
        self.dirty: dict[str, set[str]] = {}
        #: What these parts were when the last revision was made, and the edges that they made.
        self.before: dict[str, Before] = {}
        self.edges: dict[str, dict[tuple[str, str], int]] = {}
        #: Other records that have changed since the last revision.
        self.changed: set[str] = set()
        #: Agent → parts that it has spoken of for the first time.
        self.index: dict[str, dict[str, None]] = {}
        #: Agents whose sweep is to begin, or to go on.
        self.sweeps: dict[str, None] = {}
        #: Log numbers of what the next revision follows from, and the latest time among them.
        self.causes: dict[int, None] = {}
        self.ms = 0

    def part(self, name: str) -> Part:
        """Return a part to change, made when there is none."""
        record = self.records.get(name)
        if record is None:
            record = self.records[name] = Part(State.WITHDRAWN)
        assert isinstance(record, Part)
        return record

    def known_part(self, name: str) -> Part | None:
        """Return a part that has been loaded and is there."""
        record = self.records.get(name)
        return record if isinstance(record, Part) else None

    def note_before(self, name: str, part: Part) -> None:
        """Remember a part as it is, before it changes."""
        contradiction = contradiction_of(part) if part.state is State.CONTRADICTED else None
        self.before[name] = Before(encode(part), part.state, contradiction)

    def agent(self, name: str) -> Contributor:
        """Return an agent's record to change, made when there is none."""
        field = f"{AGENTS}:{name}"
        record = self.records.get(field)
        if record is None:
            record = self.records[field] = Contributor(AgentStatus.ACTIVE)
            self.complete.agents += 1
            self.changed.add(field)
        assert isinstance(record, Contributor)
        return record
