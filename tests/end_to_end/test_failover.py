"""Primaries die and slots move: agents and workers go on, and no signal is missing.

`wait_replicas` is set, so a failover loses no acknowledged signal.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fabric.store.cluster import slot
from fabric.store.keys import Namespace, partition_of
from tests.end_to_end.convoy import SESSIONS, convoy, judge
from tests.support.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.sentinel import Sentinels
from tests.support.servers import FLAVOUR_DEFAULT

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.chaos]

#: Signals of each agent before, during and after a change of the servers.
STEP = 40

StartDaemon = Callable[..., Daemon]


@pytest.fixture
def service() -> Iterator[Sentinels]:
    with Sentinels(FLAVOUR_DEFAULT) as running:
        yield running


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(FLAVOUR_DEFAULT) as running:
        yield running


async def aside(work: Callable[[], object]) -> None:
    """Do something to the servers in a thread, while the agents of this process work."""
    await asyncio.to_thread(work)


def workers(daemon: StartDaemon, url: str) -> list[Daemon]:
    start = partial(daemon, url, rules=Path(__file__).with_name("unlimited.toml"))
    return [start(), start(), start(worker="synthesizer")]


def check(running: list[Daemon]) -> None:
    """Check that all workers run, and that they met expected errors only."""
    for one in running:
        assert one.is_alive
        assert "Traceback" not in one.said(), one.said()


@pytest.mark.parametrize(
    ("way", "wait_replicas"),
    # While the old primary is alive, the other replica follows it for a while.
    [("kill", 1), ("freeze", 1), ("failover", 2)],
)
async def test_sentinels(
    daemon: StartDaemon, service: Sentinels, way: str, wait_replicas: int
) -> None:
    running = workers(daemon, service.url)
    async with convoy(service.url, wait_replicas=wait_replicas) as agents:
        await aside(service.wait_healthy)
        before = service.primary
        if way == "failover":
            await aside(service.failover)
            await aside(service.wait_healthy)  # until the old primary refuses writes
        else:
            before.kill() if way == "kill" else before.freeze()
            await aside(lambda: service.wait_primary(other_than=before))
        await agents.advance(STEP)
    await judge(service.url, agents.sent)
    check(running)


async def test_a_primary_of_a_cluster_dies(daemon: StartDaemon, cluster: Cluster) -> None:
    running = workers(daemon, cluster.url)
    async with convoy(cluster.url, wait_replicas=1) as agents:
        for number in (0, 1):
            killed = cluster.kill_primary(number)
            await aside(lambda: cluster.wait_healthy(of=5))
            await aside(killed.start)
            await aside(lambda: cluster.wait_healthy(of=6))
            await agents.advance(STEP)
    await judge(cluster.url, agents.sent)
    check(running)


async def test_failovers_in_order_of_a_cluster(daemon: StartDaemon, cluster: Cluster) -> None:
    running = workers(daemon, cluster.url)
    async with convoy(cluster.url, wait_replicas=1) as agents:
        for number in range(3):
            await aside(partial(cluster.failover, number))
            await aside(lambda: cluster.wait_healthy(of=6))
            await agents.advance(STEP)
    await judge(cluster.url, agents.sent)
    check(running)


async def test_a_resharding(daemon: StartDaemon, cluster: Cluster) -> None:
    """Every used slot moves, key by key; one of them moves twice."""
    running = workers(daemon, cluster.url)
    async with convoy(cluster.url, wait_replicas=0) as agents:
        namespace = Namespace()
        used = [namespace.partition(partition_of(f"s{n}", 64)).signals for n in range(SESSIONS)]
        for key in [*used, namespace.meta, used[0]]:
            source = cluster.owner(key)
            target = next(node for node in cluster.primaries if node is not source)
            await aside(partial(cluster.move_slots, [slot(key)], source, target))
            await agents.advance(1)
        await agents.advance(STEP)
    await judge(cluster.url, agents.sent)
    check(running)
