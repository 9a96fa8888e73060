"""What workers of one group say of themselves, and what they do about it."""

from collections.abc import Callable

import pytest

from fabric.core.rules import Rules
from fabric.store.keys import ORCHESTRATORS, Namespace
from fabric.wire.worker import WorkerRecord, decode, encode
from tests.support.in_process import serving
from tests.support.keyspace import add, rows, session, values
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, carrying
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

WORKERS = Namespace().workers(ORCHESTRATORS)
LEASE = Namespace().partition(0).lease(ORCHESTRATORS)


def records(server: RunningServer) -> dict[str, WorkerRecord]:
    found = {name: decode(said.encode()) for name, said in values(server, WORKERS).items()}
    return {name: record for name, record in found.items() if record is not None}


async def test_a_worker_says_who_it_is_and_takes_it_back(server: RunningServer) -> None:
    async with serving(server.url, name="a"):
        await eventually(lambda: "a" in records(server), "it has said so")
        record = records(server)["a"]
        assert record.until_ms > record.began_ms > 0
        assert record.host
        assert not record.rests
        assert abs(record.clock_ms) < 5_000
    assert records(server) == {}


async def test_one_name_two_processes(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server.url, name="w", lease_ms=400):
        await eventually(lambda: values(server, LEASE).get("owner"), "it serves")
        epoch = values(server, LEASE)["epoch"]
        async with serving(server.url, name="w", lease_ms=400):
            await eventually(lambda: "is called 'w'" in caplog.text, "the second says so")
            add(server, session="s", type="PROGRESS", emitter="A")
            await eventually(lambda: rows(server, session("s").log), "the first serves on")
            assert values(server, LEASE)["epoch"] == epoch
        assert "w" in records(server), "the second one took nothing with it"


async def test_a_name_is_free_when_its_process_is_gone(server: RunningServer) -> None:
    dead = WorkerRecord("other", "h", 1, "", "", began_ms=1, until_ms=2)
    server.cli("HSET", WORKERS, "w", encode(dead).decode())
    async with serving(server.url, name="w"):
        await eventually(lambda: records(server)["w"].instance != "other", "it is taken")


@pytest.mark.parametrize("stored", ["", "{}", "[1]", "x" * 10_000])
async def test_a_record_that_is_none_is_replaced(server: RunningServer, stored: str) -> None:
    server.cli("HSET", WORKERS, "w", stored, "other", stored)
    async with serving(server.url, name="w"):
        await eventually(lambda: "w" in records(server), "it has said who it is")


async def test_workers_with_other_rules_are_an_alarm(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server.url, name="a", lease_ms=400):
        await eventually(lambda: values(server, LEASE).get("rules"), "the lease names the rules")
        async with serving(server.url, rules=Rules(hops_max=3), name="b", lease_ms=400):
            await eventually(lambda: "give all of them the same" in caplog.text, "an alarm")
    before = values(server, LEASE)["rules"]
    async with serving(server.url, rules=Rules(hops_max=4), name="c", lease_ms=400):
        await eventually(lambda: "the holder before worked by" in caplog.text, "it is said")
        assert values(server, LEASE)["rules"] != before


async def test_a_worker_far_from_the_server_rests_while_a_near_one_is_there(
    server: RunningServer, proxy: Callable[[RunningServer], Proxy]
) -> None:
    far = proxy(server)
    async with serving(far.url, name="far", lease_ms=1_000):
        await eventually(lambda: values(server, LEASE).get("owner") == "far", "alone, it serves")
        async with serving(server.url, name="near", lease_ms=1_000):
            await eventually(lambda: "near" in records(server), "it has company")
            far.delay_s = 0.15
            await eventually(lambda: records(server)["far"].rests, "it rests")
            await eventually(lambda: values(server, LEASE)["owner"] == "near", "the other serves")
            far.delay_s = 0
        await eventually(lambda: values(server, LEASE)["owner"] == "far", "alone again")


async def test_a_worker_that_is_not_heard_gives_its_share_up(
    server: RunningServer, proxy: Callable[[RunningServer], Proxy]
) -> None:
    """Its renewals come through, what it says of itself does not: its peers hold it for dead."""
    between = proxy(server)
    async with serving(between.url, name="x", lease_ms=400):
        await eventually(lambda: values(server, LEASE).get("owner") == "x", "it serves")
        async with serving(server.url, name="a", lease_ms=400):
            await eventually(lambda: "a" in records(server), "a peer is there")
            between.fault(Fault.CUT_REQUEST, carrying(b":replicas:"), times=1_000_000)
            await eventually(lambda: values(server, LEASE)["owner"] == "a", "the peer serves")
