"""The store on a cluster: real nodes, slots that move and primaries that go while it is at work."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from fabric.errors import FencedError, ServerError, UnavailableError, UnreachableError
from fabric.store import connection
from fabric.store.cluster import slot
from fabric.store.keys import Namespace
from fabric.store.port import Batch
from fabric.store.redis import RedisStore
from tests.servers import FLAVOUR_DEFAULT, flavours
from tests.store.backend import commit, hold, note
from tests.store.outage import emit, emitted, outlast
from tests.topology.cluster import Cluster
from tests.topology.node import Node, wait
from tests.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Longer than a failover takes: a read that ends sooner was ended by it.
LONG_READ_MS = 25_000

NAMES = Namespace().partition(0)
LOG = NAMES.session("s").log
SLOT = slot(LOG)


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster(FLAVOUR_DEFAULT) as running:
        yield running


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """An empty cluster that a test may reshard, and has to leave healthy."""
    shared.wait_healthy()
    for node in shared.primaries:
        node.flush()
    return shared


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
async def test_its_partitions_lie_on_every_primary(flavour: str) -> None:
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


async def test_a_seed_that_is_gone_is_passed_over(cluster: Cluster) -> None:
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


async def test_a_slot_that_has_moved_is_followed(cluster: Cluster) -> None:
    """MOVED says that nothing was done: no caller hears of it."""
    async with connected(cluster) as store:
        lease = await hold(store)
        await emit(store, 1)
        source, target = parties(cluster)
        for version, (here, there) in enumerate([(source, target), (target, source)]):
            await commit(store, lease, note(LOG), version=2 * version)
            cluster.move_slots([SLOT], here, there)
            await emit(store, 2 + version)
            await commit(store, lease, note(LOG), version=2 * version + 1)
        assert await emitted(store) == [1, 2, 3]
        assert await store.length(LOG) == 4


async def test_a_blocked_read_goes_where_its_slot_goes(cluster: Cluster) -> None:
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
    """ASK is followed each time; what needs keys of both sides is refused whole meanwhile."""
    async with connected(cluster) as store:
        lease = await hold(store)
        await commit(store, lease, note(LOG))
        await emit(store, 1)
        source, target = parties(cluster)
        with cluster.moving(SLOT, source, target) as move:
            await emit(store, 2)  # still where it was
            move.take(NAMES.signals)
            await emit(store, 3)  # ASK
            assert await emitted(store) == [1, 2, 3]
            batch = Batch()
            batch.append(LOG, "*", ("value",), (b"2",))
            batch.append(NAMES.session("s").broadcast, "*", ("value",), (b"2",))
            with pytest.raises(UnavailableError, match="rehashing"):
                await commit(store, lease, batch, version=1)
        await commit(store, lease, batch, version=1)
        assert await store.length(LOG) == 2
        with pytest.raises(FencedError, match="another commit came first"):
            await commit(store, lease, batch, version=1)


async def test_a_scan_breaks_off_when_its_slot_moves(cluster: Cluster) -> None:
    """A cursor is worth nothing on another node."""
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


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_a_primary_that_is_gone(
    cluster: Cluster, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its replica takes over, without the scripts; other partitions go on meanwhile."""
    monkeypatch.setattr(connection, "REPLY_MS_MAX", 2_000)
    async with connected(cluster) as store:
        lease = await hold(store)
        await commit(store, lease, note(LOG))
        first = await emit(store, 1)
        gone = cluster.owner(LOG)
        replica = cluster.replica_of(gone)
        is_elsewhere = next(
            n for n in range(64) if cluster.owner(Namespace().partition(n).signals) is not gone
        )
        reading = asyncio.create_task(
            store.read(0, "orchestrators", first, 10, block_ms=LONG_READ_MS)
        )
        await eventually(lambda: "blocked_clients:1" in gone.cli("INFO", "clients"))
        written = int(gone.info("replication")["master_repl_offset"])
        wait(
            lambda: int(replica.info("replication")["slave_repl_offset"]) >= written,
            "the replica has all",
        )
        gone.kill() if way == "kill" else gone.freeze()
        await emit(store, 7, is_elsewhere)
        errors: list[ServerError] = []
        await outlast(lambda: emit(store, 2), errors)
        assert isinstance(errors[0], UnreachableError)
        assert await emitted(store) == [1, 2]
        assert await outlast(lambda: commit(store, lease, note(LOG), version=1)) > lease.now_ms
        assert await outlast(lambda: store.length(LOG)) == 2
        if way == "kill":
            with pytest.raises(UnreachableError):
                await reading
            gone.start()
        else:
            reading.cancel()
            gone.thaw()
        cluster.wait_healthy(of=6)
        assert cluster.owner(LOG) is replica


async def test_a_failover_in_order(cluster: Cluster) -> None:
    """The old primary sends everybody to the new one, who waits there too."""
    async with connected(cluster) as store:
        lease = await hold(store)
        first = await emit(store, 1)
        owner = cluster.owner(LOG)
        reading = asyncio.create_task(
            outlast(lambda: store.read(0, "orchestrators", first, 10, block_ms=LONG_READ_MS))
        )
        await eventually(lambda: "blocked_clients:1" in owner.cli("INFO", "clients"))
        cluster.wait_healthy(of=6)
        after = cluster.failover(cluster.primaries.index(owner))
        await outlast(lambda: commit(store, lease, note(LOG)))
        await eventually(lambda: "blocked_clients:1" in after.cli("INFO", "clients"))
        await outlast(lambda: emit(store, 2))
        assert [fields[1] for _, fields in await reading] == [b"2"]


async def test_a_cluster_that_does_not_serve_every_slot(
    start_cluster: Callable[[], Cluster],
) -> None:
    """CLUSTERDOWN: every partition is refused, and all go on when the lost ones are back."""
    cluster = start_cluster()
    async with connected(cluster) as store:
        await emit(store, 1)
        survivor = cluster.owner(NAMES.signals)
        lost = next(node for node in cluster.primaries if node is not survivor)
        pair = (lost, cluster.replica_of(lost))
        for node in pair:
            node.kill()

        async def is_refused() -> bool:
            try:
                await emit(store, 2)
            except UnavailableError as error:
                return "cluster is down" in str(error)
            return False

        await eventually(is_refused, "the cluster is down")
        for node in pair:
            node.start()
        await outlast(lambda: emit(store, 3))
        assert (await emitted(store))[-1] == 3


@pytest.fixture
def start_cluster() -> Iterator[Callable[[], Cluster]]:
    """Starts a cluster for this test alone: its nodes keep what they have on disk."""
    running: list[Cluster] = []

    def start() -> Cluster:
        running.append(Cluster(FLAVOUR_DEFAULT, "--appendonly", "yes"))
        return running[-1]

    yield start
    for one in running:
        one.close()
