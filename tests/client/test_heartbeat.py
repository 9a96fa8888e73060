"""An agent that has nothing to say says that it is alive; one that speaks need not."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

from tests.client.fleet import S, connected, fleet
from tests.support.keyspace import SIGNALS, Row, records, rows
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, carrying
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

HEARTBEAT_MS = 100

#: Clocks are read in whole milliseconds, on both sides.
ROUNDING_MS = 3


def pauses_before_heartbeats(sent: list[Row]) -> list[int]:
    """Server time from a signal to the heartbeat that came next, ms."""
    times = [(int(row.id.partition("-")[0]), row["type"]) for row in sent]
    return [after - before for (before, _), (after, kind) in pairwise(times) if kind == "HEARTBEAT"]


async def test_the_silent_are_heard_of(server: RunningServer) -> None:
    async with fleet(server.url, heartbeat_ms=HEARTBEAT_MS) as fabric, fabric.agent("A"):
        await eventually(
            lambda: len(rows(server, S.log, type="HEARTBEAT")) >= 3, "three heartbeats"
        )
        agent = records(server, S.agents)["A"]
        assert agent["last_signal"] == "STARTED"
        assert agent["seen_ms"] > agent["started_ms"]
    ended = rows(server, S.log)[-1]["seq"]
    assert ended == str(len(rows(server, S.log, kind="signal")))


async def test_there_is_none_while_something_else_is_said(server: RunningServer) -> None:
    async with (
        connected(server.url, heartbeat_ms=HEARTBEAT_MS) as fabric,
        fabric.agent("A") as agent,
    ):
        for pause_ms in (5, 20, 50, 150, 5, 80):
            for _ in range(3):
                await asyncio.sleep(pause_ms / 1000)  # some speak often, some seldom
                await agent.progress(1)
    sent = rows(server, SIGNALS)
    pauses = pauses_before_heartbeats(sent)
    assert pauses, "the long pauses had one each"
    assert min(pauses) >= HEARTBEAT_MS - ROUNDING_MS


async def test_one_that_had_to_wait_for_its_turn_is_not_sent(
    server: RunningServer, proxy: Callable[[RunningServer], Proxy]
) -> None:
    """The signal before it took long: when it is through, it has shown that the agent lives."""
    between = proxy(server)
    async with (
        connected(between.url, heartbeat_ms=HEARTBEAT_MS) as fabric,
        fabric.agent("A") as agent,
    ):
        held = between.fault(Fault.DELAY_REPLY, carrying(b"PROGRESS"))
        sending = asyncio.create_task(agent.progress(1))
        await eventually(lambda: held.landed, "it is under way")
        await asyncio.sleep(2 * HEARTBEAT_MS / 1000)  # one falls due meanwhile
        between.lift(held)
        await sending
        await agent.progress(2)
    sent = [row["type"] for row in rows(server, SIGNALS)]
    start = sent.index("PROGRESS")
    assert sent[start : start + 2] == ["PROGRESS", "PROGRESS"]


async def test_they_go_on_after_the_server_was_away(server: RunningServer) -> None:
    async with fleet(server.url, heartbeat_ms=HEARTBEAT_MS) as fabric, fabric.agent("A"):
        await eventually(lambda: rows(server, S.log, type="HEARTBEAT"), "a heartbeat")
        server.cli("CLIENT", "KILL", "SKIPME", "yes")
        before = len(rows(server, S.log, type="HEARTBEAT"))
        await eventually(
            lambda: len(rows(server, S.log, type="HEARTBEAT")) > before + 1, "they go on"
        )


async def test_they_end_with_the_agent(server: RunningServer) -> None:
    async with (
        connected(server.url, heartbeat_ms=HEARTBEAT_MS) as fabric,
        fabric.agent("A") as agent,
    ):
        await agent.complete()
        async with fabric.agent("B"):
            await eventually(
                lambda: len(rows(server, SIGNALS, type="HEARTBEAT", emitter="B")) >= 2,
                "the other's heart beats",
            )
    assert rows(server, SIGNALS, emitter="A")[-1]["type"] == "COMPLETED"
