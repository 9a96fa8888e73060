"""The server restarts or refuses for a while; the agents go on."""

import asyncio
from collections.abc import Callable

import pytest

from tests.client.fleet import S, blocked, connected, fleet, logged, said
from tests.support.keyspace import SIGNALS, rows
from tests.support.servers import RunningServer, flavours
from tests.support.waiting import eventually


@pytest.mark.server
@pytest.mark.parametrize("flavour", flavours())
async def test_agents_survive_a_restart(start: Callable[..., RunningServer], flavour: str) -> None:
    server = start(flavour, "--appendonly", "yes", "--appendfsync", "always")
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A", produces=["x"]) as maker,
        fabric.agent("B") as waiter,
    ):
        waiting = asyncio.create_task(waiter.wait_for("x", timeout=30))
        await blocked(waiter)
        server.kill()
        speaking = asyncio.create_task(maker.progress(50))
        await asyncio.sleep(0)
        server.start()
        await speaking
        await maker.resolve("x", location="x.py")
        assert await waiting == "x.py"
        await maker.complete()
        signals = await logged(server, 6)
        assert said(signals) == [
            ("A", "STARTED"), ("B", "STARTED"), ("B", "BLOCKED"),
            ("A", "PROGRESS"), ("A", "DEPENDENCY_RESOLVED"), ("A", "COMPLETED"),
        ]  # fmt: skip


@pytest.mark.parametrize("trouble", ["read-only", "out-of-memory"])
async def test_a_signal_is_retried_until_the_server_accepts_it(
    server: RunningServer, trouble: str
) -> None:
    worse = {
        "read-only": ("REPLICAOF", "127.0.0.1", "1"),
        "out-of-memory": ("CONFIG", "SET", "maxmemory", "1"),
    }
    better = {
        "read-only": ("REPLICAOF", "NO", "ONE"),
        "out-of-memory": ("CONFIG", "SET", "maxmemory", "0"),
    }
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        await agent.progress(1)
        refused = _refusals(server)
        server.cli(*worse[trouble])
        try:
            speaking = asyncio.create_task(agent.progress(2))
            await eventually(lambda: _refusals(server) > refused + 1, "it is tried again")
            assert not speaking.done()
        finally:
            server.cli(*better[trouble])
        await speaking
        await agent.progress(3)
    assert [row["seq"] for row in rows(server, SIGNALS)] == ["1", "2", "3", "4", "5"]


def _refusals(server: RunningServer) -> int:
    """Return how many scripts the server was sent: it refuses all of them for now."""
    stats = server.cli("INFO", "commandstats")
    line = next(line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:"))
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_forgotten_scripts_are_sent_again(server: RunningServer) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        for number in range(5):
            server.cli("SCRIPT", "FLUSH")
            await agent.progress(number)
    assert len(rows(server, SIGNALS)) == 7


async def test_a_flushed_server(server: RunningServer) -> None:
    """The agent goes on sending; for the fabric it is a new agent in a new session."""
    async with fleet(server.url) as fabric, fabric.agent("A") as agent:
        await agent.progress(1)
        await logged(server, 2)
        server.cli("FLUSHALL")
        await agent.progress(2)
        (signal,) = await logged(server, 1)
        assert signal.payload == {"percent": 2}
        assert rows(server, S.log)[0].id == "1-0"
