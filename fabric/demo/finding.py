"""What a reviewer reports: a finding, the rule that it breaks, and its form inside a signal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Severity(StrEnum):
    """How much a finding matters; `rank` orders the worst first."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for high, 1 for medium, 2 for low."""
        return _RANK[self]


_RANK = {Severity.HIGH: 0, Severity.MEDIUM: 1, Severity.LOW: 2}


class Rule(msgspec.Struct, frozen=True):
    """One thing that a reviewer looks for: `advice` says what to do, `confidence` (0 to 1) how sure
    it is.
    """

    name: str
    severity: Severity
    advice: str
    confidence: float = 1.0


class Finding(msgspec.Struct, frozen=True):
    """One place that breaks one rule.

    `key` is `path:line:rule`, with `#2`, `#3`, … for further ones on the same line. `line` counts
    from 1; 0 means the file as a whole. `evidence` is the source line, trimmed and printable.
    `measure` is the rule's own number (lines, branches, …) and tells worse from bad; 0 where a rule
    has none.
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


def badness(finding: Finding) -> tuple[int, int, str, int, str]:
    """Return a sort key that puts the worst finding first and is the same in every process."""
    return (finding.severity.rank, -finding.measure, finding.path, finding.line, finding.key)


def to_partial(finding: Finding) -> dict[str, Any]:
    """Return the finding as one item of `partial.findings` in a PARTIAL_RESULT: key, value,
    evidence, confidence.
    """
    value = msgspec.to_builtins(finding)
    return {
        "key": value.pop("key"),
        "evidence": value.pop("evidence"),
        "confidence": value.pop("confidence"),
        "value": value,
    }


def from_partial(item: Mapping[str, Any]) -> Finding:
    """Return the finding that `to_partial` made `item` from.

    Raises ValueError when `item` is not such an item; the message says which field is wrong.
    """
    value = item.get("value")
    if not isinstance(value, Mapping):
        raise ValueError("a finding needs a `value` with severity, rule, path, line and message")
    given = {
        **value,
        **{name: item[name] for name in ("key", "evidence", "confidence") if name in item},
    }
    try:
        return msgspec.convert(given, Finding)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a finding of the review fleet: {error}") from error
