"""One part of a synthesis: a finding, or one place of a document, with all that was said of it.

A synthesis is kept in parts, each a record of its own, so that one partial result more costs the
same however much there is. What comes of what is kept here is judged in `judgement.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.synthesis.statement import SAID, Standing, Statement, keep

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
