"""The store on a cluster whose primaries die, freeze, are replaced or are missing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from fabric.errors import ServerError, UnavailableError, UnreachableError
from fabric.store import connection
from fabric.store.keys import Namespace
from fabric.store.redis import RedisStore
from tests.store.backend import commit, hold, note
from tests.support.cluster import Cluster
from tests.support.node import wait
from tests.support.outage import emit, emitted, outlast
from tests.support.servers import FLAVOUR_DEFAULT
from tests.support.waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Longer than a failover takes, so that a read that ends sooner was ended by it.
LONG_READ_MS = 25_000

NAMES = Namespace().partition(0)
LOG = NAMES.session("s").log


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[RedisStore]:
    store = RedisStore(cluster.url, name="test")
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_a_primary_that_is_gone(
    cluster: Cluster, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its replica takes over, without the scripts; other partitions continue meanwhile."""
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


async def test_a_planned_failover(cluster: Cluster) -> None:
    """The old primary redirects every request to the new one, blocked ones too."""
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
    """CLUSTERDOWN: every partition is refused; all continue when the lost slots are back."""
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
