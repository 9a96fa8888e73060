"""How later messages change a grant, or a request for one."""

import asyncio

import pytest

from fabric.core.rule_table import Domain
from fabric.core.rules import Rules
from fabric.errors import EndedError, NotAllowedError
from tests.client.fleet import in_process, is_blocked
from tests.client.test_writing import nobody_claims


async def test_a_grant_includes_its_exclusive_domain() -> None:
    rules = Rules(domains=(Domain("migrations/**", exclusive=True),))
    async with in_process(rules) as fabric, fabric.agent("A") as agent:
        async with agent.writing("migrations/1.sql", timeout=20) as grant:
            assert set(grant.resources) == {"migrations/1.sql", "migrations/**"}
        await nobody_claims(fabric)


async def test_a_lost_grant_says_so() -> None:
    rules = Rules(preemption=True)
    async with (
        in_process(rules) as fabric,
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
            await fabric.settle()
            assert await is_blocked(urgent)
            await slow.checkpoint("half", timeout=20)
            await grant.lost.wait()
            was_current = grant.is_current
            assert not was_current
            finish.set()
            await fabric.settle()
            assert grant.is_current
            assert grant.token > first


async def test_a_refused_intent_does_not_hang() -> None:
    async with in_process() as fabric:
        old = await fabric.agent("A").__aenter__()
        async with fabric.agent("A", take_over=True):
            with pytest.raises(NotAllowedError, match="replaced by incarnation 2"):
                async with old.writing("x"):
                    pytest.fail("it is heard no more")
        with pytest.raises(EndedError, match="COMPLETED was not sent"):
            await old.__aexit__(None, None, None)


async def test_a_waiting_agent_learns_that_it_was_replaced() -> None:
    """Its request was accepted; only a later signal is refused."""
    async with (
        in_process(heartbeat_ms=100) as fabric,
        fabric.agent("H") as holder,
        holder.writing("x", timeout=20),
    ):
        old = await fabric.agent("A").__aenter__()
        waiting = asyncio.create_task(old.writing("x").__aenter__())
        await fabric.settle()
        assert await is_blocked(old)
        async with fabric.agent("A", take_over=True):
            await fabric.advance(0.2)
            with pytest.raises(NotAllowedError, match="replaced"):
                await waiting
        with pytest.raises(EndedError):
            await old.__aexit__(None, None, None)
