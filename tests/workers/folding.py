"""A synthesizer at work on any store, and helpers that put results in and read what follows."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from fabric.core.rules import Rules
from fabric.core.synthesis.merge import Reducer
from fabric.store.keys import SYNTHESIZERS, Partition
from fabric.store.port import WorkerStore
from fabric.store.redis import RedisStore
from fabric.testing.store import MemoryStore
from fabric.wire.stored import fields_of, pairs_of
from tests.support.folding import Folding
from tests.support.in_process import settings
from tests.support.waiting import eventually
from tests.workers.troubled import PARTITION, TroubledStore
from workers.replica import Replica
from workers.synthesizer import Synthesizer

KEYS = PARTITION.session("demo")
TIMERS = PARTITION.timers(SYNTHESIZERS)

#: Entries read in one go, more than any test has.
ALL = 1_000_000

Store = MemoryStore | RedisStore


class Watched(Synthesizer):
    """A synthesizer that can be made to forget, and records how many inputs each batch took."""

    is_forgetful = False
    taken: list[int]

    def decide(self, inputs: list[Any], now_ms: int) -> Any:
        decided = super().decide(inputs, now_ms)
        self.taken.append(decided.taken)
        return decided

    async def prepare(self, entries: Any) -> list[Any]:
        if self.is_forgetful:
            await self.settled()
            self.forget()
        return await super().prepare(entries)

    async def settled(self) -> None:
        """Wait until everything decided is committed, as a restart would find it."""
        lease = PARTITION.lease(SYNTHESIZERS)
        wanted = sum(1 for _ in self.taken)

        async def is_committed() -> bool:
            (version,) = await self._store.fields(lease, ["version"])
            return int(version or 0) >= wanted

        await eventually(is_committed, "the batch before is committed")


@asynccontextmanager
async def folding(
    store: Store,
    *,
    rules: Rules | None = None,
    reducers: Mapping[str, Reducer] | None = None,
    name: str = "replica",
    is_forgetful: bool = False,
    **flags: Any,
) -> AsyncIterator[list[Watched]]:
    """A working replica of the synthesizer; it is drained at the end."""
    chosen = settings("redis://unused", **flags)
    handlers: list[Watched] = []

    def make(store: WorkerStore, partition: Partition) -> Watched:
        handler = Watched(store, partition, rules or Rules(), chosen, reducers or {})
        handler.is_forgetful = is_forgetful
        handler.taken = []
        handlers.append(handler)
        return handler

    stop = asyncio.Event()
    running = asyncio.create_task(Replica(store, SYNTHESIZERS, make, chosen, name).run(stop))
    try:
        yield handlers
    finally:
        if isinstance(store, TroubledStore):
            store.gate.set()
        stop.set()
        await running


def of(session: str, fields: list[bytes]) -> list[bytes]:
    """The same entry, of another session."""
    assert fields[0] == b"session"
    return [b"session", session.encode(), *fields[2:]]


async def put(store: Store, entries: Iterable[list[bytes]]) -> list[bytes]:
    """Append entries to the results, in one go."""
    return await store.emit(0, list(entries), ALL, SYNTHESIZERS)


async def folded(store: Store) -> None:
    """Wait until all results are folded and no sweep is under way."""

    async def is_over() -> bool:
        if await store.length(PARTITION.results):
            return False
        return not await store.due(0, SYNTHESIZERS, 2**53, 1)

    await eventually(is_over, "all is folded")


async def outcome(store: Store, session: str = "demo") -> Folding:
    """Return a session's synthesis; check that its revisions are dense and make up the document."""
    found, keys = Folding(), PARTITION.session(session)
    (stored,) = await store.hashes([keys.synthesis])
    found.hash = {name.decode(): value for name, value in stored.items()}
    entries = await store.entries(keys.revisions, b"-", b"+", ALL)
    assert [entry_id for entry_id, _ in entries] == [
        b"%d-0" % n for n in range(1, len(entries) + 1)
    ]
    for _, fields in entries:
        row = fields_of(fields)
        found.revisions.append(row[b"patch"])
        found.causes.append([int(cause.partition(b"-")[0]) for cause in row[b"causes"].split()])
    if session == "demo":
        assert found.patched() == found.document()
    return found


def expected(entries: Iterable[list[bytes]], **choices: Any) -> bytes:
    """Return what the fold makes of entries, one at a time and without a worker."""
    pure = Folding(**choices)
    for fields in entries:
        pure.take([fields])
    return pure.content()


async def rows(store: Store, key: str) -> list[dict[str, str]]:
    """The entries of a stream."""
    return [
        {
            "id": entry_id.decode(),
            **{name.decode(): value.decode("utf-8", "replace") for name, value in pairs_of(fields)},
        }
        for entry_id, fields in await store.entries(key, b"-", b"+", ALL)
    ]


async def part(store: Store, name: str, session: str = "demo") -> Any:
    """One field of the synthesis."""
    (value,) = await store.fields(PARTITION.session(session).synthesis, [name])
    return None if value is None else msgspec.json.decode(value)
