"""A store that records what one agent sends and receives.

It replaces the library's store, so it sees every retry and heartbeat. `sending` is recorded before
a signal is sent, `sent` after the server has acknowledged it, `received` when messages are read.
"""

from collections.abc import Sequence
from typing import Any

from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import Entry
from fabric.store.redis import RedisStore
from fabric.wire.stored import fields_of
from tests.chaos.journal import Journal

#: Names of the message streams in the record.
INBOX, BROADCAST = "inbox", "broadcast"


class RecordingStore(RedisStore):
    """The real store, with a journal."""

    def __init__(self, url: str, journal: Journal, **options: Any) -> None:
        super().__init__(url, name="fabric-chaos", **options)
        self._journal = journal
        #: Id of the newest broadcast message that was read.
        self.broadcast_upto = ""

    async def emit(
        self,
        partition: int,
        entries: Sequence[Sequence[bytes]],
        ingress_max: int,
        group: str = ORCHESTRATORS,
        *,
        connection: int | None = None,
    ) -> list[bytes]:
        """See ClientStore."""
        said = [_said(entry) for entry in entries]
        for one in said:
            self._journal.note("sending", **one)
        ids = await super().emit(partition, entries, ingress_max, group, connection=connection)
        for one, entry_id in zip(said, ids, strict=True):
            self._journal.note("sent", inc=one["inc"], seq=one["seq"], id=entry_id.decode())
        return ids

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        """See ClientStore."""
        found = await super().read_streams(after, count, block_ms)
        for key, entries in found.items():
            where = INBOX if ":inbox:" in key else BROADCAST if key.endswith(":broadcast") else ""
            if where and entries:
                ids = [entry_id.decode() for entry_id, _ in entries]
                self._journal.note("received", where=where, ids=ids)
                if where == BROADCAST:
                    self.broadcast_upto = ids[-1]
        return found


def _said(entry: Sequence[bytes]) -> dict[str, Any]:
    fields = fields_of(entry)
    return {
        "type": fields[b"type"].decode(),
        "inc": int(fields.get(b"incarnation", b"0")),
        "seq": int(fields.get(b"seq", b"0")),
        "payload": fields.get(b"payload", b"{}").decode(),
    }
