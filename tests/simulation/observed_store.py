"""The server's side of the store: the judges see every change as it happens."""

from __future__ import annotations

from collections.abc import Sequence

from fabric.store.keys import ORCHESTRATORS
from fabric.store.keyspace import Stream
from fabric.store.port import BEGINNING, UNLINK, Batch, Held, Lease, Rebuilt
from fabric.store.value import parse_id
from fabric.testing.store import MemoryStore
from tests.simulation.judge import Commit, Judge
from tests.simulation.server import SimulatedServer


class ObservedStore(MemoryStore):
    """MemoryStore with judges: they see results, not how they came about."""

    #: Many steps to replace a stream: workers are killed between them.
    rebuild_entries_max = 2

    def __init__(self, server: SimulatedServer, judges: Sequence[Judge]) -> None:
        super().__init__(server.clock_ms, data=server)
        self._true_s = server.true_s
        self.judges = list(judges)
        self.commits = 0

    async def acquire(
        self, partition: int, group: str, owner: str, nonce: str, ttl_ms: int, rules: str = ""
    ) -> Lease | Held:
        """See MemoryStore."""
        taken = await super().acquire(partition, group, owner, nonce, ttl_ms, rules)
        if isinstance(taken, Lease):
            for judge in self.judges:
                judge.acquired(taken, self._clock_ms())
        else:
            for judge in self.judges:
                judge.held(taken, partition, group, ttl_ms, self._clock_ms())
        return taken

    def holder(self, partition: int, group: str) -> str:
        """Return the holder of a lease, or ""."""
        lease = self.data.peek(self.namespace.partition(partition).lease(group), "hash") or {}
        is_good = int(lease.get(b"expires", b"0")) > self._clock_ms()
        return lease[b"owner"].decode() if is_good else ""

    async def beat(self, group: str, replica: str, ttl_ms: int) -> list[str]:
        """See MemoryStore."""
        live = await super().beat(group, replica, ttl_ms)
        for judge in self.judges:
            judge.beaten(group, replica, live, ttl_ms, self._true_s())
        return live

    async def renew(self, lease: Lease, ttl_ms: int) -> int:
        """See MemoryStore."""
        now_ms = await super().renew(lease, ttl_ms)
        for judge in self.judges:
            judge.renewed(lease, now_ms + ttl_ms if ttl_ms else 0, now_ms)
        return now_ms

    async def emit(
        self,
        partition: int,
        entries: Sequence[Sequence[bytes]],
        ingress_max: int,
        group: str = ORCHESTRATORS,
        *,
        connection: int | None = None,
    ) -> list[bytes]:
        """See MemoryStore."""
        ids = await super().emit(partition, entries, ingress_max, group)
        key = self.namespace.partition(partition).source(group)
        for judge in self.judges:
            judge.emitted(key, ids, len(self.data.stream(key)))
        return ids

    async def set_cursor(self, key: str, agent: str, entry_id: bytes) -> None:
        """See MemoryStore."""
        await super().set_cursor(key, agent, entry_id)
        for judge in self.judges:
            judge.was_read(key, agent, entry_id)

    async def commit(
        self, lease: Lease, version: int, batch: Batch, upto: bytes, ttl_ms: int, *, drained: bool
    ) -> int:
        """See MemoryStore."""
        names = self.namespace.partition(lease.partition)
        source = self._stream(names.source(lease.group))
        held = self.data.peek(names.lease(lease.group), "hash") or {}
        before = parse_id(held.get(b"committed", BEGINNING))
        end = parse_id(upto) if upto else before
        consumed = [
            (entry_id, fields)
            for entry_id, fields in (source.after(before, len(source)) if upto else [])
            if parse_id(entry_id) <= end
        ]
        left = _beyond(source, end)
        now_ms = await super().commit(lease, version, batch, upto, ttl_ms, drained=drained)
        self.commits += 1
        commit = Commit(
            lease, version, batch, upto, now_ms, now_ms + ttl_ms, consumed, left,
            _beyond(source, end), source.after(before, len(source)) if not upto else [],
        )  # fmt: skip
        # Entries that the batch itself adds to its input were not there before.
        commit.left_after -= sum(key == names.source(lease.group) for key, *_ in commit.appended)
        for judge in self.judges:
            judge.committed(commit)
        for verb, key, _ in commit.written:
            if verb == UNLINK and key.endswith(":meta") and lease.group == ORCHESTRATORS:
                for judge in self.judges:
                    judge.forget(names.session_of(key) or "")
        return now_ms

    async def rebuild(self, lease: Lease, key: str, place: bytes, ttl_ms: int) -> Rebuilt:
        """See MemoryStore."""
        names = self.namespace.partition(lease.partition)
        bound, field = names.bound(key)
        held = self.data.peek(bound, "hash") or {}
        first = b"(" + held.get(field.encode(), BEGINNING) if names.reader(key) else b"-"
        last = held.get(field.encode(), b"0") if field and not names.reader(key) else b"+"
        counted = [fields for _, fields in self._stream(key).between(first, last)]
        step = await super().rebuild(lease, key, place, ttl_ms)
        for judge in self.judges:
            judge.renewed(lease, step.now_ms + ttl_ms, step.now_ms)
            if step.place is None:
                judge.replaced(key, counted, self._stream(key).fields)
        return step

    def _stream(self, key: str) -> Stream:
        stream: Stream | None = self.data.peek(key, "stream")
        return stream if stream is not None else Stream()


def _beyond(stream: Stream, place: tuple[int, int]) -> int:
    return sum(entry_id > place for entry_id in reversed(stream.ids))
