"""Which value holds where agents give several: sides, a person's verdict, a rule's policy.

Statements whose values are the same by the comparison of their place are one side. With two sides
or more a part is contradicted, unless the rules name a policy that decides: then the part says
which, and the statements that lost are overruled. A person's verdict goes before any policy. Of
several spellings of one value, that of the surest agent is shown, of two as sure the earlier one.

A statement's *claim* is what can contradict another's: its value; with `contradict_on` a map of the
value and these fields, of which each counts where both give it. A typed finding without a value
claims none, and where texts of several words are remarks, such a text is no claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from fabric.core.contradiction import digest
from fabric.core.policy import ContradictionPolicy as Policy
from fabric.core.synthesis import compare, typed
from fabric.core.synthesis.canonical import canonical
from fabric.core.synthesis.compare import Agreement
from fabric.core.synthesis.state import Part, Standing, State, Statement, Verdict, claim_of

#: The member of a claim that is the value, beside the fields of `contradict_on`.
VALUE: Final = "value"

#: Where the date of a finding's source is kept: no field of its own, so it is in `data`.
DATE: Final = "date"

_decode = msgspec.json.Decoder().decode


def settle(part: Part, holding: Mapping[str, Statement], agreement: Agreement) -> None:
    """Find the value of a part that holds, given the statements that nothing supersedes."""
    on = agreement.contradict_on
    claims = {
        agent: claim
        for agent, one in holding.items()
        if (claim := claim_of(one, on)) is not None and _members(claim, agreement)
    }
    is_exact = len(claims) == len(holding)
    if part.verdict is not None:
        is_open = _apply_verdict(part, part.verdict, holding, claims, agreement)
        is_holding = Standing.HOLDS
        claims = {one: claims[one] for one in claims if holding[one].standing is is_holding}
        sides = _sides(holding, claims, agreement) if is_open else []
        chosen = [one for one in claims.values() if _agrees(one, part.verdict.value, agreement)]
        is_exact = is_exact and all(one == part.verdict.value for one in chosen)
        if not chosen and part.verdict.value is not UNSET:
            # What was decided for is a candidate, even if no agent gives it.
            sides.append([])
    else:
        sides = _sides(holding, claims, agreement)
        is_open = len(sides) > 1
    if not is_open:
        if part.verdict is None:
            part.state = State.AGREED
            part.value = _value_of(holding, sorted(claims) or sorted(holding))
        return
    winner = -1 if part.verdict is not None else _winner(sides, holding, agreement.policy)
    if winner >= 0:
        part.state, part.policy = State.DECIDED, agreement.policy.value
        part.value = _value_of(holding, sides[winner])
        for agent in claims:
            if agent not in sides[winner]:
                holding[agent].standing = Standing.OVERRULED
        return
    part.state, part.contradict_on = State.CONTRADICTED, list(on)
    claimed: list[set[bytes]] = [{bytes(claims[agent]) for agent in side} for side in sides]
    is_exact = is_exact and all(len(one) <= 1 for one in claimed)
    part.sides = [] if is_exact and not on else sides


def claimed_value(claim: Raw) -> Raw:
    """Return the value of a claim that has fields too; null if it has none."""
    found = _decode(claim)
    return Raw(canonical(found.get(VALUE))) if isinstance(found, dict) else claim


def chosen_fields(part: Part, agreement: Agreement) -> dict[str, Any]:
    """Return the fields of a typed finding that a person has decided for."""
    verdict = part.verdict
    if verdict is None or part.state is not State.DECIDED or not isinstance(verdict.value, Raw):
        return {}
    if not agreement.contradict_on:
        return {}
    claim = _members(verdict.value, agreement)
    return {name: _decode(one) for name, one in claim.items() if name != VALUE}


def _value_of(holding: Mapping[str, Statement], agents: Sequence[str]) -> Raw:
    """Return the value of the surest of some agents, of two as sure the one that said it first."""
    given = [holding[agent] for agent in agents]
    first = min(given, key=lambda one: (-typed.confidence_of(one.confidence), one.log))
    assert isinstance(first.value, Raw)
    return first.value


def _sides(
    holding: Mapping[str, Statement], claims: Mapping[str, Raw], agreement: Agreement
) -> list[list[str]]:
    """Return the agents of each side, in the order in which the sides were first taken."""
    by_claim: dict[Any, list[str]] = {}
    number_of = _numbers(holding, claims, agreement)
    for agent in sorted(claims, key=lambda agent: holding[agent].log):
        by_claim.setdefault(number_of[agent], []).append(agent)
    return list(by_claim.values())


def _numbers(
    holding: Mapping[str, Statement], claims: Mapping[str, Raw], agreement: Agreement
) -> Mapping[str, Any]:
    """Return something for each agent that is equal for agents on the same side."""
    on = agreement.contradict_on
    if not on:
        found = compare.sides(list(claims.values()), agreement)
        return {agent: found[bytes(claim)] for agent, claim in claims.items()}
    members = {agent: _members(claim, agreement) for agent, claim in claims.items()}
    numbers: dict[str, list[int]] = {agent: [] for agent in claims}
    surest = sorted(
        claims,
        key=lambda agent: (-typed.confidence_of(holding[agent].confidence), holding[agent].log),
    )
    for name in (VALUE, *on):
        given = {agent: one[name] for agent, one in members.items() if name in one}
        found = compare.sides(list(given.values()), agreement)
        # An agent that does not give this one is on the side of the surest that does.
        default = next((found[bytes(given[agent])] for agent in surest if agent in given), 0)
        for agent, own in numbers.items():
            own.append(found[bytes(given[agent])] if agent in given else default)
    return {agent: tuple(own) for agent, own in numbers.items()}


def _members(claim: Raw, agreement: Agreement) -> dict[str, Raw]:
    """Return what counts of a claim: its value, unless that is a remark, and each field."""
    found = _decode(claim) if agreement.contradict_on else None
    if isinstance(found, dict):
        members = {name: Raw(canonical(value)) for name, value in found.items()}
    else:
        members = {VALUE: claim}
    if VALUE in members and compare.is_remark(members[VALUE], agreement):
        del members[VALUE]
    return members


def _winner(sides: list[list[str]], holding: Mapping[str, Statement], policy: Policy) -> int:
    """Return which side holds by a policy; -1 if the policy is to ask, or does not decide."""
    if policy is Policy.ASK:
        return -1
    if policy is Policy.NEWEST_SOURCE:
        dates = [[_date_of(holding[agent]) for agent in side] for side in sides]
        is_dated = all(any(one is not None for one in side) for side in dates)
        ranks: list[Any] = (
            [max(one for one in side if one is not None) for side in dates]
            if is_dated
            else [max(holding[agent].log for agent in side) for side in sides]
        )
    elif policy is Policy.SUREST:
        sure = typed.confidence_of
        ranks = [max(sure(holding[agent].confidence) for agent in side) for side in sides]
    else:
        ranks = [len(side) for side in sides]
    best = max(ranks)
    return ranks.index(best) if ranks.count(best) == 1 else -1


def _date_of(statement: Statement) -> Any:
    fields = statement.fields
    data = fields.get(typed.DATA, {}) if isinstance(fields, dict) else {}
    return compare.date_of(data.get(DATE))


def _apply_verdict(
    part: Part,
    verdict: Verdict,
    holding: Mapping[str, Statement],
    claims: Mapping[str, Raw],
    agreement: Agreement,
) -> bool:
    """Let the decided value hold; return whether a value contradicts it that is new to the person.

    Large values are known by their digests only, so that another spelling of one is new.
    """
    is_new = False
    if verdict.value is UNSET:
        # Of all kept statements, the one with the digest that the person has chosen.
        kept = [one for agent in sorted(part.said) for one in part.said[agent]]
        given = [claim_of(one, agreement.contradict_on) for one in kept if not one.withdrawn]
        verdict.value = next((one for one in given if one and digest(one) == verdict.chosen), UNSET)
    for agent, claim in claims.items():
        mark = digest(claim)
        if mark in verdict.rejected:
            holding[agent].standing = Standing.REJECTED
        elif mark == verdict.chosen or _agrees(claim, verdict.value, agreement):
            continue
        elif any(_agrees(claim, other, agreement) for other in verdict.others):
            holding[agent].standing = Standing.REJECTED
        else:
            is_new = True
    if not is_new:
        part.state, value = State.DECIDED, verdict.value
        if agreement.contradict_on and isinstance(value, Raw):
            value = claimed_value(value)
        part.value = value
    return is_new


def _agrees(claim: Raw, other: Raw | msgspec.UnsetType, agreement: Agreement) -> bool:
    """Whether a claim is the same as another one, as far as both say something."""
    if not isinstance(other, Raw):
        return False
    if not agreement.contradict_on:
        return compare.is_same(claim, other, agreement)
    own, theirs = _members(claim, agreement), _members(other, agreement)
    both = own.keys() & theirs.keys()
    return all(compare.is_same(own[name], theirs[name], agreement) for name in both)
