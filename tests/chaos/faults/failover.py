"""Another server takes over: because one is gone, or seems to be, or in order; or slots move."""

from collections.abc import Iterator

from redis.crc import key_slot

from fabric.store.keys import Namespace
from tests.chaos.cluster import ClusterService
from tests.chaos.post import PARTITIONS
from tests.chaos.scene import Scene
from tests.chaos.sentinel import SentinelService
from tests.support.cluster import Cluster
from tests.support.node import Node
from tests.support.sentinel import Sentinels

NAMESPACE = Namespace()
#: Slots that are moved besides each that has keys, so that it is a range that moves.
NEIGHBOURS = 3


def _sentinels(scene: Scene) -> Sentinels:
    assert isinstance(scene.deployment, SentinelService)
    return scene.deployment.service


def _cluster(scene: Scene) -> Cluster:
    assert isinstance(scene.deployment, ClusterService)
    return scene.deployment.cluster


def kill_primary(scene: Scene) -> Iterator[str]:
    """SIGKILL of the primary; it comes back as a replica."""
    service = _sentinels(scene)
    killed = service.kill_primary()
    scene.tally.kills += 1
    scene.tally.failovers += 1
    yield "primary killed"
    service.wait_primary(other_than=killed)
    killed.start()
    scene.tally.restarts += 1
    service.wait_healthy()


def freeze_primary(scene: Scene) -> Iterator[str]:
    """SIGSTOP of the primary until another has taken over; then it wakes up."""
    service = _sentinels(scene)
    frozen = service.primary
    frozen.freeze()
    scene.tally.freezes += 1
    scene.tally.failovers += 1
    try:
        yield "primary frozen"
        service.wait_primary(other_than=frozen)
    finally:
        frozen.thaw()
    yield "primary thawed"
    service.wait_healthy()


def fail_over(scene: Scene) -> Iterator[str]:
    """SENTINEL FAILOVER, while all is well."""
    service = _sentinels(scene)
    service.failover()
    scene.tally.failovers += 1
    yield "failover in order"
    service.wait_healthy()


def kill_one_primary(scene: Scene) -> Iterator[str]:
    """SIGKILL of one of a cluster's primaries; it comes back as a replica."""
    cluster = _cluster(scene)
    killed = cluster.kill_primary(scene.chance.randrange(len(cluster.primaries)))
    scene.tally.kills += 1
    scene.tally.failovers += 1
    yield "primary killed"
    cluster.wait_healthy()
    killed.start()
    scene.tally.restarts += 1
    cluster.wait_healthy(of=len(cluster.nodes))


def hand_over(scene: Scene) -> Iterator[str]:
    """CLUSTER FAILOVER of one primary, in order."""
    cluster = _cluster(scene)
    cluster.failover(scene.chance.randrange(len(cluster.primaries)))
    scene.tally.failovers += 1
    yield "failover in order"
    cluster.wait_healthy(of=len(cluster.nodes))


def reshard(scene: Scene) -> Iterator[str]:
    """Move a partition's slot, and some beside it, to another primary while both serve."""
    cluster = _cluster(scene)
    key = NAMESPACE.partition(scene.chance.randrange(PARTITIONS)).signals
    source = cluster.owner(key)
    target = scene.chance.choice([node for node in cluster.primaries if node is not source])
    slot = key_slot(key.encode())
    # Its neighbours may have moved before: only what this primary serves is moved.
    slots = _served(source, range(slot - NEIGHBOURS, slot + NEIGHBOURS + 1))
    cluster.move_slots(slots, source, target)
    yield "slots moved"
    cluster.wait_healthy(of=len(cluster.nodes))


def _served(source: Node, slots: range) -> list[int]:
    """Which of these slots a primary serves."""
    found = [row for row in source.cli("CLUSTER", "SLOTS") if row[2][1] == source.port]
    return [slot for slot in slots if any(first <= slot <= last for first, last, *_ in found)]
