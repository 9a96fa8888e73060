"""Private real servers for the tests: one process, one unix socket, one temporary directory each.

Nothing here imitates a server. Tests that need a flavour which is not on this machine fail, and say
how to install it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = Path(__file__).resolve().parents[2]

#: Flavours that every test of the store runs on; FABRIC_TEST_SERVERS can name more.
FLAVOURS_REQUIRED = ("redis-6.2", "redis-7.0", "redis-8.2", "valkey-8.0", "valkey-9.1")
#: The flavour that the default suite runs on.
FLAVOUR_DEFAULT = "redis-7.0"
#: Seconds from a server's start to its first PONG; a slow machine needs about one.
START_SECONDS_MAX = 20.0
#: Seconds from SIGTERM until a server that has not ended is killed.
STOP_SECONDS_MAX = 10.0
#: Seconds that `RunningServer.cli` waits for a reply; only a blocking command needs long.
REPLY_SECONDS_MAX = 20.0
#: Seconds between two checks of a condition.
POLL_SECONDS = 0.01
#: Bytes of a socket's path: sun_path holds 108 on Linux and 104 on macOS, the final NUL included.
SOCKET_PATH_BYTES_MAX = 103


class ServerMissingError(Exception):
    """The tests need a flavour of server that is not on this machine."""


class ServerStartError(Exception):
    """The server ended, or did not answer within START_SECONDS_MAX; the message holds its log."""


def given_servers(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """Return the binaries that FABRIC_TEST_SERVERS names ("name=path,name=path"), by flavour."""
    entries = [entry.strip() for entry in environment.get("FABRIC_TEST_SERVERS", "").split(",")]
    servers = {}
    for entry in filter(None, entries):
        name, separator, path = entry.partition("=")
        if not (name and separator and path):
            raise ValueError(f'FABRIC_TEST_SERVERS: "{entry}" is not name=/path/to/redis-server')
        servers[name] = Path(path)
    return servers


def flavours() -> tuple[str, ...]:
    """Return the flavours to test on: the required ones, then those of FABRIC_TEST_SERVERS."""
    return tuple(dict.fromkeys((*FLAVOURS_REQUIRED, *given_servers())))


def binary(flavour: str) -> Path:
    """Return the redis-server of a flavour. Raises ServerMissingError when it is missing."""
    default = ROOT / ".servers" / flavour / f"{flavour.partition('-')[0]}-server"
    path = given_servers().get(flavour, default)
    if not os.access(path, os.X_OK):
        raise ServerMissingError(
            f"no {flavour} at {path}: run scripts/servers, "
            f'or set FABRIC_TEST_SERVERS="{flavour}=/path/to/redis-server"'
        )
    return path


@dataclass
class RunningServer:
    """A private server that a test may stop, kill and start again."""

    flavour: str
    directory: Path
    options: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    #: Variables added to the environment.
    extra: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Return the server's process id. Raises ServerStartError when it does not run."""
        if self.process is None:
            raise ServerStartError(f"{self.flavour} in {self.directory} is not running")
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def cli(self, *args: str | int | float | bytes) -> Any:
        """Run one command; return the server's reply as RESP2 has it: lists, strings, integers.

        Uses a new connection and no retries, as redis-cli does. Raises redis.ResponseError for an
        error reply, redis.ConnectionError without a reply.
        """
        with self._client(
            protocol=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=REPLY_SECONDS_MAX,
            driver_info=None,  # to look up the driver's version takes 1 ms
        ) as client:
            client.response_callbacks.clear()  # they reshape replies
            return client.execute_command(*args)

    def flush(self) -> None:
        """Remove all keys of all databases, and all scripts."""
        self.cli("FLUSHALL")
        self.cli("SCRIPT", "FLUSH")

    def start(self) -> None:
        """Start the process and return when it answers; keeps the directory of an earlier run."""
        argv = [str(binary(self.flavour)), *self._arguments()]
        self.socket.unlink(missing_ok=True)  # a kill leaves it; it must not look like a server
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            env=os.environ | self.extra,
            # It inherits that SIGXFSZ is ignored: a write beyond the file size limit fails instead.
            restore_signals=False,
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            if not self.alive or time.monotonic() > deadline:
                log = self.directory / "log"
                words = log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
                self.kill()
                raise ServerStartError(f"{self.flavour} did not start: {' '.join(argv)}\n{words}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server with SIGTERM and wait for its end; does nothing if it has ended."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """Kill the server with SIGKILL and wait for its end."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def remove(self) -> None:
        """Kill the server and delete its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _client(self, **options: Any) -> "redis.Redis":
        return redis.Redis(unix_socket_path=str(self.socket), **options)

    def _arguments(self) -> list[str]:
        return [
            *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.directory), "--logfile", str(self.directory / "log")),
            *("--save", "", "--appendonly", "no"),
            *self.options,
        ]

    def _answers(self) -> bool:
        try:
            return bool(self.cli("PING") == "PONG")
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False


def short_directory() -> Path:
    """Make a private directory whose path leaves room for a unix socket's name."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        directory = Path(tempfile.mkdtemp(prefix="fabric-", dir=parent))
        if len(os.fsencode(directory / "redis.sock")) <= SOCKET_PATH_BYTES_MAX:
            return directory
        directory.rmdir()
    raise ServerStartError(f"no temporary path under {SOCKET_PATH_BYTES_MAX} bytes")


def start_server(flavour: str, *options: str) -> RunningServer:
    """Start a server of a flavour; `options` are redis-server's ("--appendonly", "yes").

    The caller removes it. Raises ServerMissingError or ServerStartError.
    """
    server = RunningServer(flavour, short_directory(), options)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server
