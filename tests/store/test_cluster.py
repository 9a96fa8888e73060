"""The store on a cluster of real nodes, while slots move and primaries fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fabric.errors import (
    FencedError,
    NotAllowedError,
    UnavailableError,
    UnreachableError,
)
from fabric.store.cluster import slot
from fabric.store.keys import ORCHESTRATORS, Namespace
from fabric.store.port import Batch
from fabric.store.redis import RedisStore
from tests.store.backend import commit, hold, note
from tests.support.cluster import Cluster
from tests.support.node import Node
from tests.support.outage import emit, emitted
from tests.support.servers import flavours
from tests.support.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Longer than a failover takes, so that a read that ends sooner was ended by it.
LONG_READ_MS = 25_000

NAMES = Namespace().partition(0)
LOG = NAMES.session("s").log
LEASE, NOTHING = NAMES.lease(ORCHESTRATORS), NAMES.session("none").meta
SLOT = slot(LOG)


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[RedisStore]:
    store = RedisStore(cluster.url, name="test")
    try:
        yield store
    finally:
        await store.close()


def parties(cluster: Cluster) -> tuple[Node, Node]:
    """The primary that has partition 0, and another one."""
    owner = cluster.owner(LOG)
    return owner, next(node for node in cluster.primaries if node is not owner)


@pytest.mark.parametrize("flavour", flavours())
async def test_every_primary_has_partitions(flavour: str) -> None:
    with Cluster(flavour) as running:
        store, other = RedisStore(running.url), RedisStore(running.seeds)
        try:
            assert await store.partitions() == 64
            assert await store.is_cluster()
            assert await other.partitions(8) == 64
            for number in range(64):
                assert await emitted(other, number) == []
                await emit(store, number, number)
                assert await emitted(other, number) == [number]
            for node in running.primaries:
                assert node.cli("DBSIZE") > 5
            assert list(await store.servers()) == [node.address for node in running.primaries]
        finally:
            await store.close()
            await other.close()


async def test_a_seed_that_does_not_answer_is_skipped(cluster: Cluster) -> None:
    url = cluster.seeds.replace("://", "://127.0.0.1:1,")
    store = RedisStore(url)
    try:
        await emit(store, 1)
        assert await emitted(store) == [1]
    finally:
        await store.close()
    store = RedisStore("redis+cluster://127.0.0.1:1")
    with pytest.raises(UnreachableError, match="no node of the cluster answers") as caught:
        await emit(store, 1)
    assert caught.value.never_sent
    await store.close()


async def test_a_user_without_access_gets_an_error(cluster: Cluster) -> None:
    """The cluster is not mistaken for one server either. A user with few permissions gets in."""
    for node in cluster.nodes:
        node.cli("ACL", "SETUSER", "some", "on", ">pw", "~*", "&*", "+@all", "-hello")
    for url in (cluster.url, cluster.seeds):
        store = RedisStore(url.replace("://", "://some:wrong@"))
        with pytest.raises(NotAllowedError):
            await emit(store, 1)
        for node in cluster.nodes:
            node.cli("ACL", "SETUSER", "some", ">wrong")
        assert await store.partitions() == 64
        await emit(store, 1)
        await store.close()
        for node in cluster.nodes:
            node.cli("ACL", "SETUSER", "some", "<wrong")


async def test_a_request_follows_its_slot(cluster: Cluster) -> None:
    """MOVED means that the command had no effect, so the caller does not see it."""
    async with connected(cluster) as store:
        lease = await hold(store)
        await emit(store, 1)
        source, target = parties(cluster)
        for version, (here, there) in enumerate([(source, target), (target, source)]):
            await commit(store, lease, note(LOG), version=2 * version)
            cluster.move_slots([SLOT], here, there)
            await emit(store, 2 + version)
            await commit(store, lease, note(LOG), version=2 * version + 1)
            assert [len(one) > 3 for one in await store.hashes([LEASE, NOTHING])] == [True, False]
        assert await emitted(store) == [1, 2, 3]
        assert await store.length(LOG) == 4


async def test_a_blocked_read_follows_its_slot(cluster: Cluster) -> None:
    async with connected(cluster) as store:
        first = await emit(store, 1)
        source, target = parties(cluster)
        reading = asyncio.create_task(
            store.read(0, "orchestrators", first, 10, block_ms=LONG_READ_MS)
        )
        await eventually(lambda: "blocked_clients:1" in source.cli("INFO", "clients"))
        cluster.move_slots([SLOT], source, target)
        await eventually(lambda: "blocked_clients:1" in target.cli("INFO", "clients"))
        await emit(store, 2)
        assert [fields[1] for _, fields in await reading] == [b"2"]


async def test_agents_read_several_streams_while_their_slot_moves(cluster: Cluster) -> None:
    keys = NAMES.session("s")
    after = {keys.inbox("A"): b"0-0", keys.broadcast: b"0-0"}
    async with connected(cluster) as store:
        source, target = parties(cluster)
        reading = asyncio.create_task(store.read_streams(after, 10, LONG_READ_MS))
        await eventually(lambda: "blocked_clients:1" in source.cli("INFO", "clients"))
        cluster.move_slots([SLOT], source, target)
        await eventually(lambda: "blocked_clients:1" in target.cli("INFO", "clients"))
        lease = await hold(store)
        await commit(store, lease, note(keys.broadcast))
        assert list(await reading) == [keys.broadcast]


async def test_a_slot_that_is_moving(cluster: Cluster) -> None:
    """ASK is followed each time. A commit that needs keys on both nodes is refused meanwhile."""
    async with connected(cluster) as store:
        lease = await hold(store)
        await commit(store, lease, note(LOG))
        await emit(store, 1)
        source, target = parties(cluster)
        with cluster.moving(SLOT, source, target) as move:
            await emit(store, 2)  # still on the old node
            move.take(NAMES.signals)
            assert [len(one) > 3 for one in await store.hashes([LEASE, NOTHING])] == [True, False]
            await emit(store, 3)  # ASK
            assert await emitted(store) == [1, 2, 3]
            batch = Batch()
            batch.append(LOG, "*", ("value",), ("2",))
            batch.append(NAMES.session("s").broadcast, "*", ("value",), ("2",))
            with pytest.raises(UnavailableError, match="rehashing"):
                await commit(store, lease, batch, version=1)
        await commit(store, lease, batch, version=1)
        assert await store.length(LOG) == 2
        with pytest.raises(FencedError, match="another commit came first"):
            await commit(store, lease, batch, version=1)


async def test_a_scan_ends_when_its_slot_moves(cluster: Cluster) -> None:
    """A cursor is not valid on another node."""
    key = NAMES.session("s").synthesis
    async with connected(cluster) as store:
        lease = await hold(store)
        batch = Batch()
        batch.write("HSET", key, [part for n in range(1_000) for part in (f"f{n}", "x" * 100)])
        await commit(store, lease, batch)
        scanning = store.scan(key, 10)
        assert await anext(scanning)
        cluster.move_slots([SLOT], *parties(cluster))
        with pytest.raises(UnavailableError, match="moving"):
            await anext(scanning)
        found: dict[bytes, bytes] = {}
        async for page in store.scan(key, 100):
            found |= page
        assert len(found) == 1_000
