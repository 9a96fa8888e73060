"""A test fleet: five runners share out the cases of a suite, and count, list and time together.

Each case fails or passes by a rule that everybody knows, so the totals are known. One runner
repeats cases of the others: their rows must be the same rows, and their counts must count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import click

from fabric import Agent, Synthesis
from fabric.view.report import Layout, report
from tests.fleets.fleet import fleet, run, show, work

SESSION = os.environ.get("FABRIC_SESSION", "suites")

RUNNERS = ("UNIT", "WIRE", "STORE", "SLOW", "FLAKY")
CASES = 200


def outcome(number: int) -> dict[str, Any]:
    """Return the row of a case: every seventh fails."""
    is_bad = number % 7 == 0
    return {
        "name": f"test_{number:03}",
        "result": "failed" if is_bad else "passed",
        "ms": number * 3 % 101,
    }


async def run_cases(agent: Agent) -> None:
    """Run the agent's share of the cases, and report it in pieces."""
    place = RUNNERS.index(agent.name)
    mine = [number for number in range(CASES) if number % len(RUNNERS) == place]
    if agent.name == "FLAKY":  # the flaky ones of the others once more
        mine += [number for number in range(0, CASES, 35) if number % len(RUNNERS) != place]
    await agent.partial_result({"seconds": {"$total": len(mine)}, "log": {"$text": ""}})
    for start in range(0, len(mine), 8):
        some = [outcome(number) for number in mine[start : start + 8]]
        failed = [row["name"] for row in some if row["result"] == "failed"]
        await agent.partial_result(
            {
                "cases": {"$append": some},
                "runs": {"$add": len(some)},
                "failures": {"$add": len(failed)},
                "log": {"$text": f"{len(some)} cases, {len(failed)} failed\n"},
            }
        )
        for name in failed:
            await agent.finding(f"tests/{name}.py", 1, rule="failed", message=f"{name} failed")
        await agent.progress(100 * start // len(mine))
    await agent.add(runners=1)


def check(synthesis: Synthesis) -> None:
    """See that everything was counted once, and each case has one row."""
    plain = synthesis.plain
    assert not synthesis.contradictions, synthesis.contradictions
    shares = [
        [n for n in range(CASES) if n % len(RUNNERS) == place] for place in range(len(RUNNERS))
    ]
    again = [n for n in range(0, CASES, 35) if n % len(RUNNERS) != RUNNERS.index("FLAKY")]
    assert plain["runs"] == CASES + len(again)
    assert plain["seconds"] == CASES + len(again)
    assert plain["runners"] == len(RUNNERS)
    bad = [number for number in range(CASES) if number % 7 == 0]
    assert plain["failures"] == len(bad) + sum(number % 7 == 0 for number in again)
    rows = sorted(plain["cases"], key=lambda row: row["name"])
    assert rows == [outcome(number) for number in range(CASES)]
    assert len(synthesis.findings) == len(bad)
    twice = {f"tests/test_{number:03}.py:1:failed" for number in again if number % 7 == 0}
    both = {
        key for key, one in synthesis.findings.items() if len({s.agent for s in one.sources}) > 1
    }
    assert both == twice
    lines = {name: text.splitlines() for name, text in plain["log"].items()}
    assert {name: len(text) for name, text in lines.items()} == {
        name: -(-len(share + (again if name == "FLAKY" else [])) // 8)
        for name, share in zip(RUNNERS, shares, strict=True)
    }


def check_report(synthesis: Synthesis) -> None:
    """See that the report shows the counts, and the cases as a table that is cut whole."""
    lines = report(synthesis, SESSION)
    assert "- `runs`: `206`" in lines or f"- `runs`: `{synthesis.plain['runs']}`" in lines
    assert "  | name | result | ms |" in lines
    assert sum(line.startswith("  | test_") for line in lines) == CASES
    pr = "\n".join(report(synthesis, SESSION, layout=Layout(folded=True, chars_max=60_000)))
    assert len(pr) <= 60_000
    assert pr.count("<details>") == pr.count("</details>")


def check_command(synthesis: Synthesis) -> None:
    """See that JUnit XML, from the command line, has a failed case for each finding."""
    command = [sys.executable, "-P", "-m", "fabric.cli", "synthesis", SESSION]
    junit = subprocess.run(
        [*command, "--format", "junit"], capture_output=True, check=True, text=True
    )
    assert junit.stdout.count("<failure") == len(synthesis.findings)
    made = subprocess.run([*command, "--json"], capture_output=True, check=True, text=True)
    assert json.loads(made.stdout) == synthesis.document


async def main() -> None:
    """Run the fleet, show its report, and check it."""
    synthesis = await fleet("tests.fleets.suites", SESSION, RUNNERS)
    show(synthesis)
    check(synthesis)
    check_report(synthesis)
    check_command(synthesis)
    click.echo(f"\n{synthesis.plain['runs']} runs of {CASES} cases, each counted once")


if __name__ == "__main__":
    run(work(SESSION, sys.argv[1], run_cases) if len(sys.argv) > 1 else main())
