"""The part of a session's synthesis that is in memory: parts, agents, and how complete it is.

The records are both what the store keeps and what the document consists of, under the same names:
field `<section>:<name>` of one hash, member `/<section>/<name>` of the document. The store loads
only the records that a batch touches. A part, a finding or one place of a document, has a record
with every agent's statements, so that one more partial result costs the same no matter how large
the synthesis is. What holds in a part is decided in `merge.py`.

The order in which results arrive leaves no trace. Of each incarnation of an agent, a part keeps at
most three statements: the last one, and the last two with a value. Log numbers alone decide which
these are, so the same set of statements leaves the same ones in any order, however often they come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.contradiction import DOCUMENT, FINDINGS, ITEMS
from fabric.core.limits import CHECKPOINTS_KEPT_MAX
from fabric.core.record import AgentStatus
from fabric.core.synthesis.canonical import canonical
from fabric.core.synthesis.complete import Complete, Roster
from fabric.core.synthesis.contributor import Contributor
from fabric.core.synthesis.relation import Relations

#: Sections of the document that hold no parts.
AGENTS: Final = "agents"
CONTRADICTIONS: Final = "contradictions"
REFINED: Final = "refined"

#: The field with the agents that the run expects: no part of the document.
ROSTER: Final = "roster:"
#: What is said of keys: one member, so that documents that began without it can get it.
RELATIONS: Final = "relations"

#: All sections, in the order of the document.
SECTIONS: Final = (AGENTS, CONTRADICTIONS, DOCUMENT, FINDINGS, ITEMS, REFINED)

#: Statements with a value that are kept of one incarnation: the last, and the one before.
VALUES_KEPT = 2

#: Incarnations of one agent whose statements about one part are kept, the highest ones.
INCARNATIONS_KEPT_MAX = 16

#: Edges kept at the key that they supersede, the latest ones. If all of these are withdrawn,
#: earlier ones no longer count.
EDGES_KEPT_MAX = 100

_NULL = Raw(b"null")

_decode = msgspec.json.Decoder().decode

#: Encodes a record: the same bytes for the same record, however it came about.
encode = msgspec.json.Encoder(order="deterministic").encode


class Standing(StrEnum):
    """Whether a statement still holds, and if not, why."""

    HOLDS = "holds"
    #: Another finding supersedes it.
    SUPERSEDED = "superseded"
    #: A person has decided for another value.
    REJECTED = "rejected"
    #: A rule has decided for another value: the part's `policy`.
    OVERRULED = "overruled"
    #: The agent has made a later statement.
    REPLACED = "replaced"
    #: The agent has withdrawn it.
    WITHDRAWN = "withdrawn"
    #: The agent has given a whole result since, without it.
    OMITTED = "omitted"
    #: Its incarnation has died, and the next one has not confirmed it.
    STALE = "stale"


#: The agent still says so, even if another value holds.
SAID = frozenset({Standing.HOLDS, Standing.SUPERSEDED, Standing.REJECTED, Standing.OVERRULED})


class State(StrEnum):
    """What is known of a part."""

    #: All agents that speak of it give the same value.
    AGREED = "agreed"
    #: Agents give different values: open until one gives way or a person decides.
    CONTRADICTED = "contradicted"
    #: A person has decided, or a rule: the part's `policy`.
    DECIDED = "decided"
    #: Another finding has taken its place.
    SUPERSEDED = "superseded"
    #: No agent says anything about it any more.
    WITHDRAWN = "withdrawn"
    #: A reducer has made one value of several.
    REDUCED = "reduced"
    #: Each agent's value stands for itself.
    BY_SOURCE = "by_source"
    #: The reducer failed; each agent's value stands for itself.
    FAILED = "failed"


class Statement(Struct, omit_defaults=True, gc=False):
    """What one agent says about one part; with `withdrawn`, that it takes its word back.

    `log` is the number of the log entry that says it (its id is `<log>-0`), `ms` its time. The
    value is left out in storage if it is the value of the whole part.
    """

    log: int
    ms: int
    incarnation: int = 1
    standing: Standing = Standing.HOLDS
    value: Raw | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    supersedes: list[str] = []
    #: It gives `supersedes` and names nothing there: it inherits no key from an earlier statement.
    supersedes_none: bool = False
    withdrawn: bool = False
    #: Index of an item in the agent's list.
    at: int = 0
    #: The fields of a typed finding.
    fields: dict[str, Any] | UnsetType = UNSET
    #: Log number of the last checkpoint that the agent had passed before.
    since: int = 0


class Edge(Struct, frozen=True, order=True, gc=False):
    """A finding that supersedes a part: its key, its agent, and its log number."""

    key: str
    agent: str
    log: int


class Verdict(Struct, omit_defaults=True):
    """A person's decision, by digests; `value` is left out if it was too large for the question."""

    decision: str
    by: str
    log: int
    ms: int
    chosen: str
    rejected: list[str] = []
    value: Raw | UnsetType = UNSET
    #: The rejected values, but those that are too large for a question.
    others: list[Raw] = []


