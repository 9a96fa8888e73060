"""The syntheses of one partition, as far as they are in memory: what is needed is read, no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fabric.core.synthesis.state import Synthesis
from fabric.store import synthesis as stored
from fabric.store.keys import Partition, SessionKeys
from fabric.store.port import WorkerStore
from workers.quarantine import Quarantine

#: Bytes of records kept in memory, as JSON; in memory they take some eight times as much.
CACHED_BYTES_MAX = 16_777_216

#: Fields asked for in one request.
FIELDS_MAX = 1_000


class Syntheses:
    """Reads parts of syntheses as they are asked for, and lets go of them when they are too many.

    What a commit under way has changed stays in memory until that is through.
    """

    def __init__(self, store: WorkerStore, partition: Partition, sessions_max: int) -> None:
        self._store = store
        self._names = partition
        self._sessions_max = sessions_max
        #: Sessions in memory, the one used longest ago first.
        self._sessions: dict[str, Synthesis] = {}
        #: Bytes of what is in memory, roughly.
        self._bytes = 0
        #: Session → records written since room was made last.
        self._written: dict[str, set[str]] = {}
        self.quarantined = Quarantine()

    def get(self, name: str) -> Synthesis | None:
        """Return a session's synthesis that is in memory."""
        return self._sessions.get(name)

    def keys(self, name: str) -> SessionKeys:
        """Return the names of a session's keys."""
        return self._names.session(name)

    async def session(self, name: str) -> Synthesis | None:
        """Return a session's synthesis, with its head in memory; None while it is quarantined."""
        synthesis = self._sessions.pop(name, None)
        if synthesis is None and name not in self.quarantined:
            keys = self.keys(name)
            revision, complete = await self._store.fields(keys.synthesis, stored.HEAD)
            synthesis = stored.restore(keys, revision, complete)
        if synthesis is not None:
            self._sessions[name] = synthesis
        return synthesis

    async def load(self, synthesis: Synthesis, fields: Iterable[str]) -> None:
        """Bring fields of a synthesis into memory. Raises TamperedError."""
        keys = self.keys(synthesis.name)
        wanted = sorted(fields)
        for start in range(0, len(wanted), FIELDS_MAX):
            names = wanted[start : start + FIELDS_MAX]
            values = await self._store.fields(keys.synthesis, names)
            for name, value in zip(names, values, strict=True):
                stored.load(synthesis, keys, name, value)
                self._bytes += len(value or b"")

    def written(self, name: str, fields: Mapping[str, bytes | None]) -> None:
        """Note which records of a session a commit will change."""
        self._written.setdefault(name, set()).update(fields)
        self._bytes += sum(len(value or b"") for value in fields.values())

    def make_room(self) -> None:
        """Let go of records when too many are in memory; before any are read for the next batch.

        Those that were written since the last time stay: their commit may be under way.
        """
        written, self._written = self._written, {}
        for name in list(self._sessions):
            if len(self._sessions) <= self._sessions_max:
                break
            if name not in written:
                del self._sessions[name]
        if self._bytes <= CACHED_BYTES_MAX:
            return
        self._bytes = 0
        for name, synthesis in list(self._sessions.items()):
            kept = written.get(name)
            if kept is None:
                del self._sessions[name]
                continue
            synthesis.records = {
                field: record for field, record in synthesis.records.items() if field in kept
            }

    def forget(self) -> None:
        """Throw everything away."""
        self._sessions.clear()
        self._written.clear()
        self._bytes = 0
