"""What comes of all that was said of a part: judged once for all that a batch brings.

It follows from what is kept of the statements, from the edges that lead here and from the last
decision, never from the order in which they came.

Supersession. A finding that names a key in `supersedes` makes an edge to it. Whether the edge or
the finding at its end is there first is the same. A finding that itself supersedes something
yields only to a later one: so of two that supersede each other the later one holds, and no ring of
them leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from fabric.core.contradiction import digest
from fabric.core.synthesis import reducer
from fabric.core.synthesis.part import (
    Edge,
    Part,
    Standing,
    State,
    Statement,
    Verdict,
    canonical,
    words,
)
from fabric.core.synthesis.reducer import Reducer

#: Characters of a reducer's complaint that are kept.
ERROR_CHARS_MAX = 200

_decode = msgspec.json.Decoder().decode


def judge_finding(part: Part, key: str) -> None:
    """Settle what holds of a finding, and what becomes of every statement."""
    holding: dict[str, Statement] = {}
    spoken = words(part)
    against = part.superseded_by
    if part.verdict is not None:
        # Whoever has decided knew of the earlier ones.
        against = [edge for edge in against if edge.log > part.verdict.log]
    for agent, word in spoken.items():
        if any(_yields(word, agent, key, edge) for edge in against):
            word.standing = Standing.SUPERSEDED
        else:
            word.standing = Standing.HOLDS
            holding[agent] = word
    part.value = UNSET
    is_superseded = bool(spoken) and not holding
    if part.verdict is not None and part.said and not is_superseded:
        _obey(part, part.verdict, holding)
    elif holding:
        _compare(part, holding)
    else:
        part.state = State.SUPERSEDED if is_superseded else State.WITHDRAWN


def values(part: Part) -> dict[str, Any]:
    """Return the value that each agent gives at a place of a document; null is none."""
    found = {}
    for agent, word in words(part).items():
        assert isinstance(word.value, Raw)
        value = _decode(word.value)
        if value is None:
            word.standing = Standing.WITHDRAWN
        else:
            found[agent] = value
    return found


def judge_place(
    part: Part, given: Mapping[str, Any], name: str, reducers: Mapping[str, Reducer]
) -> None:
    """Make one value of those that agents give at a place; `name` is its reducer's."""
    part.value, part.error, part.reducer = UNSET, "", name
    if name == reducer.AGREE:
        judge_finding(part, "")
    elif not given:
        part.state = State.WITHDRAWN
    elif name == reducer.LAST:
        part.state = State.REDUCED
        part.value = max(words(part).values(), key=lambda word: word.log).value
    elif name == reducer.BY_SOURCE:
        part.state = State.BY_SOURCE
    else:
        _reduce(part, list(given.values()), name, reducers)


def judge_item(part: Part) -> None:
    """Settle whether an item of a list is there: it is while somebody says so."""
    if part.value is UNSET:
        given = (one for said in part.said.values() for one in said if not one.withdrawn)
        part.value = next(given).value
    part.state = State.AGREED if words(part) else State.WITHDRAWN


def _yields(word: Statement, agent: str, key: str, edge: Edge) -> bool:
    """Whether a finding gives way to one that supersedes its key."""
    if edge.key == key and edge.agent == agent:
        return False
    return not word.supersedes or edge.log > word.log


def _compare(part: Part, holding: Mapping[str, Statement]) -> None:
    values = {bytes(word.value) for word in holding.values() if word.value is not UNSET}
    if len(values) == 1:
        part.state = State.AGREED
        part.value = Raw(values.pop())
    else:
        part.state = State.CONTRADICTED


def _obey(part: Part, verdict: Verdict, holding: Mapping[str, Statement]) -> None:
    """A person has decided: only a value that he has not seen is another contradiction."""
    is_news = False
    for word in holding.values():
        assert word.value is not UNSET
        mark = digest(word.value)
        if mark in verdict.rejected:
            word.standing = Standing.REJECTED
        elif mark != verdict.chosen:
            is_news = True
    if verdict.value is UNSET:
        verdict.value = _chosen(part, verdict.chosen)
    part.state = State.CONTRADICTED if is_news else State.DECIDED
    if not is_news:
        part.value = verdict.value


def _chosen(part: Part, mark: str) -> Raw | UnsetType:
    """Look for the value that a person has chosen, in all that is kept of what was said."""
    for agent in sorted(part.said):
        for one in part.said[agent]:
            if isinstance(one.value, Raw) and digest(one.value) == mark:
                return one.value
    return UNSET


def _reduce(part: Part, given: Sequence[Any], name: str, reducers: Mapping[str, Reducer]) -> None:
    numbers = reducer.NUMBERS.get(name)
    if numbers is not None and not all(map(reducer.is_number, given)):
        part.state = State.BY_SOURCE
        return
    reduce = numbers or reducers.get(name)
    if reduce is None:
        part.state, part.error = State.FAILED, f"no reducer {name} is installed here"
        return
    try:
        part.value = Raw(canonical(reduce(given)))
        part.state = State.REDUCED
    except Exception as error:  # it may be anybody's code: its failure is shown, and stops nothing
        part.state = State.FAILED
        part.error = f"{name} failed: {type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
