"""What holds of a synthesis, without the book-keeping: what models and refiners are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fabric.core.synthesis.state import Standing, State
from fabric.wire import document
from fabric.wire.document import HELD, Finding, Source
from fabric.wire.same import groups_of


def effective(official: Mapping[str, Any]) -> dict[str, Any]:
    """Return what holds, given the official document.

    `findings` by key, each with its fields, `agents`, `confidence` and `evidence`; contradicted
    ones with `values`. `groups` are the findings that are one thing, by the least key;
    `contradictions` likewise by part, `document` merged, `agents` with status and percent,
    `refined` the values by refiner. Neither times nor log numbers: what is the same now as before
    looks the same.
    """
    found = document.findings(official)
    rivals = official.get("contradictions", {})
    return {
        "session": official.get("session", ""),
        "revision": official.get("revision", 0),
        "complete": official.get("complete", {}),
        "agents": {name: _agent(one) for name, one in official.get("agents", {}).items()},
        "findings": {key: _finding(one) for key, one in found.items() if one.state in HELD},
        "groups": grouped(official, found),
        "contradictions": {part: _rivals(part, rivals[part]) for part in sorted(rivals)},
        "document": document.nested(official.get("document", {}), official.get("items", {})),
        "refined": {name: one["value"] for name, one in official.get("refined", {}).items()},
    }


def grouped(
    official: Mapping[str, Any], found: Mapping[str, Finding] | None = None
) -> dict[str, dict[str, list[str]]]:
    """Return the groups by their least key: the `keys` of each, and the `agents` that say it.

    `found` are the document's findings, where the caller has them already.
    """
    found = document.findings(official) if found is None else found
    return {
        name: {"keys": list(keys), "agents": sorted({*_agents(found[key] for key in keys)})}
        for name, keys in groups_of(official, found).items()
    }


def _agents(findings: Iterable[Finding]) -> Iterator[str]:
    for one in findings:
        yield from (said.agent for said in one.sources if said.standing is Standing.HOLDS)


def _agent(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("status", "percent", "error") if name in record}


def _finding(found: Finding) -> dict[str, Any]:
    holding = [one for one in found.sources if one.standing is Standing.HOLDS]
    shown: dict[str, Any] = {"state": found.state.value, **found.fields}
    if found.value is not None:
        shown["value"] = found.value
    if found.state is State.CONTRADICTED:
        values: list[dict[str, Any]] = []
        for one in holding:
            same = next((known for known in values if known["value"] == one.value), None)
            if same is not None:
                same["agents"].append(one.agent)
            elif one.value is not None:
                values.append({"value": one.value, "agents": [one.agent]})
        shown["values"] = values
    if found.policy:  # and what lost by it
        shown["policy"] = found.policy
        lost = [one for one in found.sources if one.standing is Standing.OVERRULED]
        shown["overruled"] = [{"value": one.value, "agents": [one.agent]} for one in lost]
    message = found.fields.get("message")
    others = {
        one.agent: one.fields["message"]
        for one in sorted(holding, key=lambda one: one.agent)
        if one.fields.get("message", message) != message
    }
    return {**shown, **_common(holding), **({"messages": others} if others else {})}


def _rivals(part: str, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the values of a contradiction, each with its agents."""
    found = document.contradiction(part, record).values
    return [{"value": claims[0].value, **_common(claims)} for claims in found]


def _common(sources: list[Source]) -> dict[str, Any]:
    sure = [one.confidence for one in sources if one.confidence is not None]
    evidence: list[Any] = []
    for one in sources:
        if one.evidence is not None and one.evidence not in evidence:
            evidence.append(one.evidence)
    found: dict[str, Any] = {"agents": sorted({one.agent for one in sources})}
    found |= {"confidence": max(sure)} if sure else {}
    return found | ({"evidence": evidence} if evidence else {})
