"""Private real servers for the tests: one process, one unix socket, one temporary directory each.

Nothing here imitates a server. A flavour that is not on this machine fails the tests that need it,
with the sentence that says how to get it.
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

#: Flavours that every test of the store runs on; more can be named in FABRIC_TEST_SERVERS.
FLAVOURS_REQUIRED = ("redis-6.2", "redis-7.0", "valkey-8.0")
#: The one that the default suite runs on.
FLAVOUR_DEFAULT = "redis-7.0"
#: Seconds that a server may take from its start to its first PONG; a slow machine needs about one.
START_SECONDS_MAX = 20.0
#: Seconds that a server may take to end after SIGTERM before it is killed.
STOP_SECONDS_MAX = 10.0
#: Seconds that `RunningServer.cli` waits for a reply; only a blocking command comes near it.
REPLY_SECONDS_MAX = 20.0
#: Seconds between two looks at a condition that is waited for.
POLL_SECONDS = 0.01
#: Bytes of a socket's path: sun_path holds 108 on Linux and 104 on macOS, the final NUL included.
SOCKET_PATH_BYTES_MAX = 103


class ServerMissingError(Exception):
    """A flavour that the tests need is not on this machine."""


class ServerStartError(Exception):
    """The server ended, or did not answer, before START_SECONDS_MAX; the message has its log."""


def given_servers(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """The binaries named by hand in FABRIC_TEST_SERVERS ("name=path,name=path"), by flavour."""
    entries = [entry.strip() for entry in environment.get("FABRIC_TEST_SERVERS", "").split(",")]
    servers = {}
    for entry in filter(None, entries):
        name, separator, path = entry.partition("=")
        if not (name and separator and path):
            raise ValueError(f'FABRIC_TEST_SERVERS: "{entry}" is not name=/path/to/redis-server')
        servers[name] = Path(path)
    return servers


def flavours() -> tuple[str, ...]:
    """The names of all servers to test on: the required ones, then those named by hand."""
    return tuple(dict.fromkeys((*FLAVOURS_REQUIRED, *given_servers())))


def binary(flavour: str) -> Path:
    """The redis-server of a flavour; raises ServerMissingError when it is not on this machine."""
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
    """A server of our own: stop it, kill it or start it again without asking anybody."""

    flavour: str
    directory: Path
    options: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    #: Environment besides ours.
    extra: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The process of the server itself; raises ServerStartError when it does not run."""
        if self.process is None:
            raise ServerStartError(f"{self.flavour} in {self.directory} is not running")
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def cli(self, *args: str | int | float | bytes) -> Any:
        """Runs one command and returns the server's own reply (RESP2: lists, strings, integers).

        As redis-cli does: a connection for this command alone, nothing repeated, nothing reshaped.
        Raises redis.ResponseError with an error reply, redis.ConnectionError without any.
        """
        with self._client(
            protocol=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=REPLY_SECONDS_MAX,
        ) as client:
            client.response_callbacks.clear()  # they reshape replies
            return client.execute_command(*args)

    def flush(self) -> None:
        """Leaves the server as it started: no keys in any database, no scripts."""
        self.cli("FLUSHALL")
        self.cli("SCRIPT", "FLUSH")

    def start(self) -> None:
        """Starts the process and returns when it answers; keeps the directory of an earlier run."""
        argv = [str(binary(self.flavour)), *self._arguments()]
        self.socket.unlink(missing_ok=True)  # left by a kill: it must not look like a server
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            env=os.environ | self.extra,
            # It ignores SIGXFSZ, as we do: a file that may not grow is a write that fails.
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
        """Ends the server in order (SIGTERM) and waits until it has gone; no-op when it has."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL) and waits until it has gone."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def remove(self) -> None:
        """Kills the server and deletes its directory."""
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
    """A new private directory whose path leaves room for a unix socket's name."""
    for parent in (tempfile.gettempdir(), "/tmp"):
        directory = Path(tempfile.mkdtemp(prefix="fabric-", dir=parent))
        if len(os.fsencode(directory / "redis.sock")) <= SOCKET_PATH_BYTES_MAX:
            return directory
        directory.rmdir()
    raise ServerStartError(f"no temporary path under {SOCKET_PATH_BYTES_MAX} bytes")


def start_server(flavour: str, *options: str) -> RunningServer:
    """Starts a server of this flavour; options are redis-server's own ("--appendonly", "yes").

    Who starts it removes it. Raises ServerMissingError or ServerStartError.
    """
    server = RunningServer(flavour, short_directory(), options)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server
