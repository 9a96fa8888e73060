"""Worker processes: start, watch and stop them; and the processor time of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.connection import BenchmarkError
from benchmarks.server import stop

ROOT = Path(__file__).resolve().parent.parent

#: Rules of the benchmarks.
CONFIG = ROOT / "benchmarks" / "fabric.toml"

#: Characters of a worker's last output that an error shows.
WORDS_MAX = 2_000

#: Time over which the load of the machine is measured, s: some 50 clock ticks.
QUIET_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Worker:
    """A running worker and its output."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def pid(self) -> int:
        """Return the worker's process id."""
        return self.process.pid

    def check(self) -> None:
        """Raise BenchmarkError when the worker has ended."""
        code = self.process.poll()
        if code is not None:
            raise BenchmarkError(f"a worker ended with {code}:\n{self.words()}")

    def words(self) -> str:
        """Return the end of the worker's output."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace")[-WORDS_MAX:]


@contextmanager
def working(module: str, *flags: str, config: Path | None = None) -> Iterator[Worker]:
    """Run `python -m module` while the block lasts, without the user's settings."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *flags],
            cwd=ROOT,
            env=environment(config),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Worker(process, output)
        finally:
            stop(process)


def environment(config: Path | None = None) -> dict[str, str]:
    """Return this process's environment, with the settings of a file, not the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FABRIC_")}
    return kept | {"FABRIC_CONFIG": str(config or CONFIG)}


def processor_seconds(pid: int) -> float | None:
    """Return the processor time of a process; None where there is no /proc."""
    times = _fields(f"/proc/{pid}/stat")
    if times is None:
        return None
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float | None:
    """Return the processor time of the whole machine; None where there is no /proc."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, first[:8])
    used = user + nice + system + interrupts + soft + stolen
    return used / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(share_max: float, limit_s: float) -> None:
    """Wait until all programs together use less than a share of one processor, or for the limit."""
    deadline = time.monotonic() + limit_s
    while (before := machine_seconds()) is not None and time.monotonic() < deadline:
        time.sleep(QUIET_LOOK_SECONDS)
        if (machine_seconds() or 0) - before <= share_max * QUIET_LOOK_SECONDS:
            return


def _fields(path: str) -> list[str] | None:
    """Return the fields after the program's name, which is in brackets and may hold anything."""
    try:
        return Path(path).read_text().rpartition(")")[2].split()
    except OSError:
        return None


def progress(text: str) -> None:
    """Replace the last progress message on stderr, if that is a terminal; "" clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
