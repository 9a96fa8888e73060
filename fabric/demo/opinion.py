"""Where to begin: the file that a reviewer would mend first, by its own findings. Pure.

All reviewers answer the same question, each by what it looks for, so that they do contradict each
other. A severity is the only thing that they have in common to compare: who has found something
worse is right, and between equals a person decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from fabric.core.contradiction import FINDINGS
from fabric.demo.finding import Finding, Severity, badness

#: The key of what all reviewers answer, and its name as a part of the synthesis.
KEY = "where-to-begin"
PART = f"{FINDINGS}:{KEY}"


class Opinion(msgspec.Struct, frozen=True):
    """A file to begin with, and why: the worst that one agent has found there, and how often."""

    path: str
    severity: Severity
    count: int


def opinion(findings: Iterable[Finding]) -> Opinion | None:
    """Return which file is worst by these findings; None when there are none.

    The one with the worst severity, then with most findings of that, then with the worst of them.
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


def to_partial(mine: Opinion) -> dict[str, Any]:
    """Return an opinion as one item of `partial.findings`: the file is the value, the rest why."""
    evidence = {"severity": mine.severity.value, "count": mine.count}
    return {"key": KEY, "value": mine.path, "evidence": evidence}


def from_partial(value: Any, evidence: Any) -> Opinion:
    """Return the opinion that `to_partial` made these of. Raises ValueError when it is none."""
    if not isinstance(evidence, Mapping):
        raise ValueError(f"{KEY} needs evidence with severity and count")
    try:
        return msgspec.convert({**evidence, "path": value}, Opinion)
    except msgspec.ValidationError as error:
        raise ValueError(f"not an opinion of the review fleet: {error}") from error


def yields(mine: Opinion, others: Iterable[Opinion]) -> bool:
    """Whether one of the others has found something worse."""
    return any(other.severity.rank < mine.severity.rank for other in others)
