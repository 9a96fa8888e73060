"""What agents have said about one thing, so kept that the order of arrival leaves no trace.

Of each incarnation of an agent three statements at most are kept: the last one it made, and the
last two that gave a value. Which these are follows from the statements' log numbers alone: the
same set of statements leaves the same ones, in whatever order and however often they come.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

#: Statements with a value that are kept of one incarnation: the last, and the one before.
VALUES_KEPT = 2

#: Incarnations of one agent whose statements about one thing are kept, the highest ones.
INCARNATIONS_KEPT_MAX = 16

#: Beyond this, a whole number is not the same in every reader of JSON.
WHOLE_MAX = 2**53

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class Standing(StrEnum):
    """What became of a statement."""

    HOLDS = "holds"
    #: A finding that another one supersedes.
    SUPERSEDED = "superseded"
    #: A person has decided for another value.
    REJECTED = "rejected"
    #: The agent has said something else since.
    REPLACED = "replaced"
    #: The agent has taken it back.
    WITHDRAWN = "withdrawn"
    #: Of an incarnation that has died, and that the next one has not confirmed.
    STALE = "stale"


#: The agent still says so, whatever others make of it.
SAID = frozenset({Standing.HOLDS, Standing.SUPERSEDED, Standing.REJECTED})


class Statement(Struct, omit_defaults=True, gc=False):
    """One agent's word about one thing; with `withdrawn`, that it says nothing about it any more.

    `log` is the number of the log entry that said it (its id is `<log>-0`), `ms` its time. A value
    is left out where it is the same as that of the whole.
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


def keep(said: list[Statement], new: Statement) -> list[Statement] | None:
    """Return what is kept with one statement more, the last first; None when nothing changes."""
    same = [one for one in said if one.incarnation == new.incarnation]
    if any(one.log == new.log for one in same):
        return None
    same.append(new)
    same.sort(key=_log, reverse=True)
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
    """Return each incarnation's last statement that gave a value."""
    found: dict[int, Statement] = {}
    for one in said:
        if not one.withdrawn:
            found.setdefault(one.incarnation, one)
    return found


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


def _log(statement: Statement) -> int:
    return statement.log


#: Findings that supersede one key and are remembered there, the latest ones. Should all of these be
#: taken back, earlier ones no longer count.
EDGES_KEPT_MAX = 100


class State(StrEnum):
    """What is known of a part."""

    #: All who speak of it say the same, or one does.
    AGREED = "agreed"
    #: Two give different values: a contradiction, open until somebody gives way or decides.
    CONTRADICTED = "contradicted"
    #: A person has decided.
    DECIDED = "decided"
    #: Something else has taken its place.
    SUPERSEDED = "superseded"
    #: Nobody says anything about it any more.
    WITHDRAWN = "withdrawn"
    #: A reducer has made one value of several.
    REDUCED = "reduced"
    #: Each agent's value stands for itself.
    BY_SOURCE = "by_source"
    #: The reducer failed; each agent's value stands for itself.
    FAILED = "failed"


class Edge(Struct, frozen=True, order=True, gc=False):
    """A finding somewhere that supersedes what is said here: its key, its agent, its log number."""

    key: str
    agent: str
    log: int


class Verdict(Struct, omit_defaults=True):
    """What a person has decided: the value that holds, and digests of those that were considered.

    `value` is left out when it was too large to travel with the question; `chosen` is its digest.
    """

    decision: str
    by: str
    log: int
    ms: int
    chosen: str
    rejected: list[str] = []
    value: Raw | UnsetType = UNSET


class Beginning(Struct, frozen=True, order=True, gc=False):
    """Who was the first to speak of a part, by log number, and when."""

    log: int
    ms: int
    agent: str


class Part(Struct, omit_defaults=True, gc=False):
    """What is said of one thing, by agent, the last statement first; and what comes of it."""

    state: State
    value: Raw | UnsetType = UNSET
    said: dict[str, list[Statement]] = {}
    first: Beginning | None = None
    superseded_by: list[Edge] = []
    verdict: Verdict | None = None
    reducer: str = ""
    error: str = ""
    #: Of a place in a document: something was said of a place beneath it.
    inner: bool = False


#: Says whether what an agent has said in an incarnation still counts.
Counts = Callable[[int], bool]


def add(part: Part, agent: str, statement: Statement) -> bool:
    """Keep a statement; False when that changes nothing."""
    is_first = False
    if not statement.withdrawn:
        begun = Beginning(statement.log, statement.ms, agent)
        is_first = part.first is None or begun < part.first
        if is_first:
            part.first = begun
    kept = keep(part.said.get(agent, []), statement)
    if kept is not None:
        part.said[agent] = kept
    return is_first or kept is not None


def select(part: Part, agent: str, counts: Counts) -> None:
    """Find out which of an agent's statements is its word now."""
    word: Statement | None = None
    for one in part.said[agent]:
        if not counts(one.incarnation):
            one.standing = Standing.STALE
        elif word is not None:
            one.standing = Standing.REPLACED
        else:
            word = one
            one.standing = Standing.WITHDRAWN if one.withdrawn else Standing.HOLDS


def words(part: Part) -> dict[str, Statement]:
    """Return what each agent says now, by agent, sorted."""
    found = {}
    for agent in sorted(part.said):
        for one in part.said[agent]:
            if one.standing in SAID:
                found[agent] = one
                break
    return found


def edges(part: Part) -> dict[tuple[str, str], int]:
    """Return the edges that lead from a finding: (key, agent) → log number of what says so."""
    return {
        (target, agent): word.log
        for agent, word in words(part).items()
        for target in word.supersedes
    }


def lead(part: Part, key: str, agent: str, log: int | None) -> bool:
    """Keep an edge that leads here, in place of the one from there; None takes it away."""
    kept = [edge for edge in part.superseded_by if (edge.key, edge.agent) != (key, agent)]
    if log is not None:
        kept.append(Edge(key, agent, log))
        if len(kept) > EDGES_KEPT_MAX:
            kept.remove(min(kept, key=lambda edge: (edge.log, edge.key, edge.agent)))
        kept.sort()
    changed = kept != part.superseded_by
    part.superseded_by = kept
    return changed


def spread(part: Part) -> None:
    """Give every statement its value, before a part is judged anew."""
    for said in part.said.values():
        for one in said:
            if one.value is UNSET and not one.withdrawn:
                one.value = part.value


def gather(part: Part) -> None:
    """Leave the value out of statements that have that of the whole."""
    if part.value is UNSET:
        return
    for said in part.said.values():
        for one in said:
            if one.value == part.value:
                one.value = UNSET