class FirstStatement(Struct, frozen=True, order=True, omit_defaults=True, gc=False):
    """The first statement about a part, by log number: when, and by which agent.

    For an item of a list, `at` is its index there.
    """

    log: int
    ms: int
    agent: str
    at: int = 0


class Part(Struct, omit_defaults=True, gc=False):
    """The statements about one part, by agent, the last one first; and what follows from them."""

    state: State
    value: Raw | UnsetType = UNSET
    said: dict[str, list[Statement]] = {}
    first: FirstStatement | None = None
    superseded_by: list[Edge] = []
    verdict: Verdict | None = None
    reducer: str = ""
    error: str = ""
    #: While contradicted: the agents of each value, where one value has several spellings, or where
    #: not only values contradict each other. Nobody gives what a person once decided for.
    sides: list[list[str]] = []
    #: While contradicted: the fields that can contradict each other, besides the value.
    contradict_on: list[str] = []
    #: The rule that has decided between several values.
    policy: str = ""
    #: Of a typed finding: the fields, merged, where they are not simply those of one statement.
    fields: dict[str, Any] | UnsetType = UNSET
    #: The column by which the rows of a table are told apart.
    key: str = ""
    #: For a place in a document: there are statements about places inside it.
    inner: bool = False


#: Tells whether an agent's statement of an incarnation and a log number still counts.
Counts = Callable[[int, int], bool]


def add(part: Part, agent: str, statement: Statement) -> bool:
    """Add a statement to a part; return whether anything changed."""
    is_first = False
    if not statement.withdrawn:
        first = FirstStatement(statement.log, statement.ms, agent, statement.at)
        is_first = part.first is None or first < part.first
        if is_first:
            part.first = first
    kept = keep(part.said.get(agent, []), statement)
    if kept is not None:
        part.said[agent] = kept
    return is_first or kept is not None


def keep(said: list[Statement], new: Statement) -> list[Statement] | None:
    """Return the statements to keep after one more, the last first; None if nothing changes."""
    same = [one for one in said if one.incarnation == new.incarnation]
    if any(one.log == new.log for one in same):
        return None
    same.append(new)
    same.sort(key=lambda one: one.log, reverse=True)
    values = [one for one in same if not one.withdrawn][:VALUES_KEPT]
    # Later statements inherit from the last one that says what it supersedes.
    heir = next((one for one in same if one.supersedes or one.supersedes_none), None)
    before: list[Statement] = []
    if same[0].since:
        # The next incarnation may go on from one of the last checkpoints.
        last = {one.since: one for one in reversed(same)}
        before = [last[since] for since in sorted(last, reverse=True)[: 1 + CHECKPOINTS_KEPT_MAX]]
    kept = [one for one in same if one is same[0] or one is heir or one in values or one in before]
    if new not in kept:
        return None
    others = [one for one in said if one.incarnation != new.incarnation]
    if not others:
        return kept
    kept += others
    kept.sort(key=lambda one: (one.incarnation, one.log), reverse=True)
    incarnations = sorted({one.incarnation for one in kept}, reverse=True)
    if len(incarnations) > INCARNATIONS_KEPT_MAX:
        lowest = incarnations[INCARNATIONS_KEPT_MAX - 1]
        kept = [one for one in kept if one.incarnation >= lowest]
        if new.incarnation < lowest:
            return None
    return kept


def last_values(said: list[Statement]) -> dict[tuple[int, int], Statement]:
    """Return the last statement with a value of each incarnation, up to each checkpoint."""
    found: dict[tuple[int, int], Statement] = {}
    for one in said:
        if not one.withdrawn:
            found.setdefault((one.incarnation, one.since), one)
    return found


def set_standing(part: Part, agent: str, counts: Counts, whole: int = 0) -> None:
    """Find an agent's current statement; mark the others as stale, replaced or withdrawn.

    `whole` is the log number of a result that omits whatever the agent said before it.
    """
    latest: Statement | None = None
    for one in part.said[agent]:
        if not counts(one.incarnation, one.log):
            one.standing = Standing.STALE
        elif latest is not None:
            one.standing = Standing.REPLACED
        else:
            latest = one
            if one.withdrawn:
                one.standing = Standing.WITHDRAWN
            else:
                one.standing = Standing.OMITTED if one.log < whole else Standing.HOLDS


def current(part: Part) -> dict[str, Statement]:
    """Return each agent's current statement, sorted by agent."""
    found = {}
    for agent in sorted(part.said):
        for one in part.said[agent]:
            if one.standing in SAID:
                found[agent] = one
                break
    return found


def is_silent(statement: Statement) -> bool:
    """Whether a typed finding has no value: it says what and where, and contradicts none."""
    return statement.fields is not UNSET and statement.value == _NULL


