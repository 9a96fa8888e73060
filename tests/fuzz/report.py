"""The result of fuzzing a target, parsed from the fuzzer's output, and the table of all results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: A progress line of the fuzzer: `#4096 pulse cov: 812 ft: 2044 corp: ...`.
_LINE = re.compile(r"^#(?P<runs>\d+)\s+\w+\s+cov: (?P<edges>\d+)", re.MULTILINE)
_STAT = re.compile(r"^stat::(?P<name>\w+):\s+(?P<value>\d+)", re.MULTILINE)
#: How it reports a finding: an exception, or its own message about time and memory.
_ERROR = re.compile(
    r"^(?:.*Uncaught Python exception: .*\n(?P<error>[^\n]*)|==\d+== ?ERROR: (?P<own>.*))",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Tally:
    """A target's row. `fault` is the finding in the fuzzer's words; "" when there is none."""

    target: str
    runs: int
    runs_per_s: int
    edges: int
    corpus: int
    findings: tuple[Path, ...]
    fault: str


def read(target: str, said: str, findings: Sequence[Path], corpus: int, late: str) -> Tally:
    """Parse a target's row from its fuzzer's output. `late`: why it had to be killed, or ""."""
    lines = list(_LINE.finditer(said))
    stats = {found["name"]: int(found["value"]) for found in _STAT.finditer(said)}
    runs = stats.get("number_of_executed_units", int(lines[-1]["runs"]) if lines else 0)
    edges = int(lines[-1]["edges"]) if lines else 0
    fault = late
    error = _ERROR.search(said)
    if not fault and error is not None:
        fault = error["error"] or error["own"]
    if not fault and findings:
        fault = "it left an input behind, and does not say why"
    if not fault and "number_of_executed_units" not in stats:
        last = said.strip().splitlines()[-1:] or ["without a word"]
        fault = f"it ended by itself: {last[0]}"
    rate = stats.get("average_exec_per_sec", 0)
    return Tally(target, runs, rate, edges, corpus, tuple(findings), fault)


def table(tallies: Sequence[Tally]) -> list[str]:
    """Return the rows as lines, with their sums."""
    header = ("target", "runs", "runs/s", "edges", "corpus", "findings")
    rows = [
        (t.target, t.runs, t.runs_per_s, t.edges, t.corpus, len(t.findings) or int(bool(t.fault)))
        for t in tallies
    ]
    runs, corpus = sum(t.runs for t in tallies), sum(t.corpus for t in tallies)
    found = sum(row[-1] for row in rows)
    cells: list[tuple[str, ...]] = [
        header,
        *((name, *(f"{number:,}" for number in numbers)) for name, *numbers in rows),
        ("all", f"{runs:,}", "", "", f"{corpus:,}", f"{found:,}"),
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
