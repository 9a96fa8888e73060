"""A review fleet of six on the source of an installed package; ruff's SARIF is the truth.

The reviewers look for overlapping rules and spell paths as tools do: relative, absolute, as URLs.
Every finding of the truth must be in the synthesis exactly once, with all reviewers that found it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import click

from fabric import Agent, Synthesis
from fabric.view.interchange import sarif
from fabric.view.selection import select
from tests.fleets.fleet import fleet, run, show, work

SESSION = os.environ.get("FABRIC_SESSION", "review")

#: Reviewer → the families of ruff's rules that it looks for.
REVIEWERS = {
    "SECURITY": ("S", "B"),
    "BUGS": ("B", "F", "PLE", "PLW"),
    "DESIGN": ("PLR", "SIM", "S"),
    "STYLE": ("E", "W", "SIM"),
    "MODERN": ("UP", "F", "E"),
    "PEDANT": ("S", "PLR", "UP", "PLC"),
}
SEVERITIES = {"S": "high", "B": "medium", "F": "medium", "E": "low", "W": "low"}


class Place(NamedTuple):
    """What makes two findings the same: where, and which rule."""

    path: str
    line: int
    rule: str


def copied(folder: str) -> Path:
    """Copy the code under review, an installed package, into a folder."""
    spec = find_spec("click")
    assert spec is not None
    assert spec.origin is not None
    return Path(shutil.copytree(Path(spec.origin).parent, Path(folder).resolve() / "click"))


def ruff(folder: Path, form: str, families: Iterable[str]) -> Any:
    """Return what ruff finds, in one of its formats."""
    rules = ",".join(sorted(families))
    command = ["ruff", "check", "--isolated", "--exit-zero", "--select", rules]
    command = [sys.executable, "-P", "-m", *command, "--output-format", form, str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def truth(folder: Path) -> set[Place]:
    """Return what ruff's SARIF log says of all rules at once."""
    found = set()
    (log,) = ruff(folder, "sarif", {rule for rules in REVIEWERS.values() for rule in rules})["runs"]
    for one in log["results"]:
        place = one["locations"][0]["physicalLocation"]
        path = place["artifactLocation"]["uri"].removeprefix(f"{folder.as_uri()}/")
        found.add(Place(path, place["region"]["startLine"], one["ruleId"]))
    return found


async def review(agent: Agent) -> None:
    """Report what ruff finds of the agent's rules, in the agent's spelling of paths."""
    number = list(REVIEWERS).index(agent.name)
    folder = Path.cwd()
    found = await asyncio.to_thread(ruff, folder, "json", REVIEWERS[agent.name])
    for at, one in enumerate(found):
        inside = Path(one["filename"]).relative_to(folder)
        spellings = (str(inside), f"./{inside}", one["filename"], Path(one["filename"]).as_uri())
        await agent.finding(
            spellings[number % len(spellings)],
            one["location"]["row"],
            rule=one["code"],
            severity=SEVERITIES.get(one["code"][0], "info"),
            message=one["message"] if number % 2 else f"{one['message']} ({agent.name.lower()})",
            source="ruff",
            confidence=0.5 + number / 20,
        )
        if at % 50 == 0:
            await agent.progress(100 * at // len(found))


def check(synthesis: Synthesis, expected: set[Place]) -> None:
    """See that the truth is in the synthesis, everything once, with all who found it."""
    assert len(expected) > 100, "the package is too clean to say anything"
    (log,) = json.loads(sarif(select(synthesis), "0"))["runs"]
    found = []
    for one in log["results"]:
        (at,) = one["locations"]
        uri = at["physicalLocation"]["artifactLocation"]["uri"]
        line = at["physicalLocation"]["region"]["startLine"]
        found.append(Place(uri, line, one["ruleId"]))
    assert len(found) == len(set(found)), "a finding is there twice"
    assert set(found) == expected, sorted(set(found) ^ expected)[:10]
    for item in select(synthesis):
        family = item.rule.rstrip("0123456789")
        by = {name for name, rules in REVIEWERS.items() if family in rules}
        assert set(item.agents) == by, (item.place, item.rule, item.agents, by)
    joined = sum(len(item.agents) > 1 for item in select(synthesis))
    assert joined > 20
    click.echo(
        f"\nall {len(found)} findings of the truth, each once; {joined} of several reviewers"
    )


async def main() -> None:
    """Run the fleet, show its report, and check it."""
    with tempfile.TemporaryDirectory() as folder:
        code = copied(folder)
        synthesis = await fleet("tests.fleets.review", SESSION, REVIEWERS, str(code))
        show(synthesis)
        check(synthesis, truth(code))


if __name__ == "__main__":
    run(work(SESSION, sys.argv[1], review) if len(sys.argv) > 1 else main())
