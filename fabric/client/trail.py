"""The last messages that were read of a stream, to know them again when the server went back.

After a failover, or a restart from an append-only file that was behind, a stream may hold other
messages under ids that were read before. Who reads on from its place would pass over them.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import Final

from fabric.store.port import BEGINNING, ClientStore, Entry

#: Messages remembered of each stream: more than one agent is sent in the seconds that a failover
#: can lose.
TRAIL_MAX: Final = 256


class Trail:
    """Ids of the messages read last, each with a checksum of what it said."""

    def __init__(self) -> None:
        #: The last message that is not remembered any more.
        self._start = BEGINNING
        self._marks: deque[tuple[bytes, int]] = deque()

    @classmethod
    async def at(cls, store: ClientStore, stream: str, place: bytes) -> Trail:
        """Return the trail of who reads on from a place: it knows the message there."""
        trail = cls()
        for entry in await store.entries(stream, place, place, 1):
            trail.note(entry)
        return trail

    def note(self, entry: Entry) -> None:
        """Remember a message that was read."""
        if len(self._marks) == TRAIL_MAX:
            self._start, _ = self._marks.popleft()
        self._marks.append((entry[0], _mark(entry)))

    async def turning(self, store: ClientStore, stream: str) -> bytes | None:
        """Return the last message that the stream still holds as it was read; forget those after.

        None when that is the last one of all: nothing was lost. Raises ServerError.
        """
        if not self._marks:
            return None
        newest, oldest = self._marks[-1], self._marks[0]
        if await self._holds(store, stream, newest):
            return None
        there = await store.entries(stream, oldest[0], newest[0], TRAIL_MAX)
        known = {entry[0]: _mark(entry) for entry in there}
        while self._marks:
            entry_id, mark = self._marks[-1]
            if known.get(entry_id) == mark:
                return entry_id
            self._marks.pop()
        if self._start != BEGINNING:
            found = await store.entries(stream, self._start, self._start, 1)
            # That is lost too: then who can say what was read of the rest.
            self._start = self._start if found else BEGINNING
        return self._start

    async def _holds(self, store: ClientStore, stream: str, marked: tuple[bytes, int]) -> bool:
        entry_id, mark = marked
        found = await store.entries(stream, entry_id, entry_id, 1)
        return bool(found) and _mark(found[0]) == mark


def _mark(entry: Entry) -> int:
    return zlib.crc32(b"\0".join(entry[1]))
