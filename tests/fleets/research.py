"""A research fleet: four readers, each with sources of its own, on what papers say of one system.

They write the same facts in different units, spellings and dates. What is only written differently
is one fact; what differs is a contradiction, but where a rule decides: the newest source.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from fabric import Agent, Synthesis
from tests.fleets.fleet import fleet, run, show, work

SESSION = os.environ.get("FABRIC_SESSION", "research")

#: Reader → what it found: key, value, source, and the date of the source.
READERS: dict[str, list[tuple[str, Any, str, str]]] = {
    "NORTH": [
        ("memory", "1.5 GB", "manual", "2024-03-01"),
        ("latency", "250 ms", "paper A", "2023-05-02"),
        ("released", "2024-03-01", "changelog", "2024-03-02"),
        ("licence", "Apache-2.0", "repository", "2024-03-01"),
        ("throughput", "9,000 req/s", "blog", "2022-01-01"),
        ("nodes", 3, "manual", "2024-03-01"),
    ],
    "SOUTH": [
        ("memory", "1500 MB", "paper A", "2023-05-02"),
        ("latency", "0.25 s", "blog", "2022-01-01"),
        ("released", "1 Mar 2024", "news", "2024-03-05"),
        ("licence", "apache-2.0 ", "manual", "2024-03-01"),
        ("throughput", "12,000 req/s", "benchmark", "2024-06-01"),
        ("nodes", 5, "paper B", "2024-04-01"),
    ],
    "EAST": [
        ("memory", {"value": 1500, "unit": "MB"}, "paper B", "2024-04-01"),
        ("latency", "251 ms", "benchmark", "2024-06-01"),
        ("released", "2024-03-01T09:00:00Z", "repository", "2024-03-01"),
        ("nodes", "3", "benchmark", "2024-06-01"),
    ],
    "WEST": [("latency", "400 ms", "forum", "2021-01-01"), ("nodes", 3, "forum", "2021-01-01")],
}


async def read(agent: Agent) -> None:
    """Report what the agent's sources say, each with its source and the date of that."""
    for key, value, source, date in READERS[agent.name]:
        await agent.finding(
            key=key, value=value, source=source, evidence=f"{source}, {date}", data={"date": date}
        )
    await agent.partial_result({"sources": sorted({one[2] for one in READERS[agent.name]})})


def check(synthesis: Synthesis) -> None:
    """See which facts agree, which a rule decides, and which a person must."""
    states = {key: one.state.value for key, one in synthesis.findings.items()}
    assert states["memory"] == states["released"] == states["licence"] == "agreed", states
    # 250 and 251 ms are within five percent of each other; 400 ms are not.
    assert states["latency"] == "contradicted", states
    sides = [
        {one.agent for one in side} for side in synthesis.contradictions["findings:latency"].values
    ]
    assert sorted(map(sorted, sides)) == [["EAST", "NORTH", "SOUTH"], ["WEST"]], sides
    assert states["nodes"] == "contradicted", states
    throughput = synthesis.findings["throughput"]
    assert (throughput.state.value, throughput.value) == ("decided", "12,000 req/s")
    assert sorted(synthesis.contradictions) == ["findings:latency", "findings:nodes"]
    for key, finding in synthesis.findings.items():
        said = {one.agent: one for one in finding.sources}
        for reader, facts in READERS.items():
            for name, value, source, _ in facts:
                if name == key:
                    assert said[reader].value == value, "each reader's own words are kept"
                    assert said[reader].fields["source"] == source


async def main() -> None:
    """Run the fleet, show its report, and check it."""
    synthesis = await fleet("tests.fleets.research", SESSION, READERS)
    show(synthesis)
    check(synthesis)
    click.echo(f"\n{len(synthesis.findings)} facts, {len(synthesis.contradictions)} for a person")


if __name__ == "__main__":
    run(work(SESSION, sys.argv[1], read) if len(sys.argv) > 1 else main())
