"""An agent that sends nothing else sends heartbeats; one that sends signals need not."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.client.fleet import S, connected, fleet, in_process
from tests.support.keyspace import SIGNALS, Row, records, rows
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, carrying
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

HEARTBEAT_MS = 100


def pauses_before_heartbeats(sent: list[Row]) -> list[int]:
    """Return the time from each heartbeat back to the signal before it, ms."""
    times = [(int(row["ms"]), row["type"]) for row in sent]
    return [after - before for (before, _), (after, kind) in pairwise(times) if kind == "HEARTBEAT"]


async def test_a_silent_agent_sends_heartbeats() -> None:
    async with in_process(heartbeat_ms=HEARTBEAT_MS) as fabric, fabric.agent("A"):
        await fabric.advance(3.5 * HEARTBEAT_MS / 1000)
        assert len(rows(fabric, S.log, type="HEARTBEAT")) == 3
        agent = records(fabric, S.agents)["A"]
        assert agent["last_signal"] == "STARTED"
        assert agent["seen_ms"] > agent["started_ms"]
        signals = rows(fabric, S.log, kind="signal")
        assert signals[-1]["seq"] == str(len(signals))


async def test_there_is_none_while_the_agent_sends_other_signals() -> None:
    async with in_process(heartbeat_ms=HEARTBEAT_MS) as fabric, fabric.agent("A") as agent:
        for pause_ms in (5, 20, 50, 150, 5, 80):
            for _ in range(3):
                await fabric.advance(pause_ms / 1000)
                await agent.progress(1)
        await fabric.settle()
        pauses = pauses_before_heartbeats(rows(fabric, S.log, kind="signal"))
    assert pauses == 3 * [HEARTBEAT_MS], "each long pause had one"


async def test_a_heartbeat_that_had_to_wait_for_its_turn_is_not_sent(
    server: RunningServer, proxy: Callable[[RunningServer], Proxy]
) -> None:
    """The slow signal before it has already shown that the agent is alive."""
    between = proxy(server)
    async with (
        connected(between.url, heartbeat_ms=HEARTBEAT_MS) as fabric,
        fabric.agent("A") as agent,
    ):
        held = between.fault(Fault.DELAY_REPLY, carrying(b"PROGRESS"))
        sending = asyncio.create_task(agent.progress(1))
        await eventually(lambda: held.landed, "it is under way")
        await asyncio.sleep(2 * HEARTBEAT_MS / 1000)  # a heartbeat falls due meanwhile
        between.lift(held)
        await sending
        await agent.progress(2)
    sent = [row["type"] for row in rows(server, SIGNALS)]
    start = sent.index("PROGRESS")
    assert sent[start : start + 2] == ["PROGRESS", "PROGRESS"]


async def test_heartbeats_continue_after_an_outage(server: RunningServer) -> None:
    async with fleet(server.url, heartbeat_ms=HEARTBEAT_MS) as fabric, fabric.agent("A"):
        await eventually(lambda: rows(server, S.log, type="HEARTBEAT"), "a heartbeat")
        server.cli("CLIENT", "KILL", "SKIPME", "yes")
        before = len(rows(server, S.log, type="HEARTBEAT"))
        await eventually(
            lambda: len(rows(server, S.log, type="HEARTBEAT")) > before + 1, "they go on"
        )


@pytest.mark.parametrize("fault", [Fault.CUT_REQUEST, Fault.CUT_REPLY])
async def test_no_number_is_missing_after_heartbeats_that_were_given_up(
    server: RunningServer, proxy: Callable[[RunningServer], Proxy], fault: Fault
) -> None:
    between = proxy(server)
    async with (
        fleet(server.url),
        connected(between.url, heartbeat_ms=HEARTBEAT_MS, emit_limit_ms=0) as fabric,
        fabric.agent("A") as agent,
    ):
        cut = between.fault(fault, carrying(b"HEARTBEAT"), times=3)
        await eventually(lambda: cut.struck == 3, "three are given up")
        await agent.progress(50)
        await eventually(lambda: rows(server, S.log, type="PROGRESS"), "it is decided")
        sent = rows(server, S.log, kind="signal")
        assert [row["seq"] for row in sent] == [str(n + 1) for n in range(len(sent))]
        told = [row.payload["code"] for row in rows(server, S.log, type="NOTICE")]
        assert "SKIPPED" not in told


async def test_heartbeats_end_with_the_agent() -> None:
    async with in_process(heartbeat_ms=HEARTBEAT_MS) as fabric, fabric.agent("A") as agent:
        await agent.complete()
        async with fabric.agent("B"):
            await fabric.advance(10 * HEARTBEAT_MS / 1000)
        assert rows(fabric, S.log, type="HEARTBEAT", emitter="B")
        assert rows(fabric, S.log, kind="signal", emitter="A")[-1]["type"] == "COMPLETED"


async def test_an_announced_silence_holds_until_the_next_other_signal() -> None:
    def quiet_ms() -> int:
        agent = records(fabric, S.agents)["A"]
        return int(max(0, agent.get("quiet_until_ms", 0) - agent["started_ms"]))

    async with in_process(heartbeat_ms=HEARTBEAT_MS) as fabric, fabric.agent("A") as agent:
        await agent.heartbeat(expect_ms=60_000)
        await fabric.advance(3.5 * HEARTBEAT_MS / 1000)
        assert len(rows(fabric, S.log, type="HEARTBEAT")) > 1, "they go on by themselves"
        assert quiet_ms() >= 60_000
        await agent.progress(50)
        await fabric.settle()
        assert quiet_ms() == 0
        await agent.progress(60, expect_ms=90_000)
        await fabric.settle()
        assert quiet_ms() >= 90_000
