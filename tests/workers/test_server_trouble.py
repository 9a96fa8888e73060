"""The server goes away, refuses, or loses data, while a worker works on it."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from fabric.store import connection
from fabric.store.keys import ORCHESTRATORS, Namespace
from tests.support.in_process import serving
from tests.support.keyspace import (
    LEASE,
    RESULTS,
    SIGNALS,
    is_settled,
    results,
    rows,
    session,
    values,
)
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, command, script
from tests.support.servers import RunningServer, flavours
from tests.support.waiting import eventually

S = session("s")


@pytest.fixture(autouse=True)
def _verbose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fabric")


async def settle(server: RunningServer, *numbers: int) -> None:
    """Wait until that many signals have taken effect, once, and in order."""
    await eventually(
        lambda: is_settled(server) and len(heard(server)) >= len(numbers),
        lambda: f"{numbers} take effect; {heard(server)} have",
    )
    assert heard(server) == list(numbers)
    assert len(rows(server, RESULTS)) == len(numbers)


def heard(server: RunningServer) -> list[int]:
    return [int(row["seq"]) for row in rows(server, S.log, kind="signal")]


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "ALARM" in record.message]


@pytest.mark.server
@pytest.mark.parametrize("flavour", flavours())
@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_the_server_restarts(
    start: Callable[..., RunningServer], flavour: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With `appendfsync always` nothing is lost, and nothing acts twice."""
    server = start(flavour, "--appendonly", "yes", "--appendfsync", "always")
    async with serving(server.url):
        results(server, 1, 2, 3)
        await settle(server, 1, 2, 3)
        epoch = int(values(server, LEASE)["epoch"])
        server.stop() if way == "stop" else server.kill()
        await eventually(lambda: len(alarms(caplog)) == 2, "replica and partition raise an alarm")
        server.start()
        results(server, 4, 5)
        await settle(server, 1, 2, 3, 4, 5)
        assert int(values(server, LEASE)["epoch"]) > epoch
        await eventually(lambda: caplog.text.count("works again") == 2, "it says so")
    assert len(alarms(caplog)) == 2


async def test_the_group_is_destroyed(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server.url):
        results(server, 1)
        await settle(server, 1)
        assert server.cli("XGROUP", "DESTROY", SIGNALS, ORCHESTRATORS) == 1
        results(server, 2, 3)
        await settle(server, 1, 2, 3)
    (group,) = server.cli("XINFO", "GROUPS", SIGNALS)
    assert group[group.index("last-delivered-id") + 1] == values(server, LEASE)["committed"]
    assert alarms(caplog) == []


async def test_the_group_is_destroyed_before_anybody_serves(server: RunningServer) -> None:
    """Signals sent before the group was made again are not skipped."""
    async with serving(server.url):
        results(server, 1)
        await settle(server, 1)
    results(server, 2)
    server.cli("XGROUP", "DESTROY", SIGNALS, ORCHESTRATORS)
    results(server, 3)
    async with serving(server.url):
        await settle(server, 1, 2, 3)


async def test_somebody_takes_signals_with_the_groups_name(server: RunningServer) -> None:
    """XREADGROUP by hand takes nothing away, and leaves nothing pending."""
    server.cli("XGROUP", "CREATE", SIGNALS, ORCHESTRATORS, "0", "MKSTREAM")
    results(server, 1, 2)
    taken = server.cli(
        *("XREADGROUP", "GROUP", ORCHESTRATORS, "me", "COUNT", 10, "STREAMS", SIGNALS, ">")
    )
    assert len(taken[0][1]) == 2
    async with serving(server.url):
        await settle(server, 1, 2)
        await eventually(
            lambda: server.cli("XPENDING", SIGNALS, ORCHESTRATORS)[0] == 0, "nothing is pending"
        )


async def test_the_server_is_read_only_for_a_while(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server.url):
        results(server, 1)
        await settle(server, 1)
        server.cli("REPLICAOF", "127.0.0.1", "1")
        try:
            await eventually(lambda: "read only replica" in str(alarms(caplog)), "an alarm")
            assert all("UNAVAILABLE" in alarm for alarm in alarms(caplog)), alarms(caplog)
        finally:
            server.cli("REPLICAOF", "NO", "ONE")
        results(server, 2)
        await settle(server, 1, 2)
        await eventually(lambda: "works again" in caplog.text, "it says so")


