"""Findings of a review, the recommendations that follow, and each reviewer's vote. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from enum import StrEnum
from operator import attrgetter
from typing import Any

import msgspec

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

    `line` counts from 1; 0 means the file as a whole. `measure` is a number that tells worse from
    bad within a rule, 0 where the rule has none. `evidence` is the source line. `key` is
    `path:line:rule`, with `#2`, `#3`, … for further ones on the same line.
    """

    path: str
    line: int
    rule: str
    message: str
    severity: Severity
    recommendation: str
    confidence: float = 1.0
    measure: int = 0
    evidence: str = ""
    key: str = ""


def _grouped(findings: Iterable[Finding], *fields: str) -> list[list[Finding]]:
    groups: dict[Any, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[attrgetter(*fields)(finding)].append(finding)
    return list(groups.values())


def _badness(finding: Finding) -> tuple[int, int, str, int, str]:
    """Put the worst finding first, and the same one in every process."""
    return finding.severity.rank, -finding.measure, finding.path, finding.line, finding.key


def _weight(group: list[Finding]) -> tuple[int, int]:
    """Put the group with the worst finding first, then the one with most as bad as that."""
    worst = group[0].severity
    return worst.rank, -sum(one.severity is worst for one in group)


def bounded(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with distinct keys, and at most FINDINGS_PER_RULE_MAX a rule and file: what
    is over that is one finding with the number.
    """
    kept: list[Finding] = []
    keys: Counter[str] = Counter()
    ordered = sorted(findings, key=attrgetter("path", "line", "rule", "message"))
    for group in _grouped(ordered, "path", "rule"):
        for one in group[:FINDINGS_PER_RULE_MAX]:
            keys[one.key] += 1
            number = f"#{keys[one.key]}" if keys[one.key] > 1 else ""
            kept.append(msgspec.structs.replace(one, key=one.key + number))
        if rest := group[FINDINGS_PER_RULE_MAX:]:
            path, rule = group[0].path, group[0].rule
            text = f"and {len(rest):,} more of {rule} in this file"
            whole = {"key": f"{path}:0:{rule}", "line": 0, "message": text, "evidence": ""}
            kept.append(msgspec.structs.replace(group[0], **whole))
    return kept


def draft(findings: Iterable[Finding], limit: int = RECOMMENDATIONS_MAX) -> dict[str, Any]:
    """Return `items`, a recommendation for each of the `limit` weightiest rules, and `left_out`,
    the other rules → their number.

    Ordered by the worst severity, then by the number of findings of that severity, then by name. A
    recommendation names rule, severity, count, number of files, advice, and the worst places.
    """
    groups = _grouped(sorted(findings, key=_badness), "rule")
    groups.sort(key=lambda group: (*_weight(group), group[0].rule))
    items = [
        {
            "rule": group[0].rule,
            "severity": group[0].severity.value,
            "count": len(group),
            "files": len({one.path for one in group}),
            "advice": group[0].recommendation,
            "places": list({f"{one.path}:{one.line}": 0 for one in group if one.line})[:PLACES_MAX],
        }
        for group in groups[:limit]
    ]
    return {"items": items, "left_out": {one[0].rule: len(one) for one in groups[limit:]}}


def vote(findings: Iterable[Finding]) -> dict[str, Any] | None:
    """Return a vote for the file that is worst by these findings, as an item of `partial.findings`:
    the file is the value, the severity of the worst and how often it was found there the evidence.

    It is the file with the worst severity, then with most findings of it, then with the worst of
    them. None when there are no findings.
    """
    groups = _grouped(sorted(findings, key=_badness), "path")
    if not groups:
        return None
    worst = min(groups, key=lambda group: (*_weight(group), _badness(group[0])))
    evidence = {"severity": worst[0].severity.value, "count": -_weight(worst)[1]}
    return {"key": VOTE, "value": worst[0].path, "evidence": evidence}


def to_partial(finding: Finding) -> dict[str, Any]:
    """Return a finding as an item of `partial.findings`: key, value, evidence, confidence."""
    value = msgspec.to_builtins(finding)
    outside = {name: value.pop(name) for name in ("key", "evidence", "confidence")}
    return {**outside, "value": value}