def claim_of(statement: Statement, contradict_on: Sequence[str]) -> Raw | None:
    """Return what can contradict others in a statement that is no withdrawal; None if nothing can.

    It is the value, or with `contradict_on` a map of the value and these fields.
    """
    value = statement.value
    if not contradict_on:
        return value if isinstance(value, Raw) and not is_silent(statement) else None
    fields = statement.fields if isinstance(statement.fields, dict) else {}
    claim = {name: fields[name] for name in contradict_on if name in fields}
    if isinstance(value, Raw) and not is_silent(statement):
        claim["value"] = _decode(value)
    return Raw(canonical(claim)) if claim else None


def superseding(said: list[Statement], statement: Statement) -> Statement | None:
    """Return the statement that says what an agent's current one supersedes: itself or an heir's.

    An agent's later statements supersede what its earlier ones did, until one says otherwise.
    """
    for one in said:
        is_earlier = one.incarnation == statement.incarnation and one.log <= statement.log
        if is_earlier and (one.supersedes or one.supersedes_none):
            return one
    return None


def edges(part: Part, *, inherits: bool = True) -> dict[tuple[str, str], int]:
    """Return the edges from a finding to those it supersedes: (key, agent) → log number.

    An inherited edge is as old as the statement that names its keys.
    """
    found: dict[tuple[str, str], int] = {}
    for agent, statement in current(part).items():
        of = superseding(part.said[agent], statement) if inherits else statement
        for target in of.supersedes if of is not None else ():
            found[target, agent] = of.log if of is not None else 0
    return found


def put_edge(part: Part, key: str, agent: str, log: int | None) -> None:
    """Replace the edge that leads from a finding to this part; None removes it."""
    kept = [edge for edge in part.superseded_by if (edge.key, edge.agent) != (key, agent)]
    if log is not None:
        kept.append(Edge(key, agent, log))
        if len(kept) > EDGES_KEPT_MAX:
            kept.remove(min(kept, key=lambda edge: (edge.log, edge.key, edge.agent)))
        kept.sort()
    part.superseded_by = kept


def expand(part: Part) -> None:
    """Give every statement its value, before the part changes: the opposite of `compact`."""
    for said in part.said.values():
        for one in said:
            if one.value is UNSET and not one.withdrawn:
                one.value = part.value


def compact(part: Part) -> None:
    """Leave the value out of every statement that has the value of the whole part."""
    if part.value is UNSET:
        return
    for said in part.said.values():
        for one in said:
            if one.value == part.value:
                one.value = UNSET


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
    """What a refiner made of a synthesis, and of which revision; see `signal.Refined`."""

    value: Raw
    log: int
    ms: int
    revision: int = 0
    markdown: bool = False


class Sweep(Struct, omit_defaults=True):
    """A pass over those of an agent's parts that must be merged anew, given by name prefixes.

    The pass is at the first prefix; it takes the names in order and has come as far as `after`.
    """

    within: list[str] = []
    after: str = ""


def contradiction_of(part: Part) -> ContradictionRecord:
    """Return the values of a contradicted part, one list of statements for each side."""
    values: dict[bytes, list[RivalStatement]] = {}
    # No value's JSON begins like this.
    side_of = {agent: b"#%d" % side for side, names in enumerate(part.sides) for agent in names}
    for agent, one in current(part).items():
        if one.standing is not Standing.HOLDS or (part.sides and agent not in side_of):
            continue
        claim = claim_of(one, part.contradict_on)
        if claim is not None:
            rival = RivalStatement(agent, one.log, claim, one.confidence, one.evidence)
            values.setdefault(side_of.get(agent, bytes(claim)), []).append(rival)
    for rivals in values.values():
        rivals.sort(key=lambda one: one.log)
    verdict = part.verdict
    is_candidate = not part.sides or [] in part.sides
    if verdict is not None and isinstance(verdict.value, Raw) and is_candidate:
        # A value that a person decided for earlier is a candidate even if no agent gives it.
        decided = RivalStatement(verdict.by, verdict.log, verdict.value)
        values.setdefault(bytes(verdict.value), [decided])
    return ContradictionRecord(sorted(values.values(), key=lambda rivals: rivals[0].log))


#: The value of a field of the hash; None for a field that is known not to exist.
Record = (
    Part | Contributor | ContradictionRecord | RefinementRecord | Sweep | Roster | Relations | None
)


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
    #: The rules that it is merged by, as stored; empty if it began before they were.
    rules: bytes = b""
    #: Whether an agent's statement inherits what its earlier ones supersede.
    inherits: bool = True
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

    def begin_run(self) -> None:
        """Forget everything of the run before, but the number of its last revision."""
        self.records.clear()
        self.complete = Complete()
        self.end_batch()
        self.ms = 0

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