async def test_the_server_is_out_of_memory_for_a_while(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server.url):
        results(server, 1)
        await settle(server, 1)
        results(server, 2)
        await settle(server, 1, 2)
        server.cli("CONFIG", "SET", "maxmemory", "1")
        try:
            await eventually(lambda: alarms(caplog), "an alarm is raised")
            assert all("UNAVAILABLE" in alarm for alarm in alarms(caplog)), alarms(caplog)
            assert "out of memory" in alarms(caplog)[0]
        finally:
            server.cli("CONFIG", "SET", "maxmemory", "0")
        results(server, 3)
        await settle(server, 1, 2, 3)


async def test_permissions_are_taken_away_for_a_while(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server.url):
        results(server, 1)
        await settle(server, 1)
        server.cli("ACL", "SETUSER", "default", "-@all", "+acl")
        try:
            await eventually(lambda: len(alarms(caplog)) == 2, "replica and partition say so")
            assert "ACL" in str(alarms(caplog))
        finally:
            server.cli("ACL", "SETUSER", "default", "+@all")
        results(server, 2)
        await settle(server, 1, 2)
    assert "internal error" not in caplog.text


async def test_all_is_flushed(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    """The fabric begins anew, above every epoch there was; no old state comes back."""
    async with serving(server.url):
        results(server, 1, 2)
        await settle(server, 1, 2)
        epoch = int(values(server, LEASE)["epoch"])
        server.cli("FLUSHALL")
        results(server, 1)
        await settle(server, 1)
        assert int(values(server, LEASE)["epoch"]) > epoch
        assert rows(server, S.log)[0].id == "1-0"
        await eventually(
            lambda: server.cli("HGET", Namespace().meta, "partitions") or True, "it is served"
        )


async def test_only_the_lease_is_lost(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails closed: without an epoch, a stale worker looks like a new one."""
    async with serving(server.url):
        results(server, 1)
        await settle(server, 1)
        server.cli("DEL", LEASE)
        await eventually(lambda: alarms(caplog), "an alarm is raised")
        assert "UNSEEDED" in alarms(caplog)[0]
        results(server, 2)
        assert server.cli("XLEN", SIGNALS) == 1
    assert heard(server) == [1]


async def test_scripts_are_forgotten(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server.url):
        for number in range(1, 6):
            server.cli("SCRIPT", "FLUSH")
            results(server, number)
            await settle(server, *range(1, number + 1))
    assert alarms(caplog) == []


async def test_all_connections_are_killed(server: RunningServer) -> None:
    async with serving(server.url):
        for number in range(1, 6):
            results(server, number)
            server.cli("CLIENT", "KILL", "SKIPME", "yes")
            await settle(server, *range(1, number + 1))


@pytest.mark.parametrize("what", ["commit", "XREAD", "renew", "beat"])
async def test_a_reply_never_comes(
    server: RunningServer,
    proxy: Callable[[RunningServer], Proxy],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """A half-open connection: given up after a while, and the effects are there once."""
    between = proxy(server)
    match = command(what) if what.isupper() else script(what)
    async with serving(between.url):
        results(server, 1)
        await settle(server, 1)
        monkeypatch.setattr(connection, "REPLY_MS_MAX", 200)
        lost = between.fault(Fault.SWALLOW_REPLY, match)
        results(server, 2)
        await eventually(lambda: lost.landed, "a reply was lost")
        results(server, 3)
        await settle(server, 1, 2, 3)


async def test_a_backlog_leaves_nothing_behind(server: RunningServer) -> None:
    """While more is waiting, whole nodes of the stream are trimmed; at the end, every entry."""
    numbers = range(1, 1_025)
    results(server, *numbers)
    async with serving(server.url, batch_signals_max=32):
        await settle(server, *numbers)
        assert server.cli("XLEN", SIGNALS) == 0
    (group,) = server.cli("XINFO", "GROUPS", SIGNALS)
    assert group[group.index("pending") + 1] == 0


async def test_two_workers_of_one_name_do_no_harm(server: RunningServer) -> None:
    """They take the lease from each other; what one does not finish, the other does."""
    async with serving(server.url, name="same"), serving(server.url, name="same"):
        for number in range(1, 40):
            results(server, number)
            await asyncio.sleep(0)
        await settle(server, *range(1, 40))
