"""The synthesizer's half of the loop. This version counts what each agent has given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fabric.settings import Settings
from fabric.store.keys import Partition
from fabric.store.port import Batch, Entry, WorkerStore
from workers.handler import Decided


class Synthesizer:
    """How many results of each agent of a partition's sessions have been taken in."""

    def __init__(self, store: WorkerStore, partition: Partition, settings: Settings) -> None:
        self._store = store
        self._names = partition
        self._cached_max = settings.sessions_cached_max
        self._counts: dict[str, dict[bytes, int]] = {}
        self._quarantined: set[str] = set()

    async def prepare(self, entries: list[Entry]) -> list[Any]:
        """See Handler."""
        inputs: list[tuple[str, bytes]] = []
        for _, fields in entries:
            entry = dict(zip(fields[::2], fields[1::2], strict=False))
            session = entry.get(b"session", b"").decode("utf-8", "replace")
            inputs.append((session, entry.get(b"emitter", b"")))
        for session in {session for session, _ in inputs} - self._counts.keys():
            if session and session not in self._quarantined:
                (stored,) = await self._store.hashes([self._names.session(session).synthesis])
                self._counts[session] = {
                    agent: int(count) for agent, count in stored.items() if count.isdigit()
                }
        return inputs

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        """See Handler."""
        changed: dict[str, dict[bytes, int]] = {}
        for session, agent in inputs:
            counts = self._counts.get(session)
            if counts is not None:
                counts[agent] = counts.get(agent, 0) + 1
                changed.setdefault(session, {})[agent] = counts[agent]
        batch = Batch()
        for session, counts in changed.items():
            fields: list[str | bytes | int] = []
            for agent, count in counts.items():
                fields += (agent, count)
            batch.write("HSET", self._names.session(session).synthesis, fields)
        while len(self._counts) > max(self._cached_max, len(changed)):
            del self._counts[next(iter(self._counts))]
        return Decided(batch, len(inputs))

    async def alarms(self, timers: list[bytes]) -> list[Any]:
        """See Handler. The timers are the orchestrators'."""
        return []

    def next_due_ms(self) -> int | None:
        """See Handler."""
        return None

    def quarantine(self, key: str, reason: str) -> bool:
        """See Handler."""
        session = self._names.session_of(key)
        if session is not None:
            self._quarantined.add(session)
        return session is not None

    def forget(self) -> None:
        """See Handler."""
        self._counts.clear()


def factory(settings: Settings) -> Callable[[WorkerStore, int], Synthesizer]:
    """Return what makes a partition's handler."""

    def make(store: WorkerStore, partition: int) -> Synthesizer:
        return Synthesizer(store, store.namespace.partition(partition), settings)

    return make
