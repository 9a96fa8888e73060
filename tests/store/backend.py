"""The stores that the conformance suite runs on, and direct access to the server behind each.

A test uses the fabric through `open()`. The other methods do what a person or an accident may do to
the server.
"""

import itertools
from typing import Any, Protocol

from fabric.store.keyspace import Keyspace
from fabric.store.port import Batch, ClientStore, Entry, Lease, WorkerStore
from fabric.store.redis import RedisStore
from fabric.testing.store import MemoryStore
from fabric.wire.stored import pairs_of
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

#: Lease time in tests in which no lease may expire, ms.
LONG_MS = 60_000
#: Lease time in tests in which one expires, ms.
SHORT_MS = 100

ORCHESTRATORS = "orchestrators"

#: A key of the partition whose lease the tests use: the time of its server counts.
PARTITION = "fabric:{0}:lease"

_numbers = itertools.count(1)


class Store(WorkerStore, ClientStore, Protocol):
    """What workers and clients need."""


class Backend(Protocol):
    """One server, empty at first."""

    def open(self, namespace: str = "fabric") -> Store:
        """A store of its own connections; closed by `close`."""

    async def close(self) -> None:
        """Close what was opened."""

    async def now_ms(self) -> int:
        """The server's time."""

    async def pass_ms(self, ms: int) -> None:
        """Return when the server's clock has advanced by `ms`."""

    async def dump(self) -> dict[str, Any]:
        """All keys: key → its type and content."""

    async def drop(self, key: str) -> None:
        """DEL."""

    async def flush(self) -> None:
        """FLUSHALL."""

    async def put(self, key: str, kind: str) -> None:
        """Replace what the key holds by something of this type."""

    async def set_field(self, key: str, field: str, value: bytes) -> None:
        """HSET."""

    async def append(self, key: str, entry_id: str, *fields: bytes) -> None:
        """XADD by hand."""

    async def position(self, key: str, group: str) -> bytes | None:
        """Last id delivered to a consumer group; None when there is no such group."""

    async def destroy_group(self, key: str, group: str) -> None:
        """XGROUP DESTROY."""


