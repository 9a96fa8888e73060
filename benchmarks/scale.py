"""`scale`: what a signal costs with ever more agents, sessions and log entries: time and memory.

The real orchestrator on a private server. All agents start, then they send PROGRESS by turns; only
that is measured. Processor time is each process's own, so other programs matter little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.connection import Argument, BenchmarkError, Connection
from benchmarks.measurement import scripts
from benchmarks.process import Worker, processor_seconds, progress, working
from benchmarks.server import Server, running
from benchmarks.workload import KEYS
from fabric.store.keys import ORCHESTRATORS
from fabric.wire.stored import fields_of

#: Signals that are measured in each point.
SIGNALS = 20_000

#: Agents in one session; sessions of one agent each; entries that a session's log holds already.
AGENTS = (1, 10, 100, 1_000, 10_000)
SESSIONS = (1, 10, 100, 1_000, 10_000)
LOGGED = (0, 10_000, 100_000, 1_000_000)

#: Longest wait for the worker to be through, s.
DONE_SECONDS_MAX = 300.0

#: Fills a log with entries as ours; ids from 1-0 on. KEYS[1] log, ARGV: first and last number.
_FILL = """
for n = ARGV[1], ARGV[2] do
  redis.call('XADD', KEYS[1], n .. '-0', 'kind', 'signal', 'session', 's-0', 'type', 'PROGRESS',
    'emitter', 'a-0', 'payload', '{"percent":' .. n % 100 .. ',"checkpoint":"files_read"}',
    'ms', 1700000000000)
end
"""
_FILLED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Point:
    """One size, and its cost for a signal."""

    what: str
    size: int
    worker_us: float
    server_us: float
    worker_mb: float
    server_bytes: float
    slowest_ms: float | None
    p99_ms: float | None


def run(binary: Path) -> list[Point]:
    """Measure all sizes, each on a fresh server. Raises BenchmarkError."""
    plans = [("agents", size, 1, size, 0) for size in AGENTS]
    plans += [("sessions", size, size, 1, 0) for size in SESSIONS]
    plans += [("log entries", size, 1, 10, size) for size in LOGGED]
    found = []
    for what, size, sessions, agents, logged in plans:
        progress(f"scale: {size:,} {what}")
        with running(binary) as server:
            found.append(_measure(server, what, size, sessions, agents, logged))
    progress("")
    return found


def _measure(
    server: Server, what: str, size: int, sessions: int, agents: int, logged: int
) -> Point:
    connection = server.connect()
    if logged:
        _fill(connection, logged)
    with working("workers", "orchestrator", "--redis-url", server.url) as worker:
        connection.pipeline(_starts(sessions, agents))
        _wait(connection, worker)
        connection.call("SLOWLOG", "RESET")
        commits, memory = _version(connection), _memory(connection)
        before = processor_seconds(worker.pid), processor_seconds(server.pid)
        connection.pipeline(_progress(sessions, agents))
        _wait(connection, worker)
        after = processor_seconds(worker.pid), processor_seconds(server.pid)
        slowest_ms, p99_ms = scripts(connection, _version(connection) - commits)
        own, theirs = (
            ((last or 0) - (first or 0)) / SIGNALS * 1e6
            for first, last in zip(before, after, strict=True)
        )
        used = (_memory(connection) - memory) / SIGNALS
        point = Point(what, size, own, theirs, _resident(worker), used, slowest_ms, p99_ms)
    connection.close()
    return point


def _fill(connection: Connection, logged: int) -> None:
    keys = KEYS.session("s-0")
    for first in range(1, logged + 1, _FILLED_AT_ONCE):
        last = min(logged, first + _FILLED_AT_ONCE - 1)
        connection.call("EVAL", _FILL, 1, keys.log, first, last)
    connection.call("HSET", keys.meta, "log", logged, "clock_ms", 1, "opened_ms", 1, "token", 0)


def _starts(sessions: int, agents: int) -> Iterator[tuple[Argument, ...]]:
    for session in range(sessions):
        for agent in range(agents):
            yield _entry(session, agent, "STARTED", 1, '{"task_type":"Code Review"}')


def _progress(sessions: int, agents: int) -> Iterator[tuple[Argument, ...]]:
    total = sessions * agents
    for number in range(SIGNALS):
        session, agent = divmod(number % total, agents)
        percent = number * 100 // SIGNALS
        payload = f'{{"percent":{percent},"detail":"file {number:08d} read, on to the next"}}'
        yield _entry(session, agent, "PROGRESS", 2 + number // total, payload)


def _entry(session: int, agent: int, kind: str, seq: int, payload: str) -> tuple[Argument, ...]:
    who = ("session", f"s-{session}", "type", kind, "emitter", f"a-{agent}", "stream", "A")
    numbers = ("seq", seq, "incarnation", 1, "payload", payload)
    return ("XADD", KEYS.signals, "*", *who, *numbers)


def _wait(connection: Connection, worker: Worker) -> None:
    """Wait until everything that was sent is committed."""
    last = connection.call("XINFO", "STREAM", KEYS.signals)
    until = fields_of(last)[b"last-generated-id"]
    deadline = time.monotonic() + DONE_SECONDS_MAX
    while connection.call("HGET", KEYS.lease(ORCHESTRATORS), "committed") != until:
        worker.check()
        if time.monotonic() > deadline:
            raise BenchmarkError(f"not through after {DONE_SECONDS_MAX:g} s:\n{worker.words()}")
        time.sleep(0.05)


def _version(connection: Connection) -> int:
    return int(connection.call("HGET", KEYS.lease(ORCHESTRATORS), "version") or 0)


def _memory(connection: Connection) -> int:
    text = connection.call("INFO", "memory").decode()
    return int(text.partition("used_memory:")[2].split()[0])


def _resident(worker: Worker) -> float:
    """Return the worker's largest resident memory so far, MB."""
    try:
        text = Path(f"/proc/{worker.pid}/status").read_text()
    except OSError:
        return 0.0
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def table(found: list[Point]) -> str:
    """Return the points as a Markdown table, with each cost as a multiple of the smallest."""
    heads = ("", "worker µs", "× least", "server µs", "× least", "worker MB", "server bytes")
    lines = [f"| {' | '.join((*heads, 'longest script ms', 'p99 ms'))} |", "|" + "---|" * 9]
    for one in found:
        same = [other for other in found if other.what == one.what]
        worker = one.worker_us / min(other.worker_us for other in same)
        server = one.server_us / min(other.server_us for other in same)
        script, p99 = (f"{ms:.1f}" if ms else "under 1" for ms in (one.slowest_ms, one.p99_ms))
        cells = (
            f"{one.size:,} {one.what}", f"{one.worker_us:.1f}", f"{worker:.2f}",
            f"{one.server_us:.1f}", f"{server:.2f}", f"{one.worker_mb:.0f}",
            f"{one.server_bytes:,.0f}", script, p99,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
