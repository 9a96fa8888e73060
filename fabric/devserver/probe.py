"""A few words of the Redis protocol over a unix socket, for questions that need no driver.

The command line asks on each call whether the project's server runs: importing a driver for that
would take longer than the command itself. Replies are RESP2 (redis.io, "Redis serialization
protocol specification").
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

#: Seconds for one reply. A server in good health answers in well under a millisecond.
REPLY_SECONDS_MAX = 1.0

#: Bytes of one reply: INFO's largest section has about 4 kB, CLIENT LIST about 300 a client.
REPLY_BYTES_MAX = 4 * 1024 * 1024


class Refusal(str):
    """An error reply: its code, and the server's words."""

    __slots__ = ()


Reply: TypeAlias = "str | list[Reply]"


class Line:
    """A connection to the server. Its methods raise OSError when the server does not answer."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(REPLY_SECONDS_MAX)
            self._socket.connect(os.fsencode(path))
            self._replies = self._socket.makefile("rb")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, *commands: str) -> list[Reply]:
        """Send the commands (words parted by spaces) in one write; return a reply to each."""
        self._socket.sendall(b"".join(map(_encode, commands)))
        return [_read(self._replies) for _ in commands]

    def end_server(self) -> None:
        """Tell the server to end, and do not wait for it: it answers only if it refuses to.

        NOSAVE is the form that a script which never ends cannot keep from being heard; the
        append-only file is synced all the same.
        """
        self._socket.sendall(_encode("SHUTDOWN NOSAVE"))

    def hear_end(self) -> bool:
        """Return whether the server closes the connection within `REPLY_SECONDS_MAX`."""
        try:
            return self._replies.read(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._socket.close()


class Health(NamedTuple):
    """What a server said of itself."""

    #: It reads its append-only file and takes no commands yet.
    loading: bool
    #: A script keeps it busy: it is there, and says nothing more (the fields below are empty).
    busy: bool
    run_id: str
    pid: int
    version: str
    #: Its working directory, as the kernel names it now; empty when that has been deleted.
    directory: str


def examine(path: Path) -> Health | None:
    """Ask the server behind this socket how it is; None when nothing answers as Redis does."""
    try:
        with Line(path) as line:
            ping, info, directory = line.ask("PING", "INFO server", "CONFIG GET dir")
    except (OSError, ValueError):
        return None
    busy = isinstance(ping, Refusal) and ping.startswith("BUSY")
    loading = isinstance(ping, Refusal) and ping.startswith("LOADING")
    if not (busy or loading or ping == "PONG"):
        return None
    facts: dict[str, str] = {}
    if isinstance(info, str) and not isinstance(info, Refusal):
        facts = dict(row.split(":", 1) for row in info.splitlines() if ":" in row)
    valkey = facts.get("valkey_version")
    pid = facts.get("process_id", "")
    return Health(
        loading=loading,
        busy=busy,
        run_id=facts.get("run_id", ""),
        pid=int(pid) if pid.isdecimal() else 0,
        version=f"valkey {valkey}" if valkey else f"redis {facts.get('redis_version', '')}".strip(),
        directory=str(directory[1]) if isinstance(directory, list) and len(directory) == 2 else "",
    )


def _encode(command: str) -> bytes:
    words = [word.encode() for word in command.split(" ")]
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)])


def _read(stream: BinaryIO) -> Reply:
    line = stream.readline(REPLY_BYTES_MAX)
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection, or does not speak Redis")
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"-":
        return Refusal(rest)
    if kind not in b"$*":
        return rest
    size = int(rest)
    if size > REPLY_BYTES_MAX:
        raise ValueError(f"a reply of {size} bytes; allowed: {REPLY_BYTES_MAX}")
    if kind == b"*":
        return [_read(stream) for _ in range(size)]
    body = stream.read(max(size, 0) + 2) if size >= 0 else b"\r\n"
    return body[:-2].decode(errors="surrogateescape")