class MemoryBackend:
    """A server in memory, with a clock that the test moves."""

    def __init__(self) -> None:
        self.server = Keyspace()
        self.clock_ms = 1_767_123_000_000

    def open(self, namespace: str = "fabric") -> MemoryStore:
        return MemoryStore(lambda: self.clock_ms, namespace, self.server)

    async def close(self) -> None:
        pass

    async def now_ms(self) -> int:
        return self.clock_ms

    async def pass_ms(self, ms: int) -> None:
        self.clock_ms += ms

    async def dump(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in list(self.server.keys):
            kind = self.server.kind(key)
            if kind is None:
                continue
            value = self.server.keys[key][1]
            if kind == "stream":
                content: Any = value.between(b"-", b"+")
            else:
                content = sorted(value.items()) if isinstance(value, dict) else value
            found[key] = (kind, content)
        return found

    async def drop(self, key: str) -> None:
        self.server.keys.pop(key, None)

    async def flush(self) -> None:
        self.server.keys.clear()

    async def put(self, key: str, kind: str) -> None:
        await self.drop(key)
        if kind == "string":
            self.server.keys[key] = ("string", b"by hand")
        elif kind == "hash":
            self.server.hash(key)[b"by"] = b"hand"
        elif kind == "zset":
            self.server.sorted_set(key)[b"hand"] = 1
        else:
            await self.append(key, "*", b"by", b"hand")

    async def set_field(self, key: str, field: str, value: bytes) -> None:
        self.server.hash(key)[field.encode()] = value

    async def append(self, key: str, entry_id: str, *fields: bytes) -> None:
        self.server.stream(key).append(entry_id.encode(), list(fields), self.clock_ms)

    async def position(self, key: str, group: str) -> bytes | None:
        stream = self.server.peek(key, "stream")
        return stream.groups.get(group) if stream is not None else None

    async def destroy_group(self, key: str, group: str) -> None:
        del self.server.stream(key).groups[group]


class RedisBackend:
    """A real server."""

    def __init__(self, server: RunningServer, url: str | None = None) -> None:
        self.server = server
        self.url = url or server.url
        self._opened: list[RedisStore] = []
        self._hand = RedisStore(self.url, name="test")

    def open(self, namespace: str = "fabric") -> RedisStore:
        self._opened.append(RedisStore(self.url, namespace))
        return self._opened[-1]

    async def close(self) -> None:
        for store in [*self._opened, self._hand]:
            await store.close()

    async def call(self, *command: Any) -> Any:
        """Send a command as redis-cli -c does: to the node that has its key."""
        at = command[2] if command[0] in ("XINFO", "XGROUP") else [*command, PARTITION][1]
        return await self._hand.call(*command, at=at if isinstance(at, str) else at.decode())

    async def now_ms(self) -> int:
        seconds, micros = await self._hand.call("TIME", at=PARTITION)
        return int(seconds) * 1000 + int(micros) // 1000

    async def pass_ms(self, ms: int) -> None:
        target = await self.now_ms() + ms

        async def has_passed() -> bool:
            return await self.now_ms() >= target

        await eventually(has_passed, f"{ms} ms pass on the server")

    async def dump(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        servers = (await self._hand.servers()).values()
        for key in [key for server in servers for key in await server.call("KEYS", "*")]:
            kind = (await self.call("TYPE", key)).decode()
            if kind == "stream":
                content: Any = [(i, f) for i, f in await self.call("XRANGE", key, "-", "+")]
            elif kind == "hash":
                content = _pairs(await self.call("HGETALL", key))
            elif kind == "zset":
                flat = _pairs(await self.call("ZRANGE", key, 0, -1, "WITHSCORES"))
                content = [(member, int(float(score))) for member, score in flat]
            else:
                content = await self.call("GET", key)
            found[key.decode()] = (kind, content)
        return found

    async def drop(self, key: str) -> None:
        await self.call("DEL", key)

    async def flush(self) -> None:
        for server in (await self._hand.servers()).values():
            await server.call("FLUSHALL")

    async def put(self, key: str, kind: str) -> None:
        await self.drop(key)
        await {
            "string": lambda: self.call("SET", key, "by hand"),
            "hash": lambda: self.call("HSET", key, "by", "hand"),
            "zset": lambda: self.call("ZADD", key, 1, "hand"),
            "stream": lambda: self.call("XADD", key, "*", "by", "hand"),
        }[kind]()

    async def set_field(self, key: str, field: str, value: bytes) -> None:
        await self.call("HSET", key, field, value)

    async def append(self, key: str, entry_id: str, *fields: bytes) -> None:
        await self.call("XADD", key, entry_id, *fields)

    async def position(self, key: str, group: str) -> bytes | None:
        for flat in await self.call("XINFO", "GROUPS", key):
            info = dict(_pairs(flat))
            if info[b"name"] == group.encode():
                return bytes(info[b"last-delivered-id"])
        return None

    async def destroy_group(self, key: str, group: str) -> None:
        await self.call("XGROUP", "DESTROY", key, group)


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return sorted(pairs_of(flat))


async def hold(
    store: Store, owner: str = "one", *, ttl_ms: int = LONG_MS, partition: int = 0
) -> Lease:
    """The orchestrators' lease on a partition, which must be free or ours."""
    nonce = f"nonce {next(_numbers)}"
    taken = await store.acquire(partition, ORCHESTRATORS, owner, nonce, ttl_ms)
    assert isinstance(taken, Lease), taken
    return taken


async def commit(
    store: Store,
    lease: Lease,
    batch: Batch | None = None,
    *,
    version: int | None = None,
    upto: bytes = b"",
    ttl_ms: int = LONG_MS,
    drained: bool = True,
) -> int:
    """Commit a batch (by default an empty one) on the lease's own version."""
    built_on = lease.version if version is None else version
    return await store.commit(lease, built_on, batch or Batch(), upto, ttl_ms, drained=drained)


async def lapse(backend: Backend, store: Store, lease: Lease) -> None:
    """Let a lease expire."""
    await store.renew(lease, SHORT_MS)
    await backend.pass_ms(SHORT_MS + 1)


def plain(entries: list[Entry]) -> list[Entry]:
    """Entries as pairs: a server's reply holds each as a list."""
    return [(entry_id, list(fields)) for entry_id, fields in entries]


def note(key: str, value: str = "1") -> Batch:
    """A batch of one append."""
    batch = Batch()
    batch.append(key, "*", ("value",), (value,))
    return batch
