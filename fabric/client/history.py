"""What a reader remembers of a stream, to notice that the server no longer holds what was read."""

from __future__ import annotations

import zlib
from collections import deque
from typing import Final

from fabric.store.port import BEGINNING, Entry, Readable
from fabric.wire.stored import fields_of

#: Messages remembered of each stream: more than one agent is sent in the seconds that a failover
#: can lose.
HISTORY_MAX: Final = 256


class ReadHistory:
    """Ids of the messages last read from a stream, each with a checksum of its content.

    After a failover, or a restart from an append-only file that was behind, a stream may hold other
    messages under ids that were read before. A reader that goes on from its place would skip them.
    So it would after somebody has added an entry under a far higher id, which a worker removes.
    """

    def __init__(self) -> None:
        #: The last message that is no longer remembered.
        self._start = BEGINNING
        self._marks: deque[tuple[bytes, int]] = deque()
        #: The last message is not as the fabric writes them: it may be removed at any time.
        self.is_odd = False

    @classmethod
    async def at(cls, store: Readable, stream: str, place: bytes) -> ReadHistory:
        """Return the history of a reader that goes on from a place: it knows the message there."""
        history = cls()
        for entry in await store.entries(stream, place, place, 1):
            history.note(entry)
        return history

    def note(self, entry: Entry) -> None:
        """Remember a message that was read."""
        if len(self._marks) == HISTORY_MAX:
            self._start, _ = self._marks.popleft()
        self._marks.append(_mark(entry))
        self.is_odd = not _is_ours(entry)

    async def last_kept(self, store: Readable, stream: str) -> bytes | None:
        """Return the last message that the stream still holds as it was read; forget later ones.

        None if that is the last message read, so that nothing was lost. Raises ServerError.
        """
        if not self._marks:
            return None
        (oldest, _), (newest, _) = self._marks[0], self._marks[-1]
        if self._marks[-1] in map(_mark, await store.entries(stream, newest, newest, 1)):
            return None
        there = set(map(_mark, await store.entries(stream, oldest, newest, HISTORY_MAX)))
        while self._marks:
            if self._marks[-1] in there:
                return self._marks[-1][0]
            self._marks.pop()
            self.is_odd = False
        if self._start != BEGINNING:
            found = await store.entries(stream, self._start, self._start, 1)
            # If that is lost too, nothing is known of the rest: read everything again.
            self._start = self._start if found else BEGINNING
        return self._start


def _is_ours(entry: Entry) -> bool:
    """Whether a message names the event of its own id as its cause, as the fabric's do."""
    number, _, _ = entry[0].partition(b"-")
    return fields_of(entry[1]).get(b"cause") == number + b"-0"


def _mark(entry: Entry) -> tuple[bytes, int]:
    return entry[0], zlib.crc32(b"\0".join(entry[1]))
