"""The store behind real sentinels, during failovers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from fabric import doctor
from fabric.doctor import Level
from fabric.errors import (
    ConfigError,
    ServerError,
    UnavailableError,
    UnreachableError,
)
from fabric.store import scripts
from fabric.store.address import redacted
from fabric.store.redis import RedisStore
from tests.store.backend import commit, hold, note
from tests.support.node import HOST
from tests.support.outage import emit, emitted, outlast
from tests.support.sentinel import SERVICE, Sentinels
from tests.support.servers import FLAVOUR_DEFAULT, flavours
from tests.support.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Longer than a failover takes, so that a read that ends sooner was ended by it.
LONG_READ_MS = 25_000

StartSentinels = Callable[..., Sentinels]


@pytest.fixture
def start() -> Iterator[StartSentinels]:
    """Starts sentinels and the servers they watch; all end with the test."""
    running: list[Sentinels] = []

    def start_one(
        flavour: str = FLAVOUR_DEFAULT, *options: str, min_replicas: int = 0
    ) -> Sentinels:
        running.append(Sentinels(flavour, *options, min_replicas=min_replicas))
        return running[-1]

    yield start_one
    for one in running:
        one.close()


@asynccontextmanager
async def connected(url: str, *, wait_replicas: int = 0) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, name="test", wait_replicas=wait_replicas)
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("flavour", flavours())
async def test_a_planned_failover(start: StartSentinels, flavour: str) -> None:
    """The replica that takes over has neither the scripts nor our connection.

    The old primary still accepts writes for some seconds, which are lost: WAIT tells.
    """
    service = start(flavour)
    async with connected(service.url, wait_replicas=1) as store:
        assert await store.partitions() == 1
        assert await store.address() == service.primary.address
        await emit(store, 1)
        service.wait_healthy()
        before = service.primary
        after = service.failover()
        assert after.cli("SCRIPT", "EXISTS", scripts.digest("emit")) == [0]
        errors: list[ServerError] = []
        await outlast(lambda: emit(store, 2), errors)
        assert await emitted(store) == [1, 2]
        assert await store.address() == after.address != before.address
        assert errors


async def test_an_old_primary_that_still_accepts_writes(start: StartSentinels) -> None:
    """For ten seconds nothing tells its clients, so they ask the sentinels regularly."""
    service = start()
    async with connected(service.url) as store:
        await emit(store, 1)
        service.wait_healthy()
        before = service.primary
        after = await asyncio.to_thread(service.failover)
        assert before.info("replication")["role"] == "master"

        async def arrives() -> bool:
            await emit(store, 2)
            return bool(after.cli("XLEN", "fabric:{0}:signals") > 1)

        await eventually(arrives, "signals go to the new primary")
        assert before.info("replication")["role"] == "master"


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_a_primary_that_is_gone(start: StartSentinels, way: str) -> None:
    service = start()
    async with connected(service.url) as store:
        lease = await hold(store)
        await commit(store, lease, note("fabric:{0}:s:log", "first"))
        service.wait_healthy()
        gone = service.primary
        gone.kill() if way == "kill" else gone.freeze()
        errors: list[ServerError] = []
        await outlast(lambda: emit(store, 1), errors)
        assert isinstance(errors[0], UnreachableError)
        assert service.wait_primary(other_than=gone).address == await store.address()
        # The lease was replicated: nobody else may commit, and its holder still can.
        assert await outlast(lambda: commit(store, lease, version=1)) > lease.now_ms
        assert await store.length("fabric:{0}:s:log") == 1


async def test_a_blocked_read_ends_with_the_primary(start: StartSentinels) -> None:
    service = start()
    async with connected(service.url) as store:
        first = await emit(store, 1)
        reading = asyncio.create_task(
            store.read(0, "orchestrators", first, 10, block_ms=LONG_READ_MS)
        )
        await eventually(lambda: "blocked_clients:1" in service.primary.cli("INFO", "clients"))
        service.wait_healthy()
        service.failover()
        with pytest.raises((UnavailableError, UnreachableError)):
            await reading
        await outlast(lambda: emit(store, 2))
        entries = await outlast(lambda: store.read(0, "orchestrators", first, 10, block_ms=100))
        assert [fields[1] for _, fields in entries] == [b"2"]


async def test_a_former_primary_is_not_used(start: StartSentinels) -> None:
    """The sentinels still name it, so the server itself has to say what it is."""
    service = start()
    async with connected(service.url) as store, connected(service.url) as newcomer:
        await emit(store, 1)
        primary, other = service.primary, service.replicas[0]
        for sentinel in service.sentinels:
            sentinel.freeze()  # so that they do not correct it
        primary.cli("REPLICAOF", HOST, other.port)
        with pytest.raises(UnavailableError, match="read only"):
            await emit(store, 2)
        for sentinel in service.sentinels:
            sentinel.thaw()
        with pytest.raises(UnreachableError, match="no primary any more") as caught:
            await emit(newcomer, 3)
        assert caught.value.never_sent


async def test_sentinels_that_do_not_answer_are_skipped(start: StartSentinels) -> None:
    service = start()
    service.sentinels[0].kill()
    service.sentinels[1].freeze()
    async with connected(service.url) as store:
        await emit(store, 1)
        assert await emitted(store) == [1]
    service.sentinels[2].kill()
    async with connected(service.url) as store:
        with pytest.raises(UnreachableError, match=f"name no primary of {SERVICE}") as caught:
            await emit(store, 2)
        assert caught.value.never_sent


async def test_users_and_passwords(start: StartSentinels) -> None:
    service = start()
    for node in service.nodes:
        node.cli("ACL", "SETUSER", "data", "on", ">p@w/d", "~*", "&*", "+@all")
    for sentinel in service.sentinels:
        sentinel.cli("ACL", "SETUSER", "watch", "on", ">secret", "~*", "&*", "+@all")
        sentinel.cli("ACL", "SETUSER", "default", "off")
    place = service.url.removeprefix("redis+sentinel://")
    url = f"redis+sentinel://data:p%40w%2Fd@{place}/0?sentinel_username=watch&sentinel_password="
    async with connected(url + "secret") as store:
        assert await store.call("ACL", "WHOAMI") == b"data"
    async with connected(url + "wrong") as store:
        with pytest.raises(UnreachableError, match="does not let us in") as caught:
            await store.call("PING")
        assert "wrong" not in str(caught.value)


async def test_too_few_replicas_for_a_write(start: StartSentinels) -> None:
    """`min-replicas-to-write`: a clean refusal; nothing was written, and it ends by itself."""
    service = start(min_replicas=1)
    async with connected(service.url) as store:
        lease = await hold(store)
        await emit(store, 1)
        for node in service.replicas:
            node.freeze()

        async def is_refused() -> bool:
            try:
                await store.renew(lease, 60_000)
            except UnavailableError as error:
                return "NOREPLICAS" in str(error)
            return False

        await eventually(is_refused, "the primary misses its replicas")
        with pytest.raises(UnavailableError, match="NOREPLICAS"):
            await commit(store, lease, note("fabric:{0}:s:log"))
        with pytest.raises(UnavailableError, match="NOREPLICAS") as caught:
            await emit(store, 2)
        assert not caught.value.took_effect
        for node in service.nodes:
            if node.frozen:
                node.thaw()
        await outlast(lambda: commit(store, lease, note("fabric:{0}:s:log")))
        await outlast(lambda: emit(store, 3))
        assert await emitted(store) == [1, 3]
        assert await store.length("fabric:{0}:s:log") == 1


async def test_a_url_that_names_a_sentinel_as_a_server(start: StartSentinels) -> None:
    service = start()
    async with connected(service.sentinels[0].url) as store:
        with pytest.raises(ConfigError, match=r"redis\+sentinel://"):
            await store.partitions()


async def test_the_doctor_examines_the_primary(start: StartSentinels) -> None:
    service = start()
    async with connected(service.url) as store:
        report = await doctor.examine(store, redacted(service.url), None)
    found = {finding.check: finding for finding in report.findings}
    assert report.exit_code == 0
    assert found["replication"].level is Level.WARN
    assert found["replication"].found.startswith("2 replicas")
    assert found["reachable"].found == service.url
