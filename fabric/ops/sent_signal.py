"""A signal sent for a person or a script, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fabric.backoff import retry
from fabric.client.emitter import Emitter
from fabric.client.session import BLOCK_MS, last_id
from fabric.store.keys import ORCHESTRATORS, Partition
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import parse_id
from fabric.wire.stored import tampered, text_fields_of

#: Entries read at a time.
PAGE = 256


@dataclass(slots=True)
class SentSignal:
    """Sends one signal, then reads the stream in which its consequences appear."""

    store: ClientStore
    partition: Partition
    emitter: Emitter
    stream: str
    #: Why the signal was refused, as soon as that is known.
    refusal: str | None = None
    _after: dict[str, bytes] = field(default_factory=dict)
    _id: bytes = b""

    async def send(self, entry: list[bytes]) -> None:
        """Send a checked entry. After a lost reply it is sent again: it must bear repetition."""
        for key in (self.stream, self.partition.dead):
            self._after[key] = await last_id(self.store, key)
        (self._id,) = await self.emitter.send([entry])

    async def read(self) -> list[Entry]:
        """Return new entries of the stream, or none after a while; update `refusal`."""
        found = await retry(lambda: self.store.read_streams(self._after, PAGE, BLOCK_MS))
        self._after.update((key, entries[-1][0]) for key, entries in found.items() if entries)
        for _, flat in found.get(self.partition.dead, []):
            letter = text_fields_of(flat)
            if letter.get("id") == self._id.decode():
                self.refusal = letter.get("reason", "")
        return found.get(self.stream, [])

    async def is_handled(self) -> bool:
        """Whether an orchestrator has read past the signal. Raises ServerError."""
        lease = self.partition.lease(ORCHESTRATORS)
        (committed,) = await self.store.fields(lease, ["committed"])
        try:
            return bool(self._id) and parse_id(committed or BEGINNING) >= parse_id(self._id)
        except ValueError:
            raise tampered(lease, "hash", "committed") from None
