"""An agent whose incarnation is over hears of it, though its process lives."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fabric.client.agent import Agent
from fabric.errors import EndedError, WaitTimeoutError
from fabric.testing import InProcessFabric
from tests.client.fleet import S, connected, in_process
from tests.support.keyspace import records, rows
from tests.support.servers import RunningServer

#: Longer than any agent may be silent by the default rules, s.
SILENT_S = 700


async def declared_dead(fabric: InProcessFabric, name: str = "A") -> None:
    await fabric.advance(SILENT_S)
    assert records(fabric, S.agents)[name]["status"] == "dead"


async def test_a_grant_is_lost_and_the_next_verb_raises() -> None:
    async def write() -> None:
        async with fabric.agent("A") as agent, agent.writing("x") as grant:
            waiting = asyncio.create_task(grant.lost.wait())
            await declared_dead(fabric)
            assert await waiting
            assert not grant.is_current
            assert agent.cancelled is not None
            with pytest.raises(EndedError, match="PROGRESS was not sent"):
                await agent.progress(50)

    async with in_process() as fabric:
        with pytest.raises(EndedError, match="RELEASE was not sent: A: A was declared dead"):
            await write()
    (cancel,) = [row for row in rows(fabric, S.inbox("A")) if row["type"] == "CANCEL"]
    assert cancel.payload["held"] == ["x"]


async def test_the_block_of_an_agent_that_was_declared_dead_raises() -> None:
    async with in_process() as fabric:
        with pytest.raises(EndedError, match="COMPLETED was not sent"):
            async with fabric.agent("A"):
                await declared_dead(fabric)


async def test_messages_end_behind_the_one_that_says_so() -> None:
    async with in_process() as fabric:
        agent = await fabric.agent("A").__aenter__()
        heard = []

        async def hear() -> None:
            async for message in agent.messages():
                heard.append(message)

        hearing = asyncio.create_task(hear())
        await declared_dead(fabric)
        await fabric.settle()
        assert hearing.done()
        with pytest.raises(EndedError, match="A was declared dead"):
            await hearing
        assert heard[0].payload["code"] == "DEAD"
        with pytest.raises(EndedError):
            await agent.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "wait",
    [
        lambda agent: agent.writing("x").__aenter__(),
        lambda agent: agent.wait_for("schema"),
        lambda agent: agent.escalate("Which?"),
    ],
)
async def test_a_wait_ends_with_the_incarnation(
    wait: Callable[[Agent], Awaitable[object]],
) -> None:
    async with in_process() as fabric, fabric.agent("H") as holder, holder.writing("x"):
        agent = await fabric.agent("A").__aenter__()
        waiting = asyncio.ensure_future(wait(agent))
        await fabric.settle()
        for _ in range(8):
            await fabric.advance(SILENT_S / 8)
            await holder.progress(1)
        with pytest.raises(EndedError, match="declared dead"):
            await waiting
        with pytest.raises(EndedError):
            await agent.__aexit__(None, None, None)


async def test_a_pause_ends_with_the_incarnation() -> None:
    async with in_process() as fabric, fabric.agent("LEAD") as leader:
        agent = await fabric.agent("A").__aenter__()
        other = await fabric.agent("B").__aenter__()
        leading = asyncio.create_task(leader.integrating("release").__aenter__())
        await fabric.settle()
        pausing = asyncio.create_task(agent.checkpoint("c"))
        for _ in range(8):
            await fabric.advance(SILENT_S / 8)
            await other.progress(1)
            await leader.progress(1)
        with pytest.raises(EndedError, match="declared dead"):
            await pausing
        leading.cancel()
        await other.__aexit__(None, None, None)
        with pytest.raises(EndedError):
            await agent.__aexit__(None, None, None)


async def test_a_successor_does_not_take_the_news_for_its_own() -> None:
    async with in_process() as fabric:
        with pytest.raises(EndedError):
            async with fabric.agent("A"):
                await declared_dead(fabric)
        async with fabric.agent("A") as again:
            await again.ready()
            await again.progress(50)


async def test_an_end_is_confirmed_and_the_confirmation_is_no_message() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        reading = asyncio.create_task(anext(agent.messages()))
        await agent.complete({"done": True})
        assert records(fabric, S.agents)["A"]["status"] == "completed"
        assert not reading.done()
        reading.cancel()
    assert [row.payload["code"] for row in rows(fabric, S.inbox("A"))] == ["ACCEPTED"] * 2


async def test_an_end_that_nobody_decides_is_an_error(server: RunningServer) -> None:
    async with connected(server.url, confirm_ms=50) as fabric:
        with pytest.raises(WaitTimeoutError, match="is an orchestrator running"):
            async with fabric.agent("A"):
                pass
    async with connected(server.url, confirm_ms=0) as fabric, fabric.agent("A"):
        pass
