"""Who is measured: how each is started, where its input lies, how far it has come."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import faststream_relay, workload
from benchmarks.failure import BenchmarkError
from benchmarks.process import ROOT, environment
from benchmarks.server import Server
from benchmarks.wire import Argument, Connection
from benchmarks.workload import KEYS
from fabric.store.keys import ORCHESTRATORS

#: Database in which the inputs are kept, ready to be copied before each measurement.
TEMPLATES = 1

#: Time in which FastStream's producer must be done, s.
PRODUCE_SECONDS_MAX = 600.0


@dataclass(frozen=True)
class Contender:
    """One way to do the work. `done` counts the signals that have taken effect."""

    label: str
    module: str
    flags: tuple[str, ...]
    source: str
    done: Callable[[Connection], int]
    commits: Callable[[Connection], int]
    #: Leaves the fabric's keys behind, so that they can be compared.
    fabric: bool = True


def first_ms() -> int:
    """Return the ms of the first input entry's id: in the future, which counts as now.

    Were they in the past, the agents would be given up for silent while the rounds go on.
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
    """Let FastStream's own producer write its input. Raises BenchmarkError."""
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
    """Return the orchestrator, as it is."""
    return Contender(
        "ours",
        "workers",
        ("orchestrator", "--redis-url", url),
        KEYS.signals,
        lambda connection: _committed(connection, start_ms),
        _version,
    )


def twin(url: str, start_ms: int, name: str, shape: str, reader: str) -> Contender:
    """Return the raw twin in one shape."""
    return Contender(
        f"twin {reader}, {shape}",
        "benchmarks.twin",
        ("--url", url, "--workload", name, "--shape", shape, "--reader", reader),
        KEYS.signals,
        lambda connection: _committed(connection, start_ms),
        _version,
    )


def faststream(url: str) -> Contender:
    """Return FastStream's quickest relay."""
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
    """Count the signals by the committed id: the ids of the input rise by one ms."""
    committed = connection.call("HGET", KEYS.lease(ORCHESTRATORS), "committed")
    return max(int(committed.partition(b"-")[0]) - start_ms + 1, 0) if committed else 0


def _version(connection: Connection) -> int:
    return int(connection.call("HGET", KEYS.lease(ORCHESTRATORS), "version") or 0)
