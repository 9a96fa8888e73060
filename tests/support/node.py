"""One server on a TCP port, with a configuration file that it may rewrite."""

import errno
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.support.servers import POLL_SECONDS, RunningServer, ServerStartError, short_directory

#: Address that all nodes listen on.
HOST = "127.0.0.1"

#: Ports to choose from: below those that the system assigns by itself, so that a restarted node
#: finds its own port free. A cluster's bus uses the port `BUS_OFFSET` higher.
PORTS = range(10_500, 21_500)
BUS_OFFSET = 10_000

#: Ports tried before giving up.
PORT_ATTEMPTS = 200

#: Times to start a node on another port when another process has taken the chosen one.
START_ATTEMPTS = 5

#: Seconds for servers to agree on something; a failover takes two to ten.
AGREE_SECONDS_MAX = 60.0


class TopologyError(Exception):
    """The servers did not reach the expected state in time; says what they see."""


def wait(
    condition: Callable[[], object],
    what: str | Callable[[], str],
    seconds_max: float = AGREE_SECONDS_MAX,
) -> None:
    """Wait until the condition is true. Raises TopologyError, which names what did not happen."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            raise TopologyError(f"did not come true: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """Return a port that is free, together with its bus port."""
    for _ in range(PORT_ATTEMPTS):
        port = random.choice(PORTS)
        if all(map(_is_free, (port, port + BUS_OFFSET))):
            return port
    raise TopologyError(f"no free port among {PORT_ATTEMPTS} from {PORTS}")


def _is_free(port: int) -> bool:
    with socket.socket() as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


@dataclass
class Node(RunningServer):
    """A server on a port; `lines` is the initial configuration file."""

    port: int = 0
    lines: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    frozen: bool = False

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    @property
    def configuration(self) -> Path:
        return self.directory / "node.conf"

    @property
    def answers(self) -> bool:
        """Return whether it runs and is not frozen."""
        return self.alive and not self.frozen

    def start(self) -> None:
        """Start the process again with the configuration file as the server has rewritten it."""
        self.frozen = False
        super().start()

    def freeze(self) -> None:
        """SIGSTOP: it still takes connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    def info(self, section: str) -> dict[str, str]:
        """Return INFO; empty when it does not answer."""
        if not self.answers:
            return {}
        try:
            rows = str(self.cli("INFO", section)).splitlines()
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return {}
        return dict(row.split(":", 1) for row in rows if ":" in row)

    def _client(self, **options: Any) -> "redis.Redis":
        return redis.Redis(host=HOST, port=self.port, **options)

    def _arguments(self) -> list[str]:
        if not self.configuration.exists():
            lines = (
                f"port {self.port}",
                f"bind {HOST}",
                f"dir {self.directory}",
                f"logfile {self.directory / 'log'}",
                *self.lines,
            )
            self.configuration.write_text("".join(f"{line}\n" for line in lines))
        return [str(self.configuration), *self.flags, *self.options]


def start_node(flavour: str, lines: tuple[str, ...], *options: str, flags: str = "") -> Node:
    """Start a node on a free port."""
    for attempt in range(START_ATTEMPTS):
        node = Node(
            flavour,
            short_directory(),
            options,
            port=free_port(),
            lines=lines,
            flags=(flags,) if flags else (),
        )
        try:
            node.start()
        except BaseException as error:
            node.remove()
            is_taken = isinstance(error, ServerStartError) and "in use" in str(error)
            if not is_taken or attempt + 1 == START_ATTEMPTS:
                raise
        else:
            return node
    raise AssertionError("the last attempt returns or raises")
