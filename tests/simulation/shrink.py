"""Making a failing plan short: lines are left out as long as the same invariant still breaks."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.plan import Line, Plan
from tests.simulation.run import Result, run

#: Runs that shrinking may take: each is well under a second.
RUNS_MAX = 600


def shrink(plan: Plan, note: Callable[[int, int], None] = lambda runs, lines: None) -> Result:
    """Return the result of the shortest plan found that breaks what this one breaks.

    Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
    2002): ever smaller pieces are left out. `note` hears of the runs made and the lines left.
    """
    shortest = run(plan)
    assert shortest.violation, "nothing breaks: there is nothing to shrink"
    runs, piece = 1, max(1, len(plan.lines) // 2)
    while runs < RUNS_MAX:
        lines = shortest.plan.lines
        found = False
        start = 0
        while start < len(lines) and runs < RUNS_MAX:
            tried = run(plan.of([*lines[:start], *lines[start + piece :]]))
            runs += 1
            note(runs, len(tried.plan.lines))
            if tried.violation == shortest.violation:
                shortest, lines, found = tried, tried.plan.lines, True
            else:
                start += piece
        if piece == 1 and not found:
            break
        piece = piece if found and piece == 1 else max(1, piece // 2)
    return shortest


def told(result: Result) -> str:
    """Write a result as a file that replays it, with what it shows."""
    comments = [
        f"# {result.violation}",
        f"# {result.detail}",
        "# replay: scripts/simulate --plan FILE",
    ]
    return "\n".join(comments) + "\n" + str(result.plan)


def lines_of(result: Result) -> tuple[Line, ...]:
    """Return the lines of a result's plan."""
    return result.plan.lines
