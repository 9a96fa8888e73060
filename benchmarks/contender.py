"""The programs that are compared: how each is started, where its input is, and its progress."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import faststream_relay, workload
from benchmarks.connection import Argument, BenchmarkError, Connection
from benchmarks.process import ROOT, environment
from benchmarks.server import Server
from benchmarks.workload import KEYS
from fabric.store.keys import ORCHESTRATORS

#: Database that keeps the inputs, which are copied before each measurement.
TEMPLATES = 1

#: Time for FastStream's producer to finish, s.
PRODUCE_SECONDS_MAX = 600.0


@dataclass(frozen=True)
class Contender:
    """One program to measure. `done` counts the signals that have taken effect."""

    label: str
    module: str
    flags: tuple[str, ...]
    source: str
    done: Callable[[Connection], int]
    commits: Callable[[Connection], int]
    #: Whether it writes the fabric's keys, so that they can be compared.
    fabric: bool = True


def first_ms() -> int:
    """Return the ms of the first input entry's id: in the future, which counts as now.

    If they were in the past, the agents would count as dead by silence during later rounds.
    """
    return int(time.time() * 1000) + 86_400_000


def prefill(server: Server, name: str, signals: int, start_ms: int) -> None:
    """Write the inputs of a workload, for ours and the twin, and for FastStream."""
    connection = server.connect(TEMPLATES)
    connection.call("FLUSHDB")
    commands: list[tuple[Argument, ...]] = []
    for position, fields in enumerate(workload.entries(name, signals)):
        commands.append(("XADD", KEYS.signals, f"{start_ms + position}-0", *fields))
    connection.pipeline(commands)
    connection.close()


def produce(server: Server, *flags: str) -> None:
    """Have FastStream's own producer write its input. Raises BenchmarkError."""
    command = [sys.executable, "-m", "benchmarks.faststream_relay", "--url", server.url, *flags]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PRODUCE_SECONDS_MAX,
        check=False,
    )
    if ended.returncode:
        words = ended.stderr.decode(errors="replace")[-2_000:]
        raise BenchmarkError(f"FastStream's producer failed:\n{words}")


def ours(url: str, start_ms: int) -> Contender:
    """Return our orchestrator."""
    return Contender(
        "ours",
        "workers",
        ("orchestrator", "--redis-url", url),
        KEYS.signals,
        lambda connection: _committed(connection, start_ms),
        _version,
    )


def twin(url: str, start_ms: int, name: str, shape: str, reader: str) -> Contender:
    """Return the raw twin with one kind of loop and reader."""
    return Contender(
        f"twin {reader}, {shape}",
        "benchmarks.twin",
        ("--url", url, "--workload", name, "--shape", shape, "--reader", reader),
        KEYS.signals,
        lambda connection: _committed(connection, start_ms),
        _version,
    )


def faststream(url: str) -> Contender:
    """Return FastStream's fastest relay."""
    return Contender(
        "FastStream",
        "benchmarks.faststream_relay",
        ("--url", url),
        faststream_relay.SOURCE,
        lambda connection: int(connection.call("XLEN", faststream_relay.TARGET)),
        lambda connection: 0,
        fabric=False,
    )


def _committed(connection: Connection, start_ms: int) -> int:
    """Count the signals by the committed id: the input's ids are one ms apart."""
    committed = connection.call("HGET", KEYS.lease(ORCHESTRATORS), "committed")
    return max(int(committed.partition(b"-")[0]) - start_ms + 1, 0) if committed else 0


def _version(connection: Connection) -> int:
    return int(connection.call("HGET", KEYS.lease(ORCHESTRATORS), "version") or 0)
