"""The table of slots, from what the nodes report."""

from typing import Any

import pytest

from fabric.errors import UnavailableError
from fabric.store.cluster import Cluster, slot

KEY = "fabric:{0}:lease"
#: The slots before, at and after that of KEY.
RANGES = ((0, slot(KEY) - 1), (slot(KEY), slot(KEY)), (slot(KEY) + 1, 16383))


def rows(*hosts: bytes | None) -> list[Any]:
    """CLUSTER SLOTS: the ranges, each on the next port."""
    return [
        [*RANGES[number], [host, 7000 + number, b"id", []], [host, 8000 + number, b"id", []]]
        for number, host in enumerate(hosts)
    ]


async def served_by(cluster: Cluster, key: str = KEY) -> tuple[str, int]:
    options = (await cluster.server_of(key)).pool.connection_kwargs
    return options["host"], options["port"]


@pytest.mark.parametrize(
    ("named", "host"), [(b"10.0.0.1", "10.0.0.1"), (b"", "asked"), (None, "asked"), (b"?", "asked")]
)
async def test_a_node_that_does_not_know_its_host(named: bytes | None, host: str) -> None:
    cluster = Cluster([], {})
    cluster._note(rows(named, named, named), "asked")
    assert await served_by(cluster) == (host, 7001)


async def test_nodes_come_and_go() -> None:
    """The node that is asked first changes each time."""
    cluster = Cluster([], {})
    for count in (3, 1, 3, 2, 3, 1, 1):
        cluster._note(rows(*[b"h"] * count), "asked")
        assert len(cluster._nodes) == 2 * count
    first = set()
    for _ in range(6):
        cluster._note(rows(b"h", b"h", b"h"), "asked")
        first.add(cluster._nodes[0])
    assert len(first) == 6


async def test_a_slot_that_no_node_serves() -> None:
    cluster = Cluster([], {})
    cluster._note(rows(b"h"), "asked")
    with pytest.raises(UnavailableError, match=f"serves slot {slot(KEY)}"):
        await cluster.server_of(KEY)


async def test_only_connections_to_a_node_that_lost_slots_are_dropped() -> None:
    """Connections to a node that still serves the same slots stay in use."""
    cluster = Cluster([], {})
    cluster._note(rows(b"h", b"h", b"h"), "asked")
    ways = [cluster.server_at(f"h:{port}") for port in (7000, 7001, 7002)]
    cluster._note(rows(b"h", b"other", b"h"), "asked")
    assert [way.generation for way in ways] == [0, 1, 0]
    assert await served_by(cluster) == ("other", 7001)
    cluster.moved(slot(KEY), "third:9")
    assert await served_by(cluster) == ("third", 9)


async def test_a_cluster_reached_by_a_socket_names_its_nodes_by_host() -> None:
    cluster = Cluster([], {"path": "/tmp/s", "connection_class": object, "password": "p"})
    cluster._note(rows(b"h", b"h", b"h"), "asked")
    assert (await cluster.server_of(KEY)).pool.connection_kwargs["password"] == "p"
    assert await served_by(cluster) == ("h", 7001)
