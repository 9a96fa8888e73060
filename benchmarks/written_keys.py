"""The keys that a contender has written, and whether two contenders have written the same."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.connection import BenchmarkError, Connection
from fabric.wire.stored import fields_of

#: Share by which two contenders' bytes in a key may differ: numbers in records have varying length,
#: and the twin writes constants.
BYTES_TOLERANCE = 0.1

#: Keys of ours that are not part of the work: live workers, the namespace, and one timer an agent.
_ASIDE = (b"fabric:meta", b"fabric:replicas:", b"fabric:workers:", b"fabric:{0}:deadlines")

_LENGTH = {b"stream": "XLEN", b"hash": "HLEN", b"zset": "ZCARD", b"string": "STRLEN"}


@dataclass(frozen=True)
class WrittenKey:
    """A key's type, number of entries and bytes; of a stream, the field names of its last entry.

    `first` is the type of a stream's first entry: a log with rules of its own begins with RULES.
    """

    kind: str
    length: int
    size_bytes: int
    fields: tuple[str, ...] = ()
    first: str = ""


def written_keys(connection: Connection) -> dict[str, WrittenKey]:
    """Return every key that is part of the work."""
    found: dict[str, WrittenKey] = {}
    cursor = b"0"
    while True:
        cursor, keys = connection.call("SCAN", cursor, "COUNT", 1_000)
        for key in keys:
            if not key.startswith(_ASIDE):
                found[key.decode()] = _holding(connection, key)
        if cursor == b"0":
            return dict(sorted(found.items()))


def _holding(connection: Connection, key: bytes) -> WrittenKey:
    kind = connection.call("TYPE", key)
    fields: list[Any] = []
    first: list[Any] = []
    if kind == b"stream":
        last = connection.call("XREVRANGE", key, "+", "-", "COUNT", 1)
        fields = last[0][1][::2] if last else []
        first = connection.call("XRANGE", key, "-", "+", "COUNT", 1)
    return WrittenKey(
        kind.decode(),
        connection.call(_LENGTH[kind], key),
        connection.call("MEMORY", "USAGE", key),
        tuple(field.decode() for field in fields),
        fields_of(first[0][1]).get(b"type", b"").decode() if first else "",
    )


def compare(label: str, mine: dict[str, WrittenKey], theirs: dict[str, WrittenKey]) -> None:
    """Raise BenchmarkError unless both have the same keys with the same number of entries."""
    wrong: list[str] = []
    for key in sorted(mine.keys() | theirs.keys()):
        one, other = mine.get(key), theirs.get(key)
        if one is None or other is None:
            wrong.append(f"{key}: only {'the other' if one is None else 'ours'} has it")
        elif replace(one, size_bytes=0) != replace(other, size_bytes=0):
            wrong.append(f"{key}: {one} against {other}")
        elif abs(one.size_bytes - other.size_bytes) > _allowed(one.size_bytes):
            wrong.append(f"{key}: {one.size_bytes} against {other.size_bytes} bytes")
    if wrong:
        raise BenchmarkError("\n".join([f"{label} has not written what ours has:", *wrong[:20]]))


def drained(connection: Connection, stream: str, limit_s: float) -> None:
    """Wait until a stream is empty. Raises BenchmarkError."""
    deadline = time.monotonic() + limit_s
    while left := connection.call("XLEN", stream):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{left} entries are left in {stream}")
        time.sleep(0.01)


def _allowed(size_bytes: int) -> float:
    # Hashes and stream nodes grow in steps: small keys may differ by one step.
    return max(size_bytes * BYTES_TOLERANCE, 4_096)
