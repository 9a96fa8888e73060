"""One measurement: a contender works through its input, and is watched from outside."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from benchmarks.connection import BenchmarkError, Connection
from benchmarks.contender import TEMPLATES, Contender
from benchmarks.process import Worker, machine_seconds, processor_seconds, working
from benchmarks.server import Server
from benchmarks.written_keys import WrittenKey, drained, written_keys

#: Pause between two looks at a contender's progress, s. A look costs the server some 15 µs: less
#: than a thousandth of its time.
LOOK_SECONDS = 0.02

#: Longest time without progress, s.
STALL_SECONDS_MAX = 30.0

#: Longest time from the last commit to an empty ingress, s: one blocking read.
DRAIN_SECONDS_MAX = 10.0


@dataclass(frozen=True)
class Sample:
    """The result of one measurement. Times in µs are processor time a signal.

    `p99_ms` is the script time that one commit in a hundred exceeds; None when it is below the
    server's slow log, and for contenders without scripts. `foreign` is the share of one processor
    that other programs used meanwhile.
    """

    signals: int
    seconds: float
    rate: float
    worker_us: float | None
    server_us: float | None
    commits: int
    slowest_ms: float | None
    p99_ms: float | None
    foreign: float | None


@dataclass(frozen=True)
class _Look:
    """The progress and processor times at one moment."""

    at: float
    done: int
    worker: float | None
    server: float | None
    own: float
    machine: float | None


def measure(
    server: Server, contender: Contender, signals: int
) -> tuple[Sample, dict[str, WrittenKey]]:
    """Run one contender over all its input; return the sample and the keys that it has written.

    Raises BenchmarkError when it ends, stalls or leaves input.
    """
    connection = server.connect()
    templates = server.connect(TEMPLATES)
    connection.call("FLUSHDB")
    templates.call("COPY", contender.source, contender.source, "DB", 0)
    connection.call("SLOWLOG", "RESET")
    with working(contender.module, *contender.flags) as worker:
        first, last = _watch(server, connection, contender, worker, signals)
        commits = contender.commits(connection)
        slowest_ms, p99_ms = scripts(connection, commits)
        held: dict[str, WrittenKey] = {}
        if contender.fabric:
            drained(connection, contender.source, DRAIN_SECONDS_MAX)
            held = written_keys(connection)
    connection.close()
    templates.close()
    return _sample(first, last, commits, slowest_ms, p99_ms), held


def _watch(
    server: Server, connection: Connection, contender: Contender, worker: Worker, signals: int
) -> tuple[_Look, _Look]:
    """Wait for the first commit, then for the last."""
    first: _Look | None = None
    before, moved_at = 0, time.monotonic()
    while True:
        worker.check()
        done = contender.done(connection)
        now = time.monotonic()
        if done > before:
            before, moved_at = done, now
        if first is None and done:
            first = _look(server, worker, done)
        if first is not None and done >= signals:
            return first, _look(server, worker, done)
        if now - moved_at > STALL_SECONDS_MAX:
            raise BenchmarkError(f"{contender.label}: no progress at {done}\n{worker.words()}")
        time.sleep(LOOK_SECONDS)


def _look(server: Server, worker: Worker, done: int) -> _Look:
    own = sum(os.times()[:2])
    return _Look(
        time.monotonic(),
        done,
        processor_seconds(worker.pid),
        processor_seconds(server.pid),
        own,
        machine_seconds(),
    )


def _sample(
    first: _Look, last: _Look, commits: int, slowest_ms: float | None, p99_ms: float | None
) -> Sample:
    signals, seconds = last.done - first.done, last.at - first.at
    if signals <= 0 or seconds <= 0:
        raise BenchmarkError("too few signals to measure: all were done before the first look")
    worker, server = _spent(first.worker, last.worker), _spent(first.server, last.server)
    machine = _spent(first.machine, last.machine)
    foreign = None
    if worker is not None and server is not None and machine is not None:
        foreign = max(machine - worker - server - (last.own - first.own), 0) / seconds
    return Sample(
        signals=signals,
        seconds=seconds,
        rate=signals / seconds,
        worker_us=None if worker is None else worker / signals * 1e6,
        server_us=None if server is None else server / signals * 1e6,
        commits=commits,
        slowest_ms=slowest_ms,
        p99_ms=p99_ms,
        foreign=foreign,
    )


def _spent(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else last - first


def scripts(connection: Connection, commits: int) -> tuple[float | None, float | None]:
    """Return the longest script time, and the one that 1 % of the commits exceed, ms."""
    slow = connection.call("SLOWLOG", "GET", 1_000_000)
    times = sorted(
        (entry[2] / 1000 for entry in slow if entry[3][0].upper() in (b"EVALSHA", b"EVAL")),
        reverse=True,
    )
    rank = commits // 100
    # Of fewer than a hundred commits, the longest.
    return (times[0] if times else None, times[rank] if rank < len(times) else None)
