"""Totals over many runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.run import Result


@dataclass
class Totals:
    """Totals over runs, and the runs in which an invariant broke."""

    seeds: int = 0
    simulated_s: float = 0.0
    steps: int = 0
    commits: int = 0
    checks: int = 0
    signals: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    broken: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Add a run."""
        self.seeds += 1
        self.simulated_s += result.simulated_s
        self.steps += result.steps
        self.commits += result.commits
        self.checks += result.checks
        self.signals += result.signals
        self.counts.update(result.counts)
        if result.violation:
            self.broken.append(result)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return the totals for JSON."""
        return {
            "seeds": self.seeds,
            "seconds": round(seconds, 1),
            "simulated_hours": round(self.simulated_s / 3600, 2),
            "steps": self.steps,
            "signals": self.signals,
            "commits": self.commits,
            "session_checks": self.checks,
            "faults": dict(sorted(self.counts.items())),
            "violations": [
                {"seed": one.plan.seed, "invariant": one.violation, "detail": one.detail}
                for one in self.broken
            ],
        }

    def table(self, seconds: float) -> str:
        """Return the totals as text for a person."""
        rows: list[tuple[str, str]] = [
            ("seeds", f"{self.seeds:,}"),
            ("simulated hours", f"{self.simulated_s / 3600:,.1f}"),
            ("seconds", f"{seconds:,.1f}"),
            ("steps", f"{self.steps:,}"),
            ("signals judged", f"{self.signals:,}"),
            ("commits judged", f"{self.commits:,}"),
            ("sessions checked", f"{self.checks:,}"),
            *((f"fault: {name}", f"{count:,}") for name, count in sorted(self.counts.items())),
            ("violations", f"{len(self.broken):,}"),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value:>14}" for name, value in rows]
        lines += [f"seed {one.plan.seed}: {one.detail}" for one in self.broken]
        return "\n".join(lines)
