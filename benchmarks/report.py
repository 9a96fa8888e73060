"""The results as a table, and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from benchmarks.measurement import Sample
from benchmarks.relay import FOREIGN_SHARE_MAX, Findings

OURS, TWIN, GROUP, FASTSTREAM = "ours", "twin xread", "twin group", "FastStream"
REFERENCE = "twin reference"

#: What each row does for a signal: FastStream's does much less.
_DOES = {
    OURS: "ours: decide, log, inbox, state, ack",
    TWIN: "raw twin: the same writes",
    GROUP: "raw twin, XREADGROUP and XACK",
    REFERENCE: "raw twin that copies from the input",
    FASTSTREAM: "FastStream: one message in, one out",
}

NOTE = (
    "ours and the twins write, for each signal, a log entry, state, and what follows from it "
    "(another log entry and an inbox entry, or a result), fenced and in one commit a batch; "
    "FastStream only passes one message on."
)


def best(samples: dict[str, list[Sample]], prefix: str) -> str:
    """Return the contender with the highest median rate among those with a prefix."""
    names = [name for name in samples if name.startswith(prefix)]
    return max(names, key=lambda name: _median(sample.rate for sample in samples[name]))


def ratios(samples: dict[str, list[Sample]], name: str) -> list[float]:
    """Return our rate divided by another's, round by round."""
    pairs = zip(samples[OURS], samples[name], strict=True)
    return [mine.rate / other.rate for mine, other in pairs]


def table(findings: Findings) -> str:
    """Return the results as lines of text."""
    plan = findings.plan
    way = "unix socket" if plan.unix else "TCP loopback"
    lines = [
        f"Redis {findings.version}, {way}, append-only {plan.aof}, {plan.signals:,} signals, "
        f"medians of at most {plan.rounds}"
    ]
    for name, samples in findings.samples.items():
        lines += ["", *_workload(name, samples)]
    if findings.delays:
        lines += ["", *_delays(findings)]
    return "\n".join(lines)


def _workload(name: str, samples: dict[str, list[Sample]]) -> Iterator[str]:
    heads = ("signals/s", "ours/it", "worker µs", "server µs", "script max ms", "p99 ms")
    yield f"{name:44}" + "".join(f"{head:>14}" for head in heads) + "  ours/it in each round"
    for prefix, does in _DOES.items():
        chosen = best(samples, prefix)
        loop = chosen.removeprefix(prefix).strip(", ")
        rows = samples[chosen]
        each = ratios(samples, chosen)
        longest = [row.slowest_ms for row in rows if row.slowest_ms is not None]
        cells = (
            f"{_median(row.rate for row in rows):,.0f}",
            f"{statistics.median(each):.2f}" if chosen != OURS else "",
            _cell([row.worker_us for row in rows]),
            _cell([row.server_us for row in rows]),
            f"{max(longest):.1f}" if longest else "-",
            _cell([row.p99_ms for row in rows]),
        )
        rounds = " ".join(f"{ratio:.2f}" for ratio in each) if chosen != OURS else ""
        label = f"{does} ({loop})" if loop else does
        yield f"{label:44}" + "".join(f"{cell:>14}" for cell in cells) + f"  {rounds}"


def _delays(findings: Findings) -> Iterator[str]:
    yield f"{'from XADD to the message read':44}{'signals/s':>14}{'p50 ms':>14}{'p99 ms':>14}"
    rows = list(dict.fromkeys((one.label, one.rate) for one in findings.delays))
    for label, rate in rows:
        same = [one for one in findings.delays if (one.label, one.rate) == (label, rate)]
        p50, p99 = _median(one.p50_ms for one in same), _median(one.p99_ms for one in same)
        yield f"{label:44}{rate:>14,}{p50:>14.2f}{p99:>14.2f}"


def noise(findings: Findings) -> str | None:
    """Say how many measurements other programs disturbed; None when there is none."""
    samples = [
        one for rows in findings.samples.values() for group in rows.values() for one in group
    ]
    noisy = sum((one.foreign or 0) > FOREIGN_SHARE_MAX for one in samples)
    if not noisy:
        return None
    return (
        f"other programs took over {FOREIGN_SHARE_MAX:.0%} of a processor in {noisy} of "
        f"{len(samples)} measurements: repeat in a quiet hour"
    )


def document(findings: Findings) -> dict[str, Any]:
    """Return all results, for JSON."""
    plan = asdict(findings.plan)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processors": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "redis": findings.version,
        },
        "plan": {**plan, "binary": str(plan["binary"])},
        "note": NOTE,
        "workloads": {
            name: {
                label: {
                    "median_rate": _median(one.rate for one in rows),
                    "ours_divided_by_it": ratios(samples, label),
                    "rounds": [asdict(one) for one in rows],
                }
                for label, rows in samples.items()
            }
            for name, samples in findings.samples.items()
        },
        "latency": [asdict(one) for one in findings.delays],
    }


def _median(values: Iterator[float] | Sequence[float]) -> float:
    return statistics.median(list(values))


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.1f}" if known else "-"
