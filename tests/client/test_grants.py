"""What becomes of a grant, and of a request for one, by what the fabric says of it later."""

import asyncio

import pytest

from fabric.core.rules import Domain, Rules
from fabric.errors import NotAllowedError
from tests.client.fleet import blocked, fleet
from tests.client.test_writing import nobody_claims
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


async def test_an_exclusive_domain_comes_with_it(server: RunningServer) -> None:
    rules = Rules(domains=(Domain("migrations/**", exclusive=True),))
    async with fleet(server.url, rules=rules) as fabric, fabric.agent("A") as agent:
        async with agent.writing("migrations/1.sql", timeout=20) as grant:
            assert set(grant.resources) == {"migrations/1.sql", "migrations/**"}
        await nobody_claims(server)


async def test_what_is_taken_away_is_told(server: RunningServer) -> None:
    rules = Rules(preemption=True)
    async with (
        fleet(server.url, rules=rules) as fabric,
        fabric.agent("A", priority=1) as slow,
        fabric.agent("B", priority=9) as urgent,
        asyncio.TaskGroup() as group,
    ):
        finish = asyncio.Event()

        async def hurry() -> None:
            async with urgent.writing("x", timeout=20):
                await finish.wait()

        async with slow.writing("x", timeout=20) as grant:
            first = grant.token
            group.create_task(hurry())
            await blocked(urgent)
            await slow.checkpoint("half", timeout=20)
            await grant.lost.wait()
            assert not grant.is_current
            finish.set()
            await eventually(lambda: grant.is_current, "it is its turn again")
            assert grant.token > first


async def test_a_refused_intent_does_not_hang(server: RunningServer) -> None:
    async with fleet(server.url) as fabric, fabric.agent("A") as old, fabric.agent("A"):
        with pytest.raises(NotAllowedError, match="replaced by incarnation 2"):
            async with old.writing("x"):
                pytest.fail("it is heard no more")


async def test_who_waits_learns_that_it_was_replaced(server: RunningServer) -> None:
    """Nothing that it asked for was refused: what it says later is."""
    async with (
        fleet(server.url, heartbeat_ms=100) as fabric,
        fabric.agent("H") as holder,
        fabric.agent("A") as old,
        holder.writing("x", timeout=20),
    ):
        waiting = asyncio.create_task(old.writing("x").__aenter__())
        await blocked(old)
        async with fabric.agent("A"):
            with pytest.raises(NotAllowedError, match="replaced by incarnation 2"):
                await waiting
