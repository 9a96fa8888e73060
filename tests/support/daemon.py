"""Worker processes: `python -m workers …`, forked (`tests/support/forkserver.py`)."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL

import pytest

from tests.support.forked import Forked
from tests.support.servers import ROOT
from tests.support.waiting import CONDITION_SECONDS_MAX, until

#: Short enough that a test can wait for a lease to expire, long enough that a worker on a busy
#: machine does not lose its lease.
LEASE_MS = 1_000


def environment() -> dict[str, str]:
    """Return our environment, without the settings of the person who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FABRIC_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "FABRIC_CONFIG": os.devnull,
        "FABRIC_WORKSPACE": "none",
    }


class Daemon:
    """One worker process, and its output."""

    def __init__(
        self,
        url: str,
        *flags: str,
        worker: str = "orchestrator",
        lease_ms: int = LEASE_MS,
        rules: Path | None = None,
    ) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = Forked(
            *("workers", (worker, "--redis-url", url, "--lease-ms", str(lease_ms), *flags)),
            cwd=tempfile.gettempdir(),
            env=environment() | ({"FABRIC_CONFIG": str(rules)} if rules else {}),
            stdin=DEVNULL,
            stderr=self._said,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        """Return everything it has written to standard error."""
        size = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), size, 0).decode("utf-8", "replace")

    def hear(self, words: str) -> None:
        """Wait until its standard error contains a text."""
        until(
            lambda: words in self.said() or not self.is_alive,
            lambda: f"{words!r} in what it said:\n{self.said()}",
        )
        assert words in self.said(), self.said()

    def freeze(self) -> None:
        """SIGSTOP, as if its host paused for long."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        if stat.exists():
            until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is frozen")

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: drain."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        return self.process.wait(CONDITION_SECONDS_MAX)

    def close(self) -> None:
        self.kill()
        self._said.close()


StartDaemon = Callable[..., Daemon]


@pytest.fixture
def daemon() -> Iterator[StartDaemon]:
    """Start worker processes; they are killed at the end of the test."""
    started: list[Daemon] = []

    def start(
        url: str,
        *flags: str,
        worker: str = "orchestrator",
        lease_ms: int = LEASE_MS,
        rules: Path | None = None,
    ) -> Daemon:
        started.append(Daemon(url, *flags, worker=worker, lease_ms=lease_ms, rules=rules))
        return started[-1]

    yield start
    for one in started:
        one.close()
