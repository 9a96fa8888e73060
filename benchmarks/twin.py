"""`python -m benchmarks.twin`: the raw twin, a loop that makes the same writes as our
orchestrator and does nothing else.

Loops: `sync` on blocking sockets, `asyncio` on an event loop. Both request the next batch before
they prepare this one, and read a commit's reply one batch later: without that they reach 60 % of
the rate. Readers: `xread`, as ours; `group`, XREADGROUP and XACK, the usual way; `reference`, as
`xread`, but the script copies log and inbox entries from the input instead of receiving them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import deque
from pathlib import Path
from typing import Any

import hiredis

from benchmarks.connection import Argument, Connection, dial, pack
from benchmarks.twin_writes import Entry, Writes
from benchmarks.workload import KEYS, NAMES
from fabric.store.keys import ORCHESTRATORS

SHAPES = ("sync", "asyncio")
READERS = ("xread", "group", "reference")

#: Entries that are read and committed at a time: as many as ours.
BATCH = 256

#: Longest blocking read, ms.
BLOCK_MS = 1_000

SCRIPT = Path(__file__).with_name("twin.lua")


class Twin:
    """The commands that read the next batch and commit it."""

    def __init__(self, connection: Connection, name: str, reader: str) -> None:
        self._writes = Writes(name)
        self._acknowledge, self._copy = reader == "group", reader == "reference"
        self._version = 0
        self._after = b"0-0"
        self._digest = connection.call("SCRIPT", "LOAD", SCRIPT.read_text()).decode()
        connection.call("XGROUP", "CREATE", KEYS.signals, ORCHESTRATORS, "0", "MKSTREAM")
        lease: tuple[Argument, ...] = ("owner", "twin", "nonce", "0" * 32, "epoch", "1700000000000")
        lease += ("ttl", "5000", "outages", "", "rules", "0" * 64, "server", "0" * 40)
        connection.call("HSET", KEYS.lease(ORCHESTRATORS), *lease)

    def read(self) -> tuple[Argument, ...]:
        """Return the command that reads the next batch."""
        how: tuple[Argument, ...] = ("COUNT", BATCH, "BLOCK", BLOCK_MS)
        if self._acknowledge:
            group = ("XREADGROUP", "GROUP", ORCHESTRATORS, "twin")
            return (*group, *how, "STREAMS", KEYS.signals, ">")
        return ("XREAD", *how, "STREAMS", KEYS.signals, self._after)

    def took(self, reply: Any) -> list[Entry]:
        """Note the entries that were read: the next read begins after them."""
        entries: list[Entry] = reply[0][1] if reply else []
        if entries:
            self._after = entries[-1][0]
        return entries

    def commit(self, entries: list[Entry]) -> bytes:
        """Return the packed command that commits a batch: packing is a third of the work."""
        self._version += 1
        command = self._writes.command(
            self._digest, self._version, entries,
            acknowledge=self._acknowledge, copy=self._copy, drained=len(entries) < BATCH,
        )  # fmt: skip
        packed: bytes = pack(command)
        return packed


def run_sync(twin: Twin, reader: Connection, committer: Connection) -> None:
    """Request the next batch before preparing this one; read a commit's reply one batch later."""
    waiting = False
    reader.send(*twin.read())
    while True:
        entries = twin.took(reader.receive())
        reader.send(*twin.read())
        if not entries:
            continue
        command = twin.commit(entries)
        if waiting:
            committer.receive()
        committer.send_packed(command)
        waiting = True


class Protocol(asyncio.Protocol):
    """The thinnest client on an event loop: replies resolve futures in order."""

    def __init__(self) -> None:
        self._reader: Any = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            future = self._waiting.popleft()
            if isinstance(reply, hiredis.ReplyError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        for future in self._waiting:
            future.set_exception(error or ConnectionError("the server has closed the connection"))

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Send one command now; its reply comes later."""
        return self.call_packed(pack(command))

    def call_packed(self, packed: bytes) -> asyncio.Future[Any]:
        """Send one command that was packed before."""
        assert self._transport is not None
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        self._transport.write(packed)
        return future


async def run_asyncio(twin: Twin, url: str) -> None:
    """Do as `run_sync` does, on an event loop."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(Protocol, sock=_nonblocking(url))
    _, committer = await loop.create_connection(Protocol, sock=_nonblocking(url))
    committing: asyncio.Future[Any] | None = None
    reading = reader.call(*twin.read())
    while True:
        entries = twin.took(await reading)
        reading = reader.call(*twin.read())
        if not entries:
            continue
        command = twin.commit(entries)
        if committing is not None:
            await committing
        committing = committer.call_packed(command)


def _nonblocking(url: str) -> Any:
    connected = dial(url)
    connected.setblocking(False)
    return connected


def main() -> int:
    """Relay until ended by a signal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--workload", choices=NAMES, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="sync")
    parser.add_argument("--reader", choices=READERS, default="xread")
    flags = parser.parse_args()
    connection = Connection(flags.url)
    twin = Twin(connection, flags.workload, flags.reader)
    if flags.shape == "asyncio":
        asyncio.run(run_asyncio(twin, flags.url))
    else:
        run_sync(twin, connection, Connection(flags.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
