"""Failovers: the primary is killed or frozen, or hands over in order; and slots that move."""

from collections.abc import Iterator

from redis.crc import key_slot

from fabric.store.keys import Namespace
from tests.chaos.context import Context
from tests.chaos.deployment import ClusterService, SentinelService
from tests.chaos.roster import PARTITIONS
from tests.support.cluster import Cluster
from tests.support.node import Node
from tests.support.sentinel import Sentinels

NAMESPACE = Namespace()
#: Slots on each side that move with the slot that has keys, so that a range moves.
NEIGHBOURS = 3


def _sentinels(context: Context) -> Sentinels:
    assert isinstance(context.deployment, SentinelService)
    return context.deployment.service


def _cluster(context: Context) -> Cluster:
    assert isinstance(context.deployment, ClusterService)
    return context.deployment.cluster


def kill_primary(context: Context) -> Iterator[str]:
    """SIGKILL the primary; it comes back as a replica."""
    service = _sentinels(context)
    killed = service.kill_primary()
    context.tally.kills += 1
    context.tally.failovers += 1
    yield "primary killed"
    service.wait_primary(other_than=killed)
    killed.start()
    context.tally.restarts += 1
    service.wait_healthy()


def freeze_primary(context: Context) -> Iterator[str]:
    """SIGSTOP the primary until another has taken over; then let it go on."""
    service = _sentinels(context)
    frozen = service.primary
    frozen.freeze()
    context.tally.freezes += 1
    context.tally.failovers += 1
    try:
        yield "primary frozen"
        service.wait_primary(other_than=frozen)
    finally:
        frozen.thaw()
    yield "primary thawed"
    service.wait_healthy()


def fail_over(context: Context) -> Iterator[str]:
    """SENTINEL FAILOVER of a healthy primary."""
    service = _sentinels(context)
    service.failover()
    context.tally.failovers += 1
    yield "failover in order"
    service.wait_healthy()


def kill_one_primary(context: Context) -> Iterator[str]:
    """SIGKILL one of a cluster's primaries; it comes back as a replica."""
    cluster = _cluster(context)
    killed = cluster.kill_primary(context.chance.randrange(len(cluster.primaries)))
    context.tally.kills += 1
    context.tally.failovers += 1
    yield "primary killed"
    cluster.wait_healthy()
    killed.start()
    context.tally.restarts += 1
    cluster.wait_healthy(of=len(cluster.nodes))


def hand_over(context: Context) -> Iterator[str]:
    """CLUSTER FAILOVER of one primary, in order."""
    cluster = _cluster(context)
    cluster.failover(context.chance.randrange(len(cluster.primaries)))
    context.tally.failovers += 1
    yield "failover in order"
    cluster.wait_healthy(of=len(cluster.nodes))


def reshard(context: Context) -> Iterator[str]:
    """Move a partition's slot, and some beside it, to another primary while both serve."""
    cluster = _cluster(context)
    key = NAMESPACE.partition(context.chance.randrange(PARTITIONS)).signals
    source = cluster.owner(key)
    target = context.chance.choice([node for node in cluster.primaries if node is not source])
    slot = key_slot(key.encode())
    # Neighbours may have moved earlier: move only slots that this primary serves.
    slots = _served(source, range(slot - NEIGHBOURS, slot + NEIGHBOURS + 1))
    cluster.move_slots(slots, source, target)
    yield "slots moved"
    cluster.wait_healthy(of=len(cluster.nodes))


def _served(source: Node, slots: range) -> list[int]:
    """Return those of these slots that a primary serves."""
    found = [row for row in source.cli("CLUSTER", "SLOTS") if row[2][1] == source.port]
    return [slot for slot in slots if any(first <= slot <= last for first, last, *_ in found)]
