"""Looking at a session: its records, its log and its synthesis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import TypeVar

import msgspec

from fabric.backoff import retry
from fabric.client import synthesis
from fabric.client.synthesis import BLOCK_MS, Revision
from fabric.core import record
from fabric.errors import NotFoundError
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.view.synthesis import Synthesis
from fabric.wire.stored import checked_reading

R = TypeVar("R")

#: Entries read at a time.
PAGE = 500


class Session:
    """A session as the store shows it; every call reads it again, none writes."""

    def __init__(self, store: ClientStore, keys: SessionKeys) -> None:
        self._store = store
        self._keys = keys

    def __repr__(self) -> str:
        return f"<Session {self.name!r}>"

    @property
    def name(self) -> str:
        """The session's name."""
        return self._keys.name

    @property
    def keys(self) -> SessionKeys:
        """The names of the session's keys."""
        return self._keys

    async def agents(self) -> dict[str, record.AgentRecord]:
        """Return every agent's record, by name."""
        return await self._records(self.keys.agents, record.AgentRecord)

    async def tasks(self) -> dict[str, record.TaskRecord]:
        """Return every task's record, by id."""
        return await self._records(self.keys.tasks, record.TaskRecord)

    async def dependencies(self) -> dict[str, record.DependencyRecord]:
        """Return every dependency's record, by id."""
        return await self._records(self.keys.dependencies, record.DependencyRecord)

    async def claims(self) -> dict[str, record.ClaimRecord]:
        """Return every claim on resources, held or waiting, by id."""
        return await self._records(self.keys.claims, record.ClaimRecord)

    async def barriers(self) -> dict[str, record.BarrierRecord]:
        """Return every barrier's record, by name."""
        return await self._records(self.keys.barriers, record.BarrierRecord)

    async def escalations(self) -> dict[str, record.EscalationRecord]:
        """Return every question's record, open or decided, by id."""
        return await self._records(self.keys.escalations, record.EscalationRecord)

    async def _records(self, key: str, kind: type[R]) -> dict[str, R]:
        (stored,) = await self._store.hashes([key])
        decode = msgspec.json.Decoder(kind).decode
        with checked_reading(key, "hash"):
            return {name.decode(): decode(value) for name, value in sorted(stored.items())}

    async def exists(self) -> bool:
        """Return whether any signal of this session was ever accepted."""
        return await self._store.length(self.keys.log) > 0

    async def must_exist(self) -> None:
        """Raise NotFoundError if no signal of this session was ever accepted."""
        if not await self.exists():
            raise NotFoundError(f"no session {self.name}: nothing was logged under {self.keys.log}")

    async def log(self, after: bytes = BEGINNING, *, follow: bool = False) -> AsyncIterator[Entry]:
        """Yield log entries after an id, in order; with `follow` also new ones, through outages."""
        async for page in pages(self._store, self.keys.log, after, follow=follow):
            for entry in page:
                yield entry

    async def synthesis(self, *, revision: int | None = None) -> Synthesis:
        """Return the synthesis as it is now, or as it was at a revision; revision 0 is empty.

        Raises NotFoundError if there is no such revision, or none yet.
        """
        if revision is None:
            return await synthesis.read(self._store, self.keys)
        return await synthesis.read_at(self._store, self.keys, revision)

    def revisions(self, after: int = 0, *, follow: bool = True) -> AsyncGenerator[Revision, None]:
        """Yield the revisions of the synthesis after a number, in order.

        With `follow` also new ones, through outages, until one is final and none follows it. A
        session can continue after that: iterate again from there. Raises NotFoundError if somebody
        has trimmed a revision away.
        """
        return synthesis.revisions(self._store, self.keys, after, follow=follow)

    async def until_final(self, *, timeout: float | None = None) -> Synthesis:
        """Wait, through outages, until all known agents have ended; return the final synthesis.

        `timeout` is in seconds. Raises WaitTimeoutError, which names the agents that have not
        ended.
        """
        return await synthesis.until_final(self._store, self.keys, timeout)

    async def describe_producers(self, dependency: str) -> str:
        """Say in a phrase which agents are to produce a dependency, and how they are doing."""
        known = (await self.dependencies()).get(dependency)
        if known is None or not known.producers:
            return "nobody has declared to produce it"
        agents = await self.agents()
        now_ms = self._store.now_ms()
        parts = []
        for name in known.producers:
            agent = agents.get(name)
            if agent is None:
                parts.append(f"{name}, not heard of yet")
                continue
            done = f" at {agent.percent:g} %" if agent.percent is not None else ""
            silent_s = max(0, now_ms - agent.seen_ms) / 1000
            parts.append(f"{name}, {agent.status.value}{done}, last heard of {silent_s:.0f} s ago")
        return "to be produced by " + "; ".join(parts)


async def read_record(store: ClientStore, key: str, name: str, kind: type[R]) -> R | None:
    """Return one record of a hash, None if there is none of that name."""
    (stored,) = await store.fields(key, [name])
    with checked_reading(key, "hash"):
        return None if stored is None else msgspec.json.decode(stored, type=kind)


async def pages(
    store: ClientStore, stream: str, after: bytes, *, follow: bool = False
) -> AsyncIterator[list[Entry]]:
    """Yield a stream's entries after an id, page by page.

    Ends at the present end of the stream; with `follow` it goes on with new entries, through
    outages.
    """
    place = {stream: after}
    while True:
        reading = partial(store.read_streams, place, PAGE, BLOCK_MS if follow else 0)
        entries = (await (retry(reading) if follow else reading())).get(stream, [])
        if entries:
            place[stream] = entries[-1][0]
            yield entries
        elif not follow:
            return


async def last_id(store: ClientStore, stream: str) -> bytes:
    """Return the id of a stream's last entry, BEGINNING if it has none."""
    newest = await store.entries(stream, b"-", b"+", 1, newest_first=True)
    return newest[0][0] if newest else BEGINNING
