"""Looking at a session: its records, its log, and what somebody is waiting for."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

import msgspec

from fabric.client import synthesis as reading
from fabric.client.revision import Revision, revisions
from fabric.core.record import (
    AgentRecord,
    BarrierRecord,
    ClaimRecord,
    DependencyRecord,
    EscalationRecord,
    TaskRecord,
)
from fabric.errors import NotFoundError
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.view.synthesis import Synthesis
from fabric.wire.stored import checked_reading

R = TypeVar("R")

#: Entries read at a time.
PAGE = 500

#: Blocking reads end after so long and begin again, ms.
BLOCK_MS = 2_000


class Session:
    """A session as the store shows it, read afresh at each call. Never writes."""

    def __init__(self, store: ClientStore, keys: SessionKeys) -> None:
        self.name = keys.name
        self.keys = keys
        self._store = store

    async def agents(self) -> dict[str, AgentRecord]:
        """Return every agent's record, by name."""
        return await self._records(self.keys.agents, AgentRecord)

    async def tasks(self) -> dict[str, TaskRecord]:
        """Return every task's record."""
        return await self._records(self.keys.tasks, TaskRecord)

    async def dependencies(self) -> dict[str, DependencyRecord]:
        """Return every dependency's record."""
        return await self._records(self.keys.dependencies, DependencyRecord)

    async def claims(self) -> dict[str, ClaimRecord]:
        """Return every claim on resources, held or waiting, by id."""
        return await self._records(self.keys.claims, ClaimRecord)

    async def barriers(self) -> dict[str, BarrierRecord]:
        """Return every barrier's record, by name."""
        return await self._records(self.keys.barriers, BarrierRecord)

    async def escalations(self) -> dict[str, EscalationRecord]:
        """Return every question's record, open or decided, by id."""
        return await self._records(self.keys.escalations, EscalationRecord)

    async def _records(self, key: str, kind: type[R]) -> dict[str, R]:
        (stored,) = await self._store.hashes([key])
        decode = msgspec.json.Decoder(kind).decode
        with checked_reading(key, "hash"):
            return {name.decode(): decode(value) for name, value in sorted(stored.items())}

    async def exists(self) -> bool:
        """Say whether any signal of this session was ever accepted."""
        return await self._store.length(self.keys.log) > 0

    async def must_exist(self) -> None:
        """Raise NotFoundError when it does not."""
        if not await self.exists():
            raise NotFoundError(f"no session {self.name}: nothing was logged under {self.keys.log}")

    async def log(self, after: bytes = BEGINNING, *, follow: bool = False) -> AsyncIterator[Entry]:
        """Yield log entries after an id, in order; with `follow`, also those to come."""
        while True:
            block_ms = BLOCK_MS if follow else 0
            found = await self._store.read_streams({self.keys.log: after}, PAGE, block_ms)
            entries = found.get(self.keys.log, [])
            for entry in entries:
                after = entry[0]
                yield entry
            if not entries and not follow:
                return

    async def synthesis(self, *, revision: int | None = None) -> Synthesis:
        """Return the synthesis as it is now, or as it was at a revision; at 0 it is empty.

        Raises NotFoundError when there is no such revision, or none yet.
        """
        if revision is None:
            return await reading.read(self._store, self.keys)
        return await reading.read_at(self._store, self.keys, revision)

    async def revisions(
        self, after: int = 0, *, follow: bool = True
    ) -> AsyncGenerator[Revision, None]:
        """Yield the revisions of the synthesis after a number, in order.

        With `follow` also those to come, through outages, until one is final and none is after it.
        A session can go on later: iterate again from there. Raises NotFoundError when somebody has
        trimmed one away.
        """
        async for one in revisions(self._store, self.keys, after, follow=follow):
            yield one

    async def until_final(self, *, timeout: float | None = None) -> Synthesis:
        """Wait, through outages, until all agents known have ended; return the final synthesis.

        `timeout` is in seconds. Raises WaitTimeoutError, saying who has not ended.
        """
        return await reading.until_final(self._store, self.keys, timeout)

    async def blame(self, dependency: str) -> str:
        """Say in a sentence on whom a dependency depends, and how they are doing."""
        record = (await self.dependencies()).get(dependency)
        if record is None or not record.producers:
            return "nobody has declared to produce it"
        agents = await self.agents()
        now_ms = time.time() * 1000
        parts = []
        for name in record.producers:
            agent = agents.get(name)
            if agent is None:
                parts.append(f"{name}, not heard of yet")
                continue
            done = f" at {agent.percent:g} %" if agent.percent is not None else ""
            silent_s = max(0, now_ms - agent.seen_ms) / 1000
            parts.append(f"{name}, {agent.status.value}{done}, last heard of {silent_s:.0f} s ago")
        return "to be produced by " + "; ".join(parts)
