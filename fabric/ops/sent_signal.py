"""A signal sent for a person or a script, and what comes of it."""

from __future__ import annotations

from fabric.backoff import retry
from fabric.client.emitter import Emitter
from fabric.client.session import last_id
from fabric.client.synthesis import BLOCK_MS
from fabric.store.keys import ORCHESTRATORS, Partition
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import parse_id
from fabric.wire.stored import tampered, text_fields_of

#: Entries read at a time.
PAGE = 256


class SentSignal:
    """Sends one signal, then reads the stream in which its consequences appear."""

    def __init__(
        self, store: ClientStore, partition: Partition, emitter: Emitter, stream: str
    ) -> None:
        self._store = store
        self._partition = partition
        self._emitter = emitter
        self._stream = stream
        self._after: dict[str, bytes] = {}
        self._id = b""
        #: Why the signal was refused, as soon as that is known.
        self.refusal: str | None = None

    async def send(self, entry: list[bytes]) -> None:
        """Send a checked entry. After a lost reply it is sent again: it must bear repetition."""
        for key in (self._stream, self._partition.dead):
            self._after[key] = await last_id(self._store, key)
        (self._id,) = await self._emitter.send([entry])

    async def read(self) -> list[Entry]:
        """Return new entries of the stream, or none after a while; update `refusal`."""
        found = await retry(lambda: self._store.read_streams(self._after, PAGE, BLOCK_MS))
        self._after.update((key, entries[-1][0]) for key, entries in found.items() if entries)
        for _, flat in found.get(self._partition.dead, []):
            letter = text_fields_of(flat)
            if letter.get("id") == self._id.decode():
                self.refusal = letter.get("reason", "")
        return found.get(self._stream, [])

    async def is_handled(self) -> bool:
        """Whether an orchestrator has read past the signal. Raises ServerError."""
        lease = self._partition.lease(ORCHESTRATORS)
        (committed,) = await self._store.fields(lease, ["committed"])
        try:
            return bool(self._id) and parse_id(committed or BEGINNING) >= parse_id(self._id)
        except ValueError:
            raise tampered(lease, "hash", "committed") from None
