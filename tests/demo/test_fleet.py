"""The fleet: its members, and an agent that dies without a word to the fabric is named."""

import asyncio
from pathlib import Path

import pytest

from fabric import Fabric
from fabric.demo import fleet
from fabric.demo.fleet import FIXERS, FLEET, REVIEWERS
from fabric.watch.board import Growth


@pytest.mark.slow
def test_agents_that_cannot_even_start_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_url: str
) -> None:
    monkeypatch.setattr(fleet, "SERVED_S_MAX", 0)
    monkeypatch.setattr(fleet, "END_S_MAX", 0.1)
    where = {"FABRIC_SESSION": "s", "FABRIC_REDIS_URL": "nonsense://"}

    async def run(log: int) -> tuple[Growth, list[str]]:
        async with Fabric.connect(server_url) as fabric:
            return await fleet.run(fabric, where, "src", tmp_path, lambda *_: None, log)

    with (tmp_path / "log").open("w+") as log:
        growth, failures = asyncio.run(run(log.fileno()))
        log.seek(0)
        told = log.read()
    assert failures == [f"{member.name} ended with exit code 1" for member in FLEET]
    assert all(f"{member.name}: " in told for member in FLEET)
    assert growth.points == []


def test_the_fleet_is_nine_agents_of_which_the_fixer_goes_first() -> None:
    assert len({member.name for member in FLEET}) == len(FLEET) == 9
    assert [member.name for member in FLEET if member.is_reviewer] == [
        member.name for member in REVIEWERS
    ]
    assert FIXERS[0].priority < FIXERS[1].priority
