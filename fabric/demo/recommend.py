"""Turns the findings of one agent into a few recommendations, the most rewarding first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from fabric.demo.finding import Finding, Severity, badness

#: Recommendations of one agent. What comes after the fifth nobody starts on today.
RECOMMENDATIONS_MAX = 5
#: Places that a recommendation names: where to begin.
PLACES_MAX = 3


class Recommendation(msgspec.Struct, frozen=True):
    """What to do about one rule: how often it is broken, in how many files, and where it is worst.

    `severity` is that of the worst finding; `places` are `path:line`, worst first.
    """

    rule: str
    severity: Severity
    count: int
    files: int
    advice: str
    places: tuple[str, ...]


class Draft(msgspec.Struct, frozen=True):
    """The recommendations of one agent, and the rules (with their counts) that found no room."""

    items: tuple[Recommendation, ...]
    left_out: dict[str, int] = {}


def draft(findings: Iterable[Finding], limit: int = RECOMMENDATIONS_MAX) -> Draft:
    """Group findings by rule and return the `limit` weightiest groups; the others are counted.

    Ordered by the worst severity, then by the number of findings of that severity, then by name.
    The order of `findings` makes no difference. Pure.
    """
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.rule].append(finding)
    ordered = sorted((sorted(group, key=badness) for group in groups.values()), key=_weight)
    items = tuple(_recommendation(group) for group in ordered[:limit])
    return Draft(items, {group[0].rule: len(group) for group in ordered[limit:]})


def _weight(group: list[Finding]) -> tuple[int, int, str]:
    worst = group[0].severity
    return worst.rank, -sum(finding.severity is worst for finding in group), group[0].rule


def _recommendation(group: list[Finding]) -> Recommendation:
    worst = group[0]
    places = dict.fromkeys(f"{finding.path}:{finding.line}" for finding in group if finding.line)
    return Recommendation(
        rule=worst.rule,
        severity=worst.severity,
        count=len(group),
        files=len({finding.path for finding in group}),
        advice=worst.recommendation,
        places=tuple(places)[:PLACES_MAX],
    )
