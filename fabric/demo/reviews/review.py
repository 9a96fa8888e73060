"""What every reviewer offers, and the bounds that hold for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.secret import masked
from fabric.demo.source import Source

#: Findings of one rule in one file. A file with more is told so once; the rest would only fill the
#: report.
FINDINGS_PER_RULE_MAX = 50

#: Characters of a line that are looked at to make the evidence.
LINE_CHARS_MAX = 400

#: Given when a file is too much for a reviewer, so that nobody takes silence for praise.
NOT_REVIEWED = Rule(
    "not-reviewed", Severity.MEDIUM, "Split the file; no reviewer can follow such nesting."
)


class Review(Protocol):
    """One reviewer: `rules` is all that it can report."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of this reviewer, worst first."""

    def check(self, source: Source) -> Iterator[Finding]:
        """Yield what is wrong in one file, in any order. A file without a syntax tree yields
        nothing, except from the INDEXER, which says why it has none."""


def found(
    source: Source,
    rule: Rule,
    line: int,
    message: str,
    *,
    severity: Severity | None = None,
    evidence: str | None = None,
    measure: int = 0,
) -> Finding:
    """Return a finding of `rule` at `line`, with the source line as evidence unless another one is
    given. Strings on a line that speaks of passwords are hidden.
    """
    shown = source.line(line) if evidence is None else evidence
    return Finding(
        key=f"{source.path}:{line}:{rule.name}",
        path=source.path,
        line=line,
        rule=rule.name,
        message=message,
        severity=severity or rule.severity,
        evidence=excerpt(masked(shown[:LINE_CHARS_MAX])),
        recommendation=rule.advice,
        confidence=rule.confidence,
        measure=measure,
    )


def examine(review: Review, source: Source) -> list[Finding]:
    """Return all findings of one reviewer in one file, in order of the lines, with keys that
    differ.

    Bounded by FINDINGS_PER_RULE_MAX a rule; what is over it is one finding with the number. A file
    that exhausts the stack or the memory is itself a finding. This is what an agent of the fleet
    calls for each file.
    """
    kept: list[Finding] = []
    counts: Counter[str] = Counter()
    try:
        for finding in review.check(source):
            counts[finding.rule] += 1
            if counts[finding.rule] <= FINDINGS_PER_RULE_MAX:
                kept.append(finding)
    except (RecursionError, MemoryError):
        kept.append(found(source, NOT_REVIEWED, 0, "is too much for this reviewer"))
    rest = [_rest(finding, counts[finding.rule]) for finding in _firsts_of_many(kept, counts)]
    kept.sort(key=lambda finding: (finding.line, finding.rule, finding.message))
    return [*_distinct(kept), *rest]


def _distinct(findings: Iterable[Finding]) -> Iterator[Finding]:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.key] += 1
        number = seen[finding.key]
        if number == 1:
            yield finding
        else:
            yield msgspec.structs.replace(finding, key=f"{finding.key}#{number}")


def _firsts_of_many(kept: Iterable[Finding], counts: Counter[str]) -> list[Finding]:
    """Return the first finding of each rule of which some were left out."""
    firsts: dict[str, Finding] = {}
    for finding in kept:
        if counts[finding.rule] > FINDINGS_PER_RULE_MAX:
            firsts.setdefault(finding.rule, finding)
    return list(firsts.values())


def _rest(first: Finding, count: int) -> Finding:
    more = count - FINDINGS_PER_RULE_MAX
    return msgspec.structs.replace(
        first,
        key=f"{first.path}:0:{first.rule}",
        line=0,
        message=f"and {more:,} more of {first.rule} in this file",
        evidence="",
        measure=0,
    )
