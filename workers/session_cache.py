"""The sessions of a partition that its orchestrator has in memory, the least recent ones first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from fabric.errors import TamperedError
from fabric.store import state
from fabric.store.keys import Partition, SessionKeys
from fabric.store.keyspace import NOTHING
from fabric.store.port import WorkerStore
from fabric.store.state import StoredSession
from workers.handler import Quarantine


class SessionCache(OrderedDict[str, StoredSession]):
    """Session → its state. Without those in quarantine, and those that are not needed just now."""

    def __init__(
        self,
        store: WorkerStore,
        names: Partition,
        most: int,
        quarantined: Quarantine,
        suspects: set[str],
    ) -> None:
        super().__init__()
        self._store = store
        self._names = names
        self._most = most
        self._quarantined = quarantined
        self._suspects = suspects

    async def load(self, needed: dict[str, None]) -> None:
        """Have these in memory, and let the least recently used go that are too many.

        Raises TamperedError, naming a key that the fabric has not written.
        """
        missing = []
        for name in needed:
            if name in self:
                self.move_to_end(name)
            elif name not in self._quarantined:
                missing.append(self._names.session(name))
        if missing:
            await self._read(missing)
        while len(self) > max(self._most, len(needed)):
            self.popitem(last=False)

    async def _read(self, missing: Iterable[SessionKeys]) -> None:
        """Read sessions, all at once: a batch can be of as many as it has signals."""
        hashes = [(keys, state.hashes(keys)) for keys in missing]
        found = iter(await self._store.hashes([key for _, own in hashes for key in own]))
        for keys, own in hashes:
            stored = state.restore(keys, list(islice(found, len(own))))
            if keys.name not in self._suspects or await self._is_whole(stored):
                self[keys.name] = stored

    async def _is_whole(self, stored: StoredSession) -> bool:
        """Whether a session of which somebody has deleted a key is there, or is gone, whole."""
        name, keys = stored.state.name, stored.keys
        self._suspects.discard(name)
        if not stored.is_stored or await self._store.entries(keys.log, b"-", b"+", 1):
            return True
        self._quarantined.add(name, str(TamperedError(keys.log, NOTHING, "stream")))
        return False
