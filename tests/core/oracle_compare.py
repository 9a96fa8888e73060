"""Whether values contradict each other, and which holds: what the docs say, value by value.

Naive on purpose: each value becomes a text, by the shortest way, and texts are compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.core.findings import Rules

#: The value of a typed finding that gives none.
SILENT = "\0silent"


class Terms(NamedTuple):
    """How a part's values are compared, and what decides between them."""

    compare: str = ""
    tolerance: float = 0
    policy: str = "ask"
    contradict_on: tuple[str, ...] = ()


class Claim(NamedTuple):
    """What one agent claims."""

    agent: str
    log: int
    confidence: float
    value: Any
    fields: Mapping[str, Any]


def terms_of(part: str, claims: list[Claim], rules: Rules) -> Terms:
    section, _, name = part.partition(":")
    token = name.replace("~", "~0").replace("/", "~1")
    pointer = f"/findings/{token}" if section == "findings" else name
    on = tuple(rules.contradict_on) if section == "findings" else ()
    terms = Terms(contradict_on=on)
    for merge in rules.merges:
        wanted, tokens = merge.path.split("/"), pointer.split("/")
        if len(wanted) == len(tokens) and all(
            one == other or (one == "*" and other)
            for one, other in zip(wanted, tokens, strict=True)
        ):
            terms = Terms(merge.compare.value, merge.tolerance, merge.policy.value, on)
            break
    if not terms.compare and section == "findings" and any("path" in one.fields for one in claims):
        return terms._replace(compare="prose")
    return terms


def loose(value: Any) -> str:
    if isinstance(value, bool):
        return f"bool {value}".lower()
    if isinstance(value, int | float):
        return f"number {float(value)!r}"
    if isinstance(value, str):
        folded = " ".join(value.lower().split())
        if folded in ("true", "false"):
            return f"bool {folded}"
        try:
            number = json.loads(folded)
        except ValueError:
            number = None
        is_number = isinstance(number, int | float) and json.dumps(number) == folded
        return loose(number) if is_number else f"text {folded}"
    if isinstance(value, list):
        return f"list {sorted(map(loose, value))}"
    if isinstance(value, dict):
        return f"map {sorted((name, loose(one)) for name, one in value.items())}"
    return "null"


#: What the histories have in quantities: their amount and unit.
AMOUNTS = {"1 s": (1.0, "time"), "1000 ms": (1.0, "time"), "1.1 s": (1.1, "time")}
AMOUNTS |= {"1": (1.0, ""), " 1 ": (1.0, ""), "1.2": (1.2, "")}


def amount(value: Any, compare: str) -> tuple[float, str] | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value), ""
    found = AMOUNTS.get(value) if isinstance(value, str) else None
    return found if found is not None and (compare == "quantity" or not found[1]) else None


def sides(values: dict[str, Any], terms: Terms) -> dict[str, Any]:
    """Return for each agent the side that its value is on."""
    found: dict[str, Any] = {}
    amounts: dict[str, list[tuple[float, str]]] = {}
    for agent, value in values.items():
        given = amount(value, terms.compare) if terms.compare in ("number", "quantity") else None
        if given is not None:
            amounts.setdefault(given[1], []).append((given[0], agent))
        elif terms.compare == "exact":
            found[agent] = json.dumps(whole(value), sort_keys=True)
        elif terms.compare == "set":
            items = value if isinstance(value, list) else [value]
            found[agent] = str(sorted({loose(item) for item in items}))
        elif terms.compare == "text":
            shown = value if isinstance(value, str) else json.dumps(whole(value), sort_keys=True)
            found[agent] = " ".join(shown.replace(", ", ",").replace(": ", ":").lower().split())
        else:
            left = without_remarks(value) if terms.compare == "prose" else value
            found[agent] = loose(value if left is GONE or isinstance(value, str) else left)
    for unit, measured in amounts.items():
        start: float | None = None
        for one, agent in sorted(measured):
            share = terms.tolerance * (abs(one) if terms.compare == "quantity" else 1)
            if start is None or one - start > share + 1e-12:
                start = one
            found[agent] = (unit, start)
    return found


def whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(one) for one in value]
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return value


def is_same(one: Any, other: Any, terms: Terms) -> bool:
    found = sides({"one": one, "other": other}, terms)
    return bool(found["one"] == found["other"])


def members(claim: Claim, terms: Terms) -> dict[str, Any]:
    """Return what a claim says that can contradict another one."""
    found = {name: one for name, one in claim.fields.items() if name in terms.contradict_on}
    said = claim.value if terms.compare != "prose" else without_remarks(claim.value)
    if claim.value != SILENT and said is not GONE:
        found["value"] = claim.value
    return found


#: Nothing but remarks.
GONE = object()


def without_remarks(value: Any) -> Any:
    if isinstance(value, str) and len(value.split()) > 1 and value != SILENT:
        return GONE
    if isinstance(value, list) and value:
        left = [one for one in map(without_remarks, value) if one is not GONE]
        return left or GONE
    if isinstance(value, dict) and value:
        inner = {name: without_remarks(one) for name, one in value.items()}
        return {name: one for name, one in inner.items() if one is not GONE} or GONE
    return value


def camps(claims: list[Claim], terms: Terms) -> list[list[Claim]]:
    """Return the claims by what they say; one that says nothing is in none."""
    saying = {one.agent: members(one, terms) for one in claims}
    surest = sorted(claims, key=lambda one: (-one.confidence, one.log))
    names = ["value", *terms.contradict_on]
    marks: dict[str, list[Any]] = {one.agent: [] for one in claims if saying[one.agent]}
    for name in names:
        given = {one.agent: saying[one.agent][name] for one in surest if name in saying[one.agent]}
        found = sides(given, terms)
        for agent, mark in marks.items():
            mark.append(found.get(agent, found[next(iter(given))] if given else None))
    made: dict[str, list[Claim]] = {}
    for one in sorted(claims, key=lambda one: one.log):
        if one.agent in marks:
            made.setdefault(repr(marks[one.agent]), []).append(one)
    return list(made.values())


def first(claims: list[Claim]) -> Claim:
    return min(claims, key=lambda one: (-one.confidence, one.log))


DATES = {"2026-01-02": 2, "3 Jan 2026": 3}


def winner(found: list[list[Claim]], policy: str) -> list[Claim] | None:
    ranks: list[float]
    if policy == "ask":
        return None
    if policy == "majority":
        ranks = [len(camp) for camp in found]
    elif policy == "surest":
        ranks = [max(one.confidence for one in camp) for camp in found]
    else:
        dates = [
            [DATES.get(one.fields.get("data", {}).get("date"), 0) for one in camp] for camp in found
        ]
        is_dated = all(any(camp) for camp in dates)
        ranks = [max(camp) for camp in dates]
        if not is_dated:
            ranks = [max(one.log for one in camp) for camp in found]
    best = [camp for camp, rank in zip(found, ranks, strict=True) if rank == max(ranks)]
    return best[0] if len(best) == 1 else None
