"""A private redis-server for one run, in its own directory; nothing stays behind."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import BenchmarkError, Connection, ReplyError

#: The server that `scripts/servers` fetches.
DEFAULT = Path(__file__).resolve().parent.parent / ".servers" / "redis-7.0" / "redis-server"

#: Time from a server's start to its first answer, s.
START_SECONDS_MAX = 20.0

#: Time for a server to end before it is killed, s.
STOP_SECONDS_MAX = 10.0

#: Script time from which the server's slow log lists a script, µs. Listing every script would cost
#: too much.
SLOWER_THAN_US = 1_000


@dataclass(frozen=True)
class Server:
    """A running server: its address and its process."""

    url: str
    pid: int

    def connect(self, database: int = 0) -> Connection:
        """Return a new connection."""
        connection = Connection(self.url)
        if database:
            connection.call("SELECT", database)
        return connection


@contextmanager
def running(binary: Path, *, unix: bool = False, aof: str = "no") -> Iterator[Server]:
    """Run a server while the block lasts. `aof` is `no` or a value of appendfsync.

    Raises BenchmarkError when it does not start.
    """
    if not binary.is_file():
        raise BenchmarkError(f"no redis-server at {binary}: run scripts/servers, or name one")
    directory = Path(tempfile.mkdtemp(prefix="fabric-bench-"))
    log = directory / "log"
    options = ["--dir", str(directory), "--logfile", str(log), "--save", ""]
    options += ["--appendonly", "no"] if aof == "no" else ["--appendonly", "yes"]
    options += [] if aof == "no" else ["--appendfsync", aof, "--auto-aof-rewrite-percentage", "0"]
    options += ["--slowlog-log-slower-than", str(SLOWER_THAN_US), "--slowlog-max-len", "100000"]
    if unix:
        path = directory / "redis.sock"
        url = f"unix://{path}"
        options += ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    else:
        port = free_port()
        url = f"redis://127.0.0.1:{port}"
        options += ["--bind", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([str(binary), *options], stdin=subprocess.DEVNULL)
    try:
        _wait(process, url, log)
        yield Server(url, process.pid)
    finally:
        stop(process)
        shutil.rmtree(directory, ignore_errors=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that we started; kill it after STOP_SECONDS_MAX."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            connection = Connection(url)
            if connection.call("PING") == b"PONG":
                connection.close()
                return
        except (OSError, ReplyError):
            time.sleep(0.01)
    words = log.read_text(errors="replace")[-1_000:] if log.exists() else "(no log)"
    raise BenchmarkError(f"redis-server did not start:\n{words}")
