"""Which replica serves which partition: rendezvous hashing, computed by each for itself.

When a replica joins or leaves, only its own partitions change hands (Thaler and Ravishankar, "Using
name-based mappings to increase hit rates", 1998).
"""

from __future__ import annotations

from hashlib import blake2b


def preferred(partition: int, replicas: list[str]) -> str | None:
    """Name the replica that should serve a partition; None when there is none."""
    return max(replicas, key=lambda replica: _weight(partition, replica), default=None)


def _weight(partition: int, replica: str) -> tuple[bytes, str]:
    return blake2b(f"{partition}/{replica}".encode(), digest_size=8).digest(), replica


def share(replica: str, partitions: int, replicas: list[str]) -> set[int]:
    """Return the partitions that a replica should serve, of all there are."""
    return {number for number in range(partitions) if preferred(number, replicas) == replica}
