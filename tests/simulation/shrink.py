"""Shrinks a failing plan: removes lines as long as the same invariant still breaks."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.plan import Line, Plan
from tests.simulation.run import Result, run

#: Most runs for shrinking: each takes well under a second.
RUNS_MAX = 600


def shrink(plan: Plan, note: Callable[[int, int], None] = lambda runs, lines: None) -> Result:
    """Return the result of the shortest plan found that breaks the same invariant.

    Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
    2002): it removes ever smaller pieces. `note` gets the number of runs and of lines left.
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


def replay_text(result: Result) -> str:
    """Return the text of a file that replays a result, with the violation as a comment."""
    comments = [
        f"# {result.violation}",
        f"# {result.detail}",
        "# replay: scripts/simulate --plan FILE",
    ]
    return "\n".join(comments) + "\n" + str(result.plan)


def lines_of(result: Result) -> tuple[Line, ...]:
    """Return the number of lines of a result's plan."""
    return result.plan.lines
