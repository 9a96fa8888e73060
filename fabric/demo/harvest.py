"""What the fleet has found, taken from the synthesis of its session. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fabric.core.synthesis.part import Standing, State
from fabric.demo import opinion
from fabric.demo.finding import Finding, from_partial
from fabric.demo.fleet import FLEET
from fabric.demo.opinion import Opinion
from fabric.demo.recommend import Draft, Recommendation
from fabric.demo.remark import FIELD as REMARKS
from fabric.view.synthesis import Synthesis
from fabric.wire import document
from fabric.wire.document import Source

_NAMES = frozenset(member.name for member in FLEET)

_GONE = frozenset({State.WITHDRAWN, State.SUPERSEDED})


class Arrival(msgspec.Struct, frozen=True):
    """A finding, who was the first to report it, and when, in ms since the session's first signal.

    `log` is the number of the log entry that brought it.
    """

    agent: str
    at_ms: int
    finding: Finding
    log: int = 0


class View(msgspec.Struct, frozen=True):
    """What one agent says of where to begin, and whether it still does."""

    agent: str
    opinion: Opinion
    is_held: bool


class Dispute(msgspec.Struct, frozen=True):
    """A contradiction that is open: who says what, and the question that a person can answer."""

    part: str
    question: str
    #: Value, as text → who says so.
    values: dict[str, tuple[str, ...]]
    options: tuple[str, ...]


class Harvest(msgspec.Struct, frozen=True):
    """All that the report takes from the synthesis."""

    revision: int = 0
    is_final: bool = False
    arrivals: tuple[Arrival, ...] = ()
    drafts: dict[str, Draft] = {}
    remarks: tuple[str, ...] = ()
    views: tuple[View, ...] = ()
    disputes: tuple[Dispute, ...] = ()


def harvest(synthesis: Synthesis, opened_ms: int) -> Harvest:
    """Return what a synthesis holds of the fleet's; `opened_ms` is the time of the first signal.

    Raises ValueError when one of the fleet has given what is no finding of a review.
    """
    return Harvest(
        synthesis.revision,
        synthesis.is_final,
        tuple(_arrivals(synthesis, opened_ms)),
        _drafts(_of_fleet(synthesis, "recommendations")),
        tuple(
            f"{name}: {words}"
            for name, said in _of_fleet(synthesis, REMARKS).items()
            for words in said
        ),
        tuple(_views(synthesis)),
        tuple(map(_dispute, synthesis.contradictions.values())),
    )


def _arrivals(synthesis: Synthesis, opened_ms: int) -> list[Arrival]:
    found = []
    for key, record in synthesis.findings.items():
        said = [one for one in record.sources if one.agent in _NAMES and one.value is not None]
        if key == opinion.KEY or record.state in _GONE or not said:
            continue
        # Where two contradict each other, both are among the disputes.
        first = said[0]
        item = {"key": key, "value": record.value or first.value, "evidence": first.evidence or ""}
        if first.confidence is not None:
            item["confidence"] = first.confidence
        at_ms = record.first_ms - opened_ms
        found.append(Arrival(first.agent, at_ms, from_partial(item), first.log))
    return sorted(found, key=lambda one: (one.log, one.finding.key))


def _of_fleet(synthesis: Synthesis, field: str) -> dict[str, Any]:
    """Return what the fleet has given under a field of the plain document, by agent."""
    return {name: said for name, said in synthesis.plain.get(field, {}).items() if name in _NAMES}


def _drafts(given: Mapping[str, Any]) -> dict[str, Draft]:
    """Put each agent's draft in order again: a synthesis keeps the items of a list as a set."""
    drafts = {name: msgspec.convert(drafted, Draft) for name, drafted in given.items()}
    return {
        name: Draft(tuple(sorted(drafted.items, key=_weight)), drafted.left_out)
        for name, drafted in drafts.items()
    }


def _weight(item: Recommendation) -> tuple[int, int, str]:
    return item.severity.rank, -item.count, item.rule


def _views(synthesis: Synthesis) -> list[View]:
    record = synthesis.findings.get(opinion.KEY)
    views: dict[str, View] = {}
    for one in record.sources if record is not None else ():
        if one.value is None or one.agent not in _NAMES:
            continue
        is_held = one.standing is Standing.HOLDS
        views[one.agent] = View(one.agent, opinion.from_partial(one.value, one.evidence), is_held)
    return list(views.values())


def _dispute(open_: document.Contradiction) -> Dispute:
    values = {_text(claims[0]): tuple(one.agent for one in claims) for claims in open_.values}
    return Dispute(open_.part, open_.question, values, tuple(open_.options))


def _text(source: Source) -> str:
    value = source.value
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
