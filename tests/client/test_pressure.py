"""A full ingress: emitters wait or get an error; no signal is lost or trimmed."""

import asyncio

import pytest

from fabric.client.emitter import WhenFull
from fabric.errors import OverloadedError
from tests.client.fleet import S, connected, logged
from tests.support.in_process import serving
from tests.support.keyspace import SIGNALS, rows
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

FULL = 5


async def test_an_emitter_that_does_not_wait_gets_an_error_at_once(server: RunningServer) -> None:
    async with connected(server.url, ingress_max=FULL) as fabric:
        agent = fabric.agent("A", when_full="raise")
        await agent.__aenter__()
        for number in range(FULL - 1):
            await agent.progress(number)
        with pytest.raises(OverloadedError) as caught:
            await agent.progress(99)
        words = str(caught.value)
        assert SIGNALS in words
        assert f"holds {FULL} signals" in words
        assert f"{FULL} are allowed" in words
        assert server.cli("XLEN", SIGNALS) == FULL
        async with serving(server.url):
            await eventually(lambda: server.cli("XLEN", SIGNALS) == 0, "they are handled")
            await agent.progress(100)
            await agent.__aexit__(None, None, None)
            signals = await logged(server, FULL + 2)
    # Signal 99 was refused; its number is spent.
    assert [row.payload.get("percent") for row in signals[1:-1]] == [0, 1, 2, 3, 100]


async def test_a_waiting_emitter_goes_on_when_there_is_room(server: RunningServer) -> None:
    async with connected(server.url, ingress_max=FULL) as fabric:
        agent = fabric.agent("A")
        await agent.__aenter__()

        async def speak() -> None:
            for number in range(50):
                await agent.progress(number)

        speaking = asyncio.create_task(speak())
        await eventually(lambda: server.cli("XLEN", SIGNALS) == FULL, "it is full")
        async with serving(server.url):
            await speaking
            await agent.__aexit__(None, None, None)
            signals = await logged(server, 52)
    assert [row["seq"] for row in signals] == [str(n) for n in range(1, 53)]


async def test_it_does_not_wait_forever(server: RunningServer) -> None:
    async with connected(server.url, ingress_max=FULL, emit_limit_ms=100) as fabric:
        agent = fabric.agent("A", when_full=WhenFull.WAIT)
        await agent.__aenter__()
        for number in range(FULL - 1):
            await agent.progress(number)
        with pytest.raises(OverloadedError):
            await agent.progress(99)
        with pytest.raises(OverloadedError):
            await agent.__aexit__(None, None, None)
    assert server.cli("XLEN", SIGNALS) == FULL
    assert rows(server, S.log) == []


async def test_a_batch_is_sent_as_a_whole_or_not_at_all(server: RunningServer) -> None:
    document = {"type": "PROGRESS", "emitter": "A"}
    async with connected(server.url, ingress_max=FULL, emit_limit_ms=100) as fabric:
        await fabric.emit([document] * (FULL - 1), when_full="raise")
        # One more fits. A batch may exceed the limit once; it is never split.
        await fabric.emit([document] * 3, when_full="raise")
        with pytest.raises(OverloadedError):
            await fabric.emit([document] * 3, when_full="raise")
        assert server.cli("XLEN", SIGNALS) == FULL + 2


async def test_an_unknown_choice_is_refused(server: RunningServer) -> None:
    async with connected(server.url) as fabric:
        with pytest.raises(ValueError, match="drop"):
            fabric.agent("A", when_full="drop")
