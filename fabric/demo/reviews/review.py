"""What every reviewer offers, and the bounds that hold for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.secret import masked
from fabric.demo.source import Source

#: Findings of one rule in one file. A file with more is told so once; the rest would only fill the
#: report.
FINDINGS_PER_RULE_MAX = 50

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
    given.
    """
    return Finding(
        key=f"{source.path}:{line}:{rule.name}",
        path=source.path,
        line=line,
        rule=rule.name,
        message=message,
        severity=severity or rule.severity,
        evidence=excerpt(masked(source.line(line) if evidence is None else evidence)),
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
    try:
        findings = list(review.check(source))
    except (RecursionError, MemoryError):
        findings = [found(source, NOT_REVIEWED, 1, "is too deeply nested to review")]
    findings.sort(key=lambda finding: (finding.line, finding.rule, finding.message))
    return list(_bounded(_distinct(findings)))


def _distinct(findings: Iterable[Finding]) -> Iterator[Finding]:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.key] += 1
        number = seen[finding.key]
        if number == 1:
            yield finding
        else:
            yield _with(finding, key=f"{finding.key}#{number}")


def _bounded(findings: Iterable[Finding]) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    last: dict[str, Finding] = {}
    for finding in findings:
        counts[finding.rule] += 1
        last[finding.rule] = finding
        if counts[finding.rule] <= FINDINGS_PER_RULE_MAX:
            yield finding
    for rule, count in counts.items():
        if count > FINDINGS_PER_RULE_MAX:
            more = count - FINDINGS_PER_RULE_MAX
            key = f"{last[rule].path}:0:{rule}"
            yield _with(
                last[rule],
                key=key,
                line=0,
                message=f"and {more:,} more of {rule} in this file",
                evidence="",
            )


def _with(finding: Finding, **changes: str | int) -> Finding:
    fields = {name: getattr(finding, name) for name in Finding.__struct_fields__}
    return Finding(**{**fields, **changes})
