"""A node's store: the in-memory store at the other end of the simulated network."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from fabric.errors import ReconnectedError
from fabric.store.keys import ORCHESTRATORS, Namespace
from fabric.store.port import Batch, Entry, Held, Lease, Rebuilt
from fabric.testing.store import MemoryStore
from fabric.wire.worker import WorkerRecord
from tests.simulation.network import Link


class RemoteStore:
    """WorkerStore and ClientStore over a simulated connection: every call is one request."""

    def __init__(self, behind: MemoryStore, link: Link) -> None:
        self._behind = behind
        self._link = link

    @property
    def namespace(self) -> Namespace:
        """See WorkerStore."""
        return self._behind.namespace

    @namespace.setter
    def namespace(self, value: Namespace) -> None:
        raise AttributeError("fixed")

    async def partitions(self, default: int | None = None) -> int:
        """See WorkerStore."""
        number: int = await self._link.call(lambda: self._behind.partitions(default))
        return number

    async def beat(self, group: str, replica: str, ttl_ms: int) -> list[str]:
        """See WorkerStore."""
        live: list[str] = await self._link.call(lambda: self._behind.beat(group, replica, ttl_ms))
        return live

    async def workers(self, group: str) -> tuple[int, dict[str, WorkerRecord]]:
        """See WorkerStore."""
        found: tuple[int, dict[str, WorkerRecord]] = await self._link.call(
            lambda: self._behind.workers(group)
        )
        return found

    async def register(
        self, group: str, replica: str, record: WorkerRecord, gone: Sequence[str]
    ) -> None:
        """See WorkerStore."""
        await self._link.call(lambda: self._behind.register(group, replica, record, gone))

    async def leave(self, group: str, replica: str, *, rests: bool = False) -> None:
        """See WorkerStore."""
        await self._link.call(lambda: self._behind.leave(group, replica, rests=rests))

    async def acquire(
        self, partition: int, group: str, owner: str, nonce: str, ttl_ms: int, rules: str = ""
    ) -> Lease | Held:
        """See WorkerStore."""
        taken: Lease | Held = await self._link.call(
            lambda: self._behind.acquire(partition, group, owner, nonce, ttl_ms, rules)
        )
        return taken

    async def renew(self, lease: Lease, ttl_ms: int) -> int:
        """See WorkerStore."""
        now_ms: int = await self._link.call(lambda: self._behind.renew(lease, ttl_ms))
        return now_ms

    async def release(self, lease: Lease) -> None:
        """See WorkerStore."""
        await self._link.call(lambda: self._behind.release(lease))

    async def read(
        self, partition: int, group: str, after: bytes, count: int, block_ms: int
    ) -> list[Entry]:
        """See WorkerStore."""
        key = self.namespace.partition(partition).source(group)
        return (await self._link.read({key: after}, count, block_ms)).get(key, [])

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        """See WorkerStore. As on a real server, each hash is read by its own request."""
        found: list[dict[bytes, bytes]] = []
        for key in keys:
            found += await self._link.call(partial(self._behind.hashes, [key]), is_write=False)
        return found

    async def fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        """See WorkerStore."""
        found: list[bytes | None] = await self._link.call(
            lambda: self._behind.fields(key, names), is_write=False
        )
        return found

    async def members(self, key: str, prefix: str, after: str, count: int) -> list[str]:
        """See WorkerStore."""
        found: list[str] = await self._link.call(
            lambda: self._behind.members(key, prefix, after, count), is_write=False
        )
        return found

    async def named(self, partition: int, prefix: str, count: int) -> list[str]:
        """See WorkerStore."""
        found: list[str] = await self._link.call(
            lambda: self._behind.named(partition, prefix, count), is_write=False
        )
        return found

    async def named_each(
        self, partition: int, prefixes: Mapping[str, str], count: int
    ) -> dict[str, list[str]]:
        """See WorkerStore."""
        found: dict[str, list[str]] = await self._link.call(
            lambda: self._behind.named_each(partition, prefixes, count), is_write=False
        )
        return found

    async def timers_of_each(
        self, partition: int, group: str, sessions: Collection[str]
    ) -> dict[str, list[bytes]]:
        """See WorkerStore."""
        found: dict[str, list[bytes]] = await self._link.call(
            lambda: self._behind.timers_of_each(partition, group, sessions), is_write=False
        )
        return found

    async def least_recent(
        self, partition: int, count: int, kept: int
    ) -> tuple[list[tuple[str, int]], int]:
        """See WorkerStore."""
        found: tuple[list[tuple[str, int]], int] = await self._link.call(
            lambda: self._behind.least_recent(partition, count, kept), is_write=False
        )
        return found

    async def due(
        self, partition: int, group: str, now_ms: int, count: int
    ) -> list[tuple[bytes, int]]:
        """See WorkerStore."""
        found: list[tuple[bytes, int]] = await self._link.call(
            lambda: self._behind.due(partition, group, now_ms, count), is_write=False
        )
        return found

    async def commit(
        self, lease: Lease, version: int, batch: Batch, upto: bytes, ttl_ms: int, *, drained: bool
    ) -> int:
        """See WorkerStore."""
        now_ms: int = await self._link.call(
            lambda: self._behind.commit(lease, version, batch, upto, ttl_ms, drained=drained)
        )
        return now_ms

    async def exhausted(self, partition: int) -> str | None:
        """See WorkerStore."""
        key: str | None = await self._link.call(
            lambda: self._behind.exhausted(partition), is_write=False
        )
        return key

    async def rebuild(self, lease: Lease, key: str, place: bytes, ttl_ms: int) -> Rebuilt:
        """See WorkerStore."""
        step: Rebuilt = await self._link.call(
            lambda: self._behind.rebuild(lease, key, place, ttl_ms)
        )
        return step

    async def now_ms(self, at: str | None = None) -> int:
        """See ClientStore."""
        shown: int = await self._link.call(lambda: self._behind.now_ms(at))
        return shown

    async def emit(
        self,
        partition: int,
        entries: Sequence[Sequence[bytes]],
        ingress_max: int,
        group: str = ORCHESTRATORS,
        *,
        connection: int | None = None,
    ) -> list[bytes]:
        """See ClientStore."""
        if connection not in (None, self._link.connections):
            raise ReconnectedError("server: reconnected (simulated)")
        ids: list[bytes] = await self._link.call(
            lambda: self._behind.emit(partition, entries, ingress_max, group)
        )
        return ids

    def connection(self, partition: int) -> int:
        """See ClientStore."""
        return self._link.connections

    async def occupy(self, key: str, number: int, session: str, now_ms: int) -> None:
        """See ClientStore."""
        await self._link.call(lambda: self._behind.occupy(key, number, session, now_ms))

    async def confirm(self, lease: str) -> None:
        """See ClientStore."""

    async def enroll(self, partition: int, session: str, agent: str) -> int:
        """See ClientStore."""
        number: int = await self._link.call(lambda: self._behind.enroll(partition, session, agent))
        return number

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        """See ClientStore."""
        return await self._link.read(after, count, block_ms)

    async def entries(
        self, key: str, first: bytes, last: bytes, count: int, *, newest_first: bool = False
    ) -> list[Entry]:
        """See ClientStore."""
        found: list[Entry] = await self._link.call(
            lambda: self._behind.entries(key, first, last, count, newest_first=newest_first),
            is_write=False,
        )
        return found

    async def scan(self, key: str, count: int) -> AsyncGenerator[dict[bytes, bytes], None]:
        """See ClientStore. Each page is a request."""
        pages: AsyncGenerator[dict[bytes, bytes], None] = self._behind.scan(key, count)
        while True:

            async def following() -> dict[bytes, bytes] | None:
                return await anext(pages, None)

            page: Any = await self._link.call(following, is_write=False)
            if page is None:
                return
            yield page

    async def set_cursor(self, key: str, agent: str, entry_id: bytes) -> None:
        """See ClientStore."""
        await self._link.call(lambda: self._behind.set_cursor(key, agent, entry_id))

    async def scores(self, key: str) -> list[tuple[bytes, int]]:
        """See ClientStore."""
        found: list[tuple[bytes, int]] = await self._link.call(
            lambda: self._behind.scores(key), is_write=False
        )
        return found

    async def length(self, key: str) -> int:
        """See ClientStore."""
        number: int = await self._link.call(lambda: self._behind.length(key), is_write=False)
        return number

    async def delete_entries(self, key: str, ids: Sequence[bytes]) -> int:
        """See ClientStore."""
        number: int = await self._link.call(lambda: self._behind.delete_entries(key, ids))
        return number

    async def close(self) -> None:
        """Close all connections."""
        self._link.break_all()
