"""A connection that breaks at the worst moment: every signal takes effect exactly once."""

import asyncio
from collections.abc import Callable

import pytest

from fabric.client import mailbox
from fabric.errors import UnreachableError
from fabric.store import connection
from tests.client.fleet import S, connected, fleet, logged
from tests.support.keyspace import DEAD, SIGNALS, records, rows
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, carrying, command, every_of, script
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

MakeProxy = Callable[[RunningServer], Proxy]

COUNT = 60


@pytest.mark.parametrize("fault", [Fault.CUT_REPLY, Fault.CUT_REQUEST, Fault.SWALLOW_REPLY])
async def test_every_signal_takes_effect_once(
    server: RunningServer, proxy: MakeProxy, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    between = proxy(server)
    times = 3 if fault is Fault.SWALLOW_REPLY else 10
    async with fleet(server.url), connected(between.url) as fabric, fabric.agent("A") as agent:
        if fault is Fault.SWALLOW_REPLY:
            monkeypatch.setattr(connection, "REPLY_MS_MAX", 300)
        for number in range(COUNT):
            if number % (COUNT // times) == 0:
                between.fault(fault, every_of(script("emit"), carrying(b"PROGRESS")))
            await agent.progress(number)
        signals = await logged(server, COUNT + 1)
        assert [row["seq"] for row in signals] == [str(n) for n in range(1, COUNT + 2)]
        assert [row.payload["percent"] for row in signals[1:]] == list(range(COUNT))
        assert records(server, S.agents)["A"]["signals"] == COUNT + 1
    assert rows(server, DEAD) == []


async def test_a_request_that_comes_late_is_dropped(
    server: RunningServer, proxy: MakeProxy
) -> None:
    """It was in a dead connection's buffer; the agent has sent it again since, and more."""
    between = proxy(server)
    async with fleet(server.url), connected(between.url) as fabric, fabric.agent("A") as agent:
        late = between.fault(Fault.LATE_REQUEST, every_of(script("emit"), carrying(b"PROGRESS")))
        for number in range(5):
            await agent.progress(number)
        await logged(server, 6)
        between.lift(late)
        await eventually(lambda: late.landed, "it has come late")
        await agent.progress(99)
        signals = await logged(server, 7)
        assert [row["seq"] for row in signals] == [str(n) for n in range(1, 8)]


async def test_a_lost_reply_to_the_start_skips_an_incarnation(
    server: RunningServer, proxy: MakeProxy
) -> None:
    """Incarnations may be skipped, but are never assigned twice."""
    between = proxy(server)
    async with fleet(server.url), connected(between.url) as fabric:
        between.fault(Fault.CUT_REPLY, script("enroll"), times=2)
        between.fault(Fault.CUT_REQUEST, command("HMGET"))
        between.fault(Fault.CUT_REPLY, carrying(b"STARTED"))
        async with fabric.agent("A") as agent:
            assert agent.incarnation == 3
        signals = await logged(server, 2)
        assert [(row["type"], row["seq"], row["incarnation"]) for row in signals] == [
            ("STARTED", "1", "3"), ("COMPLETED", "2", "3")
        ]  # fmt: skip


async def test_unnumbered_signals_are_not_sent_again(
    server: RunningServer, proxy: MakeProxy
) -> None:
    between = proxy(server)
    async with connected(between.url) as fabric:
        document = {"type": "PROGRESS", "emitter": "A"}
        await fabric.emit([document])
        between.fault(Fault.CUT_REPLY, script("emit"))
        with pytest.raises(UnreachableError):
            await fabric.emit([document, document])
        assert server.cli("XLEN", SIGNALS) == 3
        between.refuse()
        sending = asyncio.create_task(fabric.emit([document]))
        await asyncio.sleep(0.05)  # still being retried: nothing has been sent
        assert not sending.done()
        between.accept()
        await sending
        assert server.cli("XLEN", SIGNALS) == 4


async def test_the_time_limit_ends_the_retries(server: RunningServer, proxy: MakeProxy) -> None:
    between = proxy(server)
    async with connected(between.url, emit_limit_ms=200) as fabric:
        agent = fabric.agent("A")
        await agent.__aenter__()
        between.refuse()
        with pytest.raises(UnreachableError):
            await agent.progress(1)
        between.accept()
        await agent.progress(2)
        await agent.__aexit__(None, None, None)
    # The number of the abandoned signal is spent: the signal might have arrived.
    assert [row["seq"] for row in rows(server, SIGNALS)] == ["1", "3", "4"]


async def test_the_inbox_is_read_on_after_a_cut_after_a_cut(
    server: RunningServer, proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "RETRY_FIRST_MS", 20)
    between = proxy(server)
    async with (
        fleet(server.url) as fabric,
        connected(between.url) as cut,
        fabric.agent("A") as maker,
        cut.agent("B") as waiter,
    ):
        for number in range(5):
            between.fault(Fault.CUT_REPLY, command("XREAD"))
            waiting = asyncio.create_task(waiter.wait_for(f"x{number}", timeout=20))
            await maker.resolve(f"x{number}", location=str(number), consumers=["B"])
            assert await waiting == str(number)


async def test_connections_are_cut_at_random(server: RunningServer, proxy: MakeProxy) -> None:
    between = proxy(server)
    async with fleet(server.url), connected(between.url) as fabric:
        is_over = asyncio.Event()

        async def cut() -> None:
            while not is_over.is_set():
                between.cut_all()
                await asyncio.sleep(0.02)

        cutting = asyncio.create_task(cut())
        async with fabric.agent("A") as one, fabric.agent("B") as other:
            for number in range(50):
                await asyncio.gather(one.progress(number), other.progress(number))
        is_over.set()
        await cutting
        signals = await logged(server, 2 * 52)
        for name in "AB":
            found = [int(row["seq"]) for row in signals if row["emitter"] == name]
            assert found == list(range(1, 53))
