"""`startup`: how long a shell waits for `fabric`, compared with a Python that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import BenchmarkError
from benchmarks.process import environment, progress
from benchmarks.server import running

#: Longest run of one command, s.
RUN_SECONDS_MAX = 60.0

#: The command that does nothing.
NOTHING = "python -c pass"


@dataclass(frozen=True)
class Times:
    """The wall time of each run of one command, ms."""

    label: str
    each_ms: list[float]

    @property
    def median_ms(self) -> float:
        """Return the median of all runs."""
        return statistics.median(self.each_ms)


def run(binary: Path, runs: int) -> list[Times]:
    """Time the commands by turns, on a private server. Raises BenchmarkError when one fails."""
    fabric = Path(sys.executable).with_name("fabric")
    if not fabric.is_file():
        raise BenchmarkError(f"no {fabric}: run scripts/install")
    emit = [str(fabric), "emit", "PROGRESS", "--percent", "50"]
    commands = {
        NOTHING: [sys.executable, "-c", "pass"],
        "fabric --help": [str(fabric), "--help"],
        "fabric emit PROGRESS --percent 50": emit,
    }
    times: dict[str, list[float]] = {label: [] for label in commands}
    with running(binary) as server, tempfile.TemporaryDirectory() as empty:
        surroundings = outside(empty) | {
            "FABRIC_REDIS_URL": server.url,
            "FABRIC_SESSION": "bench",
            "FABRIC_AGENT": "one",
        }
        # Do not count the first turn: it may write byte code.
        for turn in range(runs + 1):
            for label, command in commands.items():
                progress(f"startup, run {turn} of {runs}: {label}")
                taken_ms = _time(command, surroundings, empty)
                if turn:
                    times[label].append(taken_ms)
    progress("")
    return [Times(label, each) for label, each in times.items()]


def outside(folder: str) -> dict[str, str]:
    """Return an environment without project and settings file, which take time to read."""
    kept = environment()
    del kept["FABRIC_CONFIG"]
    return kept | {"XDG_CONFIG_HOME": folder}


def table(found: list[Times]) -> str:
    """Return the times as lines of text."""
    nothing = next(one.median_ms for one in found if one.label == NOTHING)
    lines = [f"{'median of ' + str(len(found[0].each_ms)):36}{'ms':>8}{'more than ' + NOTHING:>26}"]
    for one in found:
        more = f"{one.median_ms - nothing:.0f}" if one.label != NOTHING else ""
        lines.append(f"{one.label:36}{one.median_ms:>8.0f}{more:>26}")
    return "\n".join(lines)


def _time(command: list[str], surroundings: Mapping[str, str], folder: str) -> float:
    started = time.perf_counter()
    ended = subprocess.run(
        command,
        env=surroundings,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    taken_ms = (time.perf_counter() - started) * 1000
    if ended.returncode:
        words = ended.stderr.decode(errors="replace")[-1_000:]
        raise BenchmarkError(f"{' '.join(command)} ended with {ended.returncode}:\n{words}")
    return taken_ms
