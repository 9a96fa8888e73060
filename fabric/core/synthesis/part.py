"""One part of a synthesis, a finding or one place of a document, with every agent's statements.

A synthesis is stored in parts, a record each, so that one more partial result costs the same no
matter how large the synthesis is. What holds in a part is decided in `merge.py`.

The order in which results arrive leaves no trace. Of each incarnation of an agent, a part keeps at
most three statements: the last one, and the last two with a value. Log numbers alone decide which
these are, so the same set of statements leaves the same ones in any order, however often they come.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

#: Statements with a value that are kept of one incarnation: the last, and the one before.
VALUES_KEPT = 2

#: Incarnations of one agent whose statements about one part are kept, the highest ones.
INCARNATIONS_KEPT_MAX = 16

#: Edges kept at the key that they supersede, the latest ones. If all of these are withdrawn,
#: earlier ones no longer count.
EDGES_KEPT_MAX = 100

#: Beyond this, JSON readers disagree about a whole number.
WHOLE_MAX = 2**53

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class Standing(StrEnum):
    """Whether a statement still holds, and if not, why."""

    HOLDS = "holds"
    #: Another finding supersedes it.
    SUPERSEDED = "superseded"
    #: A person has decided for another value.
    REJECTED = "rejected"
    #: The agent has made a later statement.
    REPLACED = "replaced"
    #: The agent has withdrawn it.
    WITHDRAWN = "withdrawn"
    #: Its incarnation has died, and the next one has not confirmed it.
    STALE = "stale"


#: The agent still says so, even if another value holds.
SAID = frozenset({Standing.HOLDS, Standing.SUPERSEDED, Standing.REJECTED})


class State(StrEnum):
    """What is known of a part."""

    #: All agents that speak of it give the same value.
    AGREED = "agreed"
    #: Agents give different values: open until one gives way or a person decides.
    CONTRADICTED = "contradicted"
    #: A person has decided.
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
    withdrawn: bool = False


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


class FirstStatement(Struct, frozen=True, order=True, gc=False):
    """The first statement about a part, by log number: when, and by which agent."""

    log: int
    ms: int
    agent: str


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
    #: For a place in a document: there are statements about places inside it.
    inner: bool = False


#: Tells whether an agent's statements of an incarnation still count.
Counts = Callable[[int], bool]


def add(part: Part, agent: str, statement: Statement) -> bool:
    """Add a statement to a part; return whether anything changed."""
    is_first = False
    if not statement.withdrawn:
        first = FirstStatement(statement.log, statement.ms, agent)
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
    kept = [one for one in same if one is same[0] or one in values]
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


def last_values(said: list[Statement]) -> dict[int, Statement]:
    """Return the last statement with a value of each incarnation."""
    found: dict[int, Statement] = {}
    for one in said:
        if not one.withdrawn:
            found.setdefault(one.incarnation, one)
    return found


def set_standing(part: Part, agent: str, counts: Counts) -> None:
    """Find an agent's current statement; mark the others as stale, replaced or withdrawn."""
    latest: Statement | None = None
    for one in part.said[agent]:
        if not counts(one.incarnation):
            one.standing = Standing.STALE
        elif latest is not None:
            one.standing = Standing.REPLACED
        else:
            latest = one
            one.standing = Standing.WITHDRAWN if one.withdrawn else Standing.HOLDS


def current(part: Part) -> dict[str, Statement]:
    """Return each agent's current statement, sorted by agent."""
    found = {}
    for agent in sorted(part.said):
        for one in part.said[agent]:
            if one.standing in SAID:
                found[agent] = one
                break
    return found


def edges(part: Part) -> dict[tuple[str, str], int]:
    """Return the edges from a finding to those it supersedes: (key, agent) → log number."""
    return {
        (target, agent): statement.log
        for agent, statement in current(part).items()
        for target in statement.supersedes
    }


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


def canonical(value: Any) -> bytes:
    """Return a value as JSON, the same bytes for the same value: 1.0 is 1, members are sorted."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return _encode(value)
    return _encode(_normal(value))


def canonical_raw(raw: Raw) -> Raw:
    """Return JSON in its canonical form."""
    return Raw(canonical(_decode(raw)))


def _normal(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < WHOLE_MAX else value
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {name: _normal(item) for name, item in value.items()}
    return value
