"""Merges the statements about a part: which value holds, and the standing of each statement.

Each part that a batch touches is merged once. The outcome follows from the kept statements, the
edges that lead to the part, and the last decision, never from the order in which they arrived.

Supersession. A finding that names a key in `supersedes` makes an edge to that key; it makes no
difference whether the edge or the finding it leads to comes first. A finding that itself supersedes
something yields only to a later one. So of two findings that supersede each other the later one
holds, and a ring of them always leaves one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from fabric.core.contradiction import digest
from fabric.core.synthesis import reducer
from fabric.core.synthesis.part import Edge, Part, Standing, State, Statement, canonical, current
from fabric.core.synthesis.reducer import Reducer

#: Characters of a reducer's error that are kept.
ERROR_CHARS_MAX = 200

_decode = msgspec.json.Decoder().decode


def merge_finding(part: Part, key: str) -> None:
    """Find the value of a finding that holds, and the standing of every statement."""
    holding: dict[str, Statement] = {}
    statements = current(part)
    against = part.superseded_by
    if part.verdict is not None:
        # The person who decided knew the earlier findings.
        against = [edge for edge in against if edge.log > part.verdict.log]
    for agent, statement in statements.items():
        if any(_yields(statement, agent, key, edge) for edge in against):
            statement.standing = Standing.SUPERSEDED
        else:
            statement.standing = Standing.HOLDS
            holding[agent] = statement
    part.value = UNSET
    is_superseded = bool(statements) and not holding
    if part.verdict is not None and part.said and not is_superseded:
        _apply_verdict(part, holding)
    elif holding:
        _compare(part, holding)
    else:
        part.state = State.SUPERSEDED if is_superseded else State.WITHDRAWN


def place_values(part: Part) -> dict[str, Any]:
    """Return each agent's value at a place of a document; null withdraws a value."""
    found = {}
    for agent, statement in current(part).items():
        assert isinstance(statement.value, Raw)
        value = _decode(statement.value)
        if value is None:
            statement.standing = Standing.WITHDRAWN
        else:
            found[agent] = value
    return found


def merge_place(
    part: Part, given: Mapping[str, Any], name: str, reducers: Mapping[str, Reducer]
) -> None:
    """Make one value of those that agents give at a place, with the reducer of this name."""
    part.value, part.error, part.reducer = UNSET, "", name
    if name == reducer.AGREE:
        merge_finding(part, "")
    elif not given:
        part.state = State.WITHDRAWN
    elif name == reducer.LAST:
        part.state = State.REDUCED
        part.value = max(current(part).values(), key=lambda statement: statement.log).value
    elif name == reducer.BY_SOURCE:
        part.state = State.BY_SOURCE
    else:
        _reduce(part, list(given.values()), name, reducers)


def merge_item(part: Part) -> None:
    """Find out whether an item of a list is there: it is while an agent says so."""
    if part.value is UNSET:
        given = (one for said in part.said.values() for one in said if not one.withdrawn)
        part.value = next(given).value
    part.state = State.AGREED if current(part) else State.WITHDRAWN


def _yields(statement: Statement, agent: str, key: str, edge: Edge) -> bool:
    """Whether a finding gives way to one that supersedes its key."""
    if edge.key == key and edge.agent == agent:
        return False
    return not statement.supersedes or edge.log > statement.log


def _compare(part: Part, holding: Mapping[str, Statement]) -> None:
    values = {bytes(one.value) for one in holding.values() if one.value is not UNSET}
    if len(values) == 1:
        part.state = State.AGREED
        part.value = Raw(values.pop())
    else:
        part.state = State.CONTRADICTED


def _apply_verdict(part: Part, holding: Mapping[str, Statement]) -> None:
    """Let the decided value hold; only a value the person has not seen contradicts it anew."""
    verdict, is_new = part.verdict, False
    assert verdict is not None
    for statement in holding.values():
        assert statement.value is not UNSET
        name = digest(statement.value)
        if name in verdict.rejected:
            statement.standing = Standing.REJECTED
        elif name != verdict.chosen:
            is_new = True
    if verdict.value is UNSET:
        verdict.value = _chosen(part, verdict.chosen)
    part.state = State.CONTRADICTED if is_new else State.DECIDED
    if not is_new:
        part.value = verdict.value


def _chosen(part: Part, chosen: str) -> Raw | UnsetType:
    """Find the value with the digest that a person has chosen among all kept statements."""
    for agent in sorted(part.said):
        for one in part.said[agent]:
            if isinstance(one.value, Raw) and digest(one.value) == chosen:
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
    except Exception as error:  # a reducer may be anybody's code: its failure must stop nothing
        part.state = State.FAILED
        part.error = f"{name} failed: {type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
