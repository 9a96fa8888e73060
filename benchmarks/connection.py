"""A bare connection to the server with hiredis, to measure without the overhead of a client."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import hiredis

#: Bytes read from the socket at a time: a batch of 256 signals is some 80 KB.
READ_BYTES = 1 << 18

#: Longest wait for a connection or a reply, s. Nothing here blocks the server for that long.
REPLY_SECONDS_MAX = 60.0

#: Commands that are sent before their replies are read.
PIPELINE_MAX = 1_000

Argument = str | bytes | int

#: Any, because hiredis accepts more than its annotations say.
pack: Any = hiredis.pack_command


class BenchmarkError(Exception):
    """A benchmark could not run, or the work that it measures was not done."""


class ReplyError(Exception):
    """The server returned an error; the message holds it."""


def dial(url: str) -> socket.socket:
    """Return a connected socket for redis://host:port or unix:///path."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(REPLY_SECONDS_MAX)
        connected.connect(parts.path)
        return connected
    address = (parts.hostname or "127.0.0.1", parts.port or 6379)
    connected = socket.create_connection(address, REPLY_SECONDS_MAX)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


class Connection:
    """A synchronous connection: send and receive, together or separately."""

    def __init__(self, url: str) -> None:
        self._socket = dial(url)
        self._reader: Any = hiredis.Reader()
        self._buffer = bytearray(READ_BYTES)

    def send(self, *command: Argument) -> None:
        """Send one command; the caller must receive its reply."""
        self._socket.sendall(pack(command))

    def send_packed(self, packed: bytes) -> None:
        """Send one command that was packed before."""
        self._socket.sendall(packed)

    def receive(self) -> Any:
        """Return the next reply, as bytes, ints and lists. Raises ReplyError, OSError."""
        while True:
            reply = self._reader.gets()
            if reply is not False:
                if isinstance(reply, hiredis.ReplyError):
                    raise ReplyError(str(reply))
                return reply
            size = self._socket.recv_into(self._buffer)
            if not size:
                raise ConnectionError("the server has closed the connection")
            self._reader.feed(self._buffer, 0, size)

    def call(self, *command: Argument) -> Any:
        """Send one command and return its reply. Raises ReplyError, OSError."""
        self.send(*command)
        return self.receive()

    def pipeline(self, commands: Iterable[tuple[Argument, ...]]) -> None:
        """Send commands, many at a time; check every reply. Raises ReplyError, OSError."""
        packed: list[bytes] = []
        for command in commands:
            packed.append(pack(command))
            if len(packed) == PIPELINE_MAX:
                self._flush(packed)
        self._flush(packed)

    def _flush(self, packed: list[bytes]) -> None:
        self._socket.sendall(b"".join(packed))
        for _ in packed:
            self.receive()
        packed.clear()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
