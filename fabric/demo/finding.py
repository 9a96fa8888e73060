"""Findings of a review, the recommendations that follow, and each reviewer's vote. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

#: Recommendations of one agent, and the places that each of them names.
RECOMMENDATIONS_MAX, PLACES_MAX = 5, 3

#: Findings of one rule in one file. The rest is counted.
FINDINGS_PER_RULE_MAX = 50

#: The key of the question that all reviewers answer, each by its own findings: they contradict each
#: other.
VOTE = "where-to-begin"


class Severity(StrEnum):
    """How much a finding matters; `rank` orders the worst first."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for high, 1 for medium, 2 for low."""
        return list(Severity).index(self)


class Finding(msgspec.Struct, frozen=True):
    """One place that breaks one rule.

    `key` is `path:line:rule`, with `#2`, `#3`, … for further ones on the same line. `line` counts
    from 1; 0 means the file as a whole. `evidence` is the source line. `measure` is a number that
    tells worse from bad within a rule, 0 where the rule has none.
    """

    key: str
    path: str
    line: int
    rule: str
    message: str
    severity: Severity
    evidence: str
    recommendation: str
    confidence: float = 1.0
    measure: int = 0


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
    """The recommendations of one agent, and the rules (with their counts) that had no room."""

    items: tuple[Recommendation, ...] = ()
    left_out: dict[str, int] = {}


class Opinion(msgspec.Struct, frozen=True):
    """A vote for a file to begin with: the worst that one agent has found there, and how often."""

    path: str
    severity: Severity
    count: int


def badness(finding: Finding) -> tuple[int, int, str, int, str]:
    """Return a sort key that puts the worst finding first and is the same in every process."""
    return finding.severity.rank, -finding.measure, finding.path, finding.line, finding.key


def bounded(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by place, with distinct keys, and at most FINDINGS_PER_RULE_MAX a rule and
    file: what is over that is one finding with the number.
    """
    kept: list[Finding] = []
    counts: Counter[tuple[str, str]] = Counter()
    keys: Counter[str] = Counter()
    for finding in sorted(findings, key=lambda one: (one.path, one.line, one.rule, one.message)):
        counts[finding.path, finding.rule] += 1
        if counts[finding.path, finding.rule] <= FINDINGS_PER_RULE_MAX:
            keys[finding.key] += 1
            number = f"#{keys[finding.key]}" if keys[finding.key] > 1 else ""
            kept.append(msgspec.structs.replace(finding, key=finding.key + number))
    for finding in [one for one in kept if not one.key.startswith(f"{one.path}:0:")]:
        more = counts.pop((finding.path, finding.rule), 0) - FINDINGS_PER_RULE_MAX
        if more > 0:
            kept.append(
                msgspec.structs.replace(
                    finding,
                    key=f"{finding.path}:0:{finding.rule}",
                    line=0,
                    message=f"and {more:,} more of {finding.rule} in this file",
                    evidence="",
                    measure=0,
                )
            )
    return kept


def draft(findings: Iterable[Finding], limit: int = RECOMMENDATIONS_MAX) -> Draft:
    """Group findings by rule and return the `limit` weightiest groups; the others are counted.

    Ordered by the worst severity, then by the number of findings of that severity, then by name.
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
    files = len({finding.path for finding in group})
    return Recommendation(
        worst.rule,
        worst.severity,
        len(group),
        files,
        worst.recommendation,
        tuple(places)[:PLACES_MAX],
    )


def opinion(findings: Iterable[Finding]) -> Opinion | None:
    """Return the file that is worst by these findings: the one with the worst severity, then with
    most findings of it, then with the worst of them. None when there are none.
    """
    files: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        files[finding.path].append(finding)
    cases = []
    for path, found in files.items():
        worst = min(found, key=badness)
        count = sum(finding.severity is worst.severity for finding in found)
        cases.append((worst.severity.rank, -count, badness(worst), path, worst.severity))
    if not cases:
        return None
    _, count, _, path, severity = min(cases)
    return Opinion(path, severity, -count)


def to_partial(finding: Finding) -> dict[str, Any]:
    """Return a finding as an item of `partial.findings`: key, value, evidence, confidence."""
    value = msgspec.to_builtins(finding)
    outside = {name: value.pop(name) for name in ("key", "evidence", "confidence")}
    return {**outside, "value": value}


def from_partial(item: Mapping[str, Any]) -> Finding:
    """Return the finding that `to_partial` made `item` from. Raises ValueError if it is none."""
    outside = {name: value for name, value in item.items() if name != "value"}
    return _converted(item.get("value"), outside, Finding)


def vote(mine: Opinion) -> dict[str, Any]:
    """Return an opinion as an item of `partial.findings`: the file is the value, the rest why."""
    evidence = {"severity": mine.severity.value, "count": mine.count}
    return {"key": VOTE, "value": mine.path, "evidence": evidence}


def from_vote(value: Any, evidence: Any) -> Opinion:
    """Return the opinion that `vote` made these from. Raises ValueError if it is none."""
    return _converted(evidence, {"path": value}, Opinion)


def _converted(given: Any, more: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert({**given, **more}, kind)
    except (TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"the review fleet did not write this: {error}") from error
