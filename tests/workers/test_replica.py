"""Partitions change hands: a replica joins, leaves, is cut off; no signal is lost or acts twice."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from fabric.client.fabric import Fabric
from fabric.store.keys import ORCHESTRATORS, Namespace, partition_of
from fabric.store.port import Lease
from fabric.store.redis import RedisStore
from tests.support.in_process import serving
from tests.support.keyspace import add, rows, session, values
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.waiting import eventually
from workers.replica import share

PARTITIONS = 6
FLAGS: dict[str, Any] = {"partitions": PARTITIONS, "lease_ms": 400}

#: One session in each partition.
SESSIONS = [
    next(name for name in (f"s{n}" for n in itertools.count()) if partition_of(name, 6) == number)
    for number in range(PARTITIONS)
]


def owners(server: RunningServer) -> dict[int, str]:
    """Return the holder of each partition."""
    found = {}
    for number in range(PARTITIONS):
        lease = Namespace().partition(number).lease(ORCHESTRATORS)
        found[number] = values(server, lease).get("owner", "")
    return found


def shared_out(server: RunningServer, *names: str) -> bool:
    """Whether each replica has its share."""
    expected = {number: name for name in names for number in share(name, PARTITIONS, list(names))}
    return owners(server) == expected


class Speaker:
    """Sends signals to every session until told to stop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.said = 0
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with Fabric.connect(self._url, partitions=PARTITIONS) as fabric:
            while not self._stop.is_set():
                self.said += 1
                signal = {
                    "type": "PARTIAL_RESULT", "emitter": "A", "seq": self.said, "incarnation": 1,
                    "payload": {"partial": {"n": self.said}},
                }  # fmt: skip
                await fabric.emit({**signal, "session": name} for name in SESSIONS)
                await asyncio.sleep(0.005)  # a pace, so that the run is spread over the changes

    async def finish(self, server: RunningServer) -> None:
        """Stop, and check that every signal acted once."""
        self._stop.set()
        await self._running
        await eventually(lambda: _ingress(server) == 0, "all is handled")
        for name in SESSIONS:
            keys = session(name, partitions=PARTITIONS)
            logged = rows(server, keys.log, kind="signal")
            assert [int(row["seq"]) for row in logged] == list(range(1, self.said + 1)), name
            part = Namespace().partition(partition_of(name, PARTITIONS))
            causes = [row["cause"] for row in rows(server, part.results)]
            assert causes == [row.id for row in logged]


def _ingress(server: RunningServer) -> int:
    return sum(
        int(server.cli("XLEN", Namespace().partition(number).signals))
        for number in range(PARTITIONS)
    )


async def test_one_joins_and_leaves(server: RunningServer) -> None:
    speaker = Speaker(server.url)
    async with serving(server.url, name="a", **FLAGS):
        await eventually(lambda: shared_out(server, "a"), "a has all")
        async with serving(server.url, name="b", **FLAGS):
            await eventually(lambda: shared_out(server, "a", "b"), lambda: str(owners(server)))
            async with serving(server.url, name="c", **FLAGS):
                await eventually(
                    lambda: shared_out(server, "a", "b", "c"), lambda: str(owners(server))
                )
        await eventually(lambda: shared_out(server, "a"), "a has all again")
        await speaker.finish(server)
    assert set(owners(server).values()) == {""}
    assert server.cli("EXISTS", Namespace().replicas(ORCHESTRATORS)) == 0


async def test_one_without_weight_serves_while_no_other_does(server: RunningServer) -> None:
    async with serving(server.url, name="far", weight=0, **FLAGS):
        await eventually(lambda: shared_out(server, "far"), lambda: str(owners(server)))
        async with serving(server.url, name="near", **FLAGS):
            await eventually(lambda: shared_out(server, "near"), lambda: str(owners(server)))
        await eventually(lambda: shared_out(server, "far"), lambda: str(owners(server)))


async def test_one_is_cut_off_and_comes_back(
    server: RunningServer, proxy: Callable[[RunningServer], Proxy]
) -> None:
    speaker = Speaker(server.url)
    between = proxy(server)
    async with serving(server.url, name="a", **FLAGS), serving(between.url, name="b", **FLAGS):
        await eventually(lambda: shared_out(server, "a", "b"), lambda: str(owners(server)))
        between.refuse()
        await eventually(lambda: shared_out(server, "a"), "a has taken over")
        between.accept()
        await eventually(lambda: shared_out(server, "a", "b"), "b is back")
        await speaker.finish(server)


async def test_a_lease_that_is_held_is_waited_for(server: RunningServer) -> None:
    other = RedisStore(server.url)
    held = await other.acquire(0, ORCHESTRATORS, "other", "1", 60_000)
    assert isinstance(held, Lease)
    replicas = Namespace().replicas(ORCHESTRATORS)
    async with serving(server.url, name="a"):
        await eventually(lambda: server.cli("ZCARD", replicas) == 1, "a is there")
        add(server, session="s", type="PROGRESS", emitter="A")
        assert await other.renew(held, 60_000)
        assert rows(server, session("s").log) == []
        await other.release(held)
        await eventually(lambda: rows(server, session("s").log), "a has taken it")
    await other.close()


def _lease() -> str:
    return Namespace().partition(0).lease(ORCHESTRATORS)


@pytest.mark.parametrize("stored", ["0", "-1", "many"])
async def test_a_nonsensical_number_of_partitions_is_an_alarm(
    server: RunningServer, stored: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.cli("HSET", Namespace().meta, "partitions", stored)
    async with serving(server.url):
        await eventually(lambda: "ALARM" in caplog.text, "an alarm is raised")
        assert "partitions" in caplog.text
        server.cli("HSET", Namespace().meta, "partitions", "1")
        await eventually(lambda: values(server, _lease()).get("owner"), "it is taken")


async def test_a_number_of_partitions_that_is_not_used_is_logged_once(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.cli("HSET", Namespace().meta, "partitions", "1", "schema", "1")
    async with serving(server.url, partitions=4, lease_ms=200):
        await eventually(lambda: values(server, _lease()).get("owner"), "it is taken")
        held = values(server, _lease())["version"]
        add(server, session="s", type="PROGRESS", emitter="A")
        await eventually(lambda: values(server, _lease())["version"] != held, "it works")
    assert caplog.text.count("has 1 partitions, not the 4") == 1
