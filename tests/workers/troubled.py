"""An orchestrator on the memory store, where a test chooses which call fails, and how."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.store.keys import ORCHESTRATORS, Namespace, Partition
from fabric.store.keyspace import Keyspace
from fabric.store.port import Batch, Entry, Held, Lease, WorkerStore
from fabric.testing.store import MemoryStore
from fabric.wire.stored import pairs_of
from tests.support.in_process import settings
from workers.handler import Decided
from workers.orchestrator import Orchestrator
from workers.replica import Replica
from workers.retention import TIMER

PARTITION = Namespace().partition(0)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Trouble:
    """An error that a call raises: before it has any effect, or in place of its reply."""

    error: Exception
    is_done: bool = False


class TroubledStore(MemoryStore):
    """A memory store whose calls can be made to fail or to wait."""

    def __init__(self, data: Keyspace | None = None, *, ahead_ms: int = 0) -> None:
        """`ahead_ms`: how far the server's clock is ahead of the machine's."""
        super().__init__(lambda: now_ms() + ahead_ms, data=data)
        self._troubles: dict[str, list[Trouble]] = defaultdict(list)
        #: Commits wait until it is set.
        self.gate = asyncio.Event()
        self.gate.set()
        self.commits = 0
        self.under_way = 0
        self.under_way_max = 0
        #: For each read: how many entries were asked for, and how many bytes came.
        self.reads: list[tuple[int, int]] = []
        #: How many fields of hashes were read, and how often the due timers.
        self.asked = 0
        self.looks = 0
        #: For each read of whole hashes: how many.
        self.hashes_read: list[int] = []

    def trouble(self, call: str, error: Exception, *, is_done: bool = False) -> None:
        """Make the next such call fail. With `is_done` it takes effect, and its reply is lost."""
        self._troubles[call].append(Trouble(error, is_done))

    @property
    def is_troubled(self) -> bool:
        return any(self._troubles.values())

    def _next(self, call: str, *, is_done: bool) -> None:
        waiting = self._troubles[call]
        if waiting and waiting[0].is_done == is_done:
            raise waiting.pop(0).error

    async def acquire(
        self, partition: int, group: str, owner: str, nonce: str, ttl_ms: int, rules: str = ""
    ) -> Lease | Held:
        self._next("acquire", is_done=False)
        return await super().acquire(partition, group, owner, nonce, ttl_ms, rules)

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        self._next("hashes", is_done=False)
        self.hashes_read.append(len(keys))
        return await super().hashes(keys)

    async def fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        self._next("fields", is_done=False)
        self.asked += len(names)
        return await super().fields(key, names)

    async def members(self, key: str, prefix: str, after: str, count: int) -> list[str]:
        self._next("members", is_done=False)
        return await super().members(key, prefix, after, count)

    async def due(
        self, partition: int, group: str, now_ms: int, count: int
    ) -> list[tuple[bytes, int]]:
        self._next("due", is_done=False)
        self.looks += 1
        return await super().due(partition, group, now_ms, count)

    async def read(
        self, partition: int, group: str, after: bytes, count: int, block_ms: int
    ) -> list[Entry]:
        self._next("read", is_done=False)
        entries = await super().read(partition, group, after, count, block_ms)
        size = sum(len(value) for _, fields in entries for value in fields)
        self.reads.append((count, size))
        return entries

    async def commit(
        self, lease: Lease, version: int, batch: Batch, upto: bytes, ttl_ms: int, *, drained: bool
    ) -> int:
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        try:
            await self.gate.wait()
            self._next("commit", is_done=False)
            answer = await super().commit(lease, version, batch, upto, ttl_ms, drained=drained)
            self.commits += 1
            self._next("commit", is_done=True)
            return answer
        finally:
            self.under_way -= 1

    async def say(self, session: str, emitter: str, kind: str, payload: str = "{}") -> None:
        """Put a signal into the ingress."""
        signal = {
            "session": session, "type": SignalType(kind).value, "emitter": emitter,
            "payload": payload,
        }  # fmt: skip
        flat = [part.encode() for pair in signal.items() for part in pair]
        await self.emit(0, [flat], 1_000_000)

    def rows(self, key: str) -> list[dict[str, str]]:
        """The entries of a stream."""
        stream = self.data.peek(key, "stream")
        found = stream.between(b"-", b"+") if stream is not None else []
        return [
            {
                "id": entry_id.decode(),
                **{name.decode(): value.decode() for name, value in pairs_of(fields)},
            }
            for entry_id, fields in found
        ]

    def log(self, session: str) -> list[str]:
        """A session's log, in short."""
        rows = self.rows(PARTITION.session(session).log)
        return [f"{row['id']} {row['type']}" for row in rows]

    async def timers(self) -> list[bytes]:
        """Return the timers that are set, except those of each agent's silence, and retention."""
        due = await self.due(0, ORCHESTRATORS, 2**53, 100)
        return [one for one, _ in due if b":silence:" not in one and one != TIMER.encode()]

    async def has_no_timer(self) -> bool:
        return not await self.timers()

    def is_settled(self) -> bool:
        return not self.rows(PARTITION.signals) and not self.under_way

    def is_folded(self) -> bool:
        return not self.rows(PARTITION.results) and not self.under_way


class Watched(Orchestrator):
    """An orchestrator that records its decisions."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: Inputs taken and bytes of the batch, decision by decision.
        self.decided: list[tuple[int, int]] = []

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        decided = super().decide(inputs, now_ms)
        self.decided.append((decided.taken, decided.batch.size_bytes))
        return decided


class Working:
    """A replica that works on a store."""

    def __init__(self, store: TroubledStore, rules: Rules, name: str, **flags: Any) -> None:
        self.settings = settings("redis://unused", **flags)
        self.stop = asyncio.Event()
        self.handlers: list[Watched] = []
        self._rules = rules
        replica = Replica(store, ORCHESTRATORS, self._make, self.settings, name)
        self.running = asyncio.create_task(replica.run(self.stop))

    def _make(self, store: WorkerStore, partition: Partition) -> Watched:
        self.handlers.append(Watched(store, partition, self._rules, self.settings))
        return self.handlers[-1]

    @property
    def decided(self) -> list[tuple[int, int]]:
        return [entry for handler in self.handlers for entry in handler.decided]


Work = Callable[..., Working]


@asynccontextmanager
async def working(
    store: TroubledStore, *, rules: Rules | None = None, name: str = "replica", **flags: Any
) -> AsyncIterator[Working]:
    """A working replica; it is drained at the end."""
    found = Working(store, rules or Rules(), name, **flags)
    try:
        yield found
    finally:
        store.gate.set()
        found.stop.set()
        await found.running
