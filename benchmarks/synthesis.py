"""`synthesis`: the synthesizer folds results of 200 agents, undisturbed and killed every second."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import contender, results_workload, synthesis_check, synthesizer_run
from benchmarks.connection import Argument, BenchmarkError, Connection
from benchmarks.process import progress, wait_for_quiet, working
from benchmarks.revision_latency import Delay, delay
from benchmarks.server import Server, running
from benchmarks.synthesizer_run import (
    COMPARED,
    LOOK_SECONDS,
    STALL_SECONDS_MAX,
    STEP,
    WARM_UP,
    Course,
)
from benchmarks.workload import KEYS
from benchmarks.written_keys import drained

#: Steps that are left out at the start; and steps at start and end whose medians are compared.
WARM_UP_STEPS = WARM_UP // STEP
COMPARED_STEPS = COMPARED // STEP

#: Longest time for the orchestrator to work through the signals, s.
FILL_SECONDS_MAX = 600.0

#: Share of one processor that other programs may use at the start of a run; longest wait for it, s.
QUIET_SHARE_MAX, QUIET_SECONDS_MAX = 0.15, 10.0


@dataclass(frozen=True)
class Plan:
    """The options. `patient` waits for a quiet machine."""

    binary: Path
    workloads: tuple[str, ...]
    results: int
    kills: tuple[bool, ...]
    latency_seconds: float
    patient: bool


@dataclass(frozen=True)
class Run:
    """The result of one run. `worker_bytes` is the largest resident memory of a worker,
    `server_bytes` the server's memory of the synthesis, revisions included.
    """

    workload: str
    is_killed: bool
    course: Course
    revisions: int
    worker_bytes: int
    server_bytes: int

    @property
    def rate(self) -> float:
        """Return results a second, from the first commit to the last."""
        return self.course.results / self.course.seconds

    @property
    def ends_ms(self) -> tuple[float, float] | None:
        """Return the time of a step at the start and at the end, without steps with a kill."""
        kept = [one for one in self.course.steps_ms[WARM_UP_STEPS:] if one is not None]
        if len(kept) < 2 * COMPARED_STEPS:
            return None
        return statistics.median(kept[:COMPARED_STEPS]), statistics.median(kept[-COMPARED_STEPS:])


@dataclass(frozen=True)
class Findings:
    """The results of all runs."""

    version: str
    runs: list[Run]
    delays: list[Delay]


def run(plan: Plan) -> Findings:
    """Measure everything, and check each synthesis. Raises BenchmarkError."""
    runs: list[Run] = []
    delays: list[Delay] = []
    version = ""
    for name in plan.workloads:
        with running(plan.binary) as server:
            version = _version(server)
            ids = _fill(server, name, plan.results)
            for is_killed in plan.kills:
                if plan.patient:
                    wait_for_quiet(QUIET_SHARE_MAX, QUIET_SECONDS_MAX)
                progress(f"{name}: folding{', killed every second' if is_killed else ''}")
                runs.append(_fold(server, name, ids, is_killed=is_killed))
    if plan.latency_seconds:
        with running(plan.binary) as server:
            delays += delay(server, plan.latency_seconds)
    progress("")
    return Findings(version, runs, delays)


def _fill(server: Server, name: str, results: int) -> list[bytes]:
    """Have the orchestrator write the results; keep them for all runs, and return their ids."""
    progress(f"{name}: the orchestrator passes on {results:,} results")
    start_ms = contender.first_ms()
    connection = server.connect()
    commands: list[tuple[Argument, ...]] = []
    for position, fields in enumerate(results_workload.entries(name, results)):
        commands.append(("XADD", KEYS.signals, f"{start_ms + position}-0", *fields))
    connection.pipeline(commands)
    with working("workers", "orchestrator", "--redis-url", server.url) as worker:
        deadline = time.monotonic() + FILL_SECONDS_MAX
        while connection.call("XLEN", KEYS.signals):
            worker.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the orchestrator is not done:\n{worker.words()}")
            time.sleep(LOOK_SECONDS)
    ids = [entry_id for entry_id, _ in connection.call("XRANGE", KEYS.results, "-", "+")]
    if len(ids) != results:
        raise BenchmarkError(f"{len(ids)} of {results} results have come through")
    connection.call("COPY", KEYS.results, KEYS.results, "DB", contender.TEMPLATES)
    connection.close()
    return ids


def _fold(server: Server, name: str, ids: list[bytes], *, is_killed: bool) -> Run:
    """Have the synthesizer fold all results, and check the synthesis."""
    connection, templates = server.connect(), server.connect(contender.TEMPLATES)
    connection.call("FLUSHDB")
    empty_bytes = _used_bytes(connection)
    templates.call("COPY", KEYS.results, KEYS.results, "DB", 0)
    templates.close()
    with synthesizer_run.crew(server, is_killed=is_killed) as crew:
        course = synthesizer_run.watch(connection, crew, ids)
        drained(connection, KEYS.results, STALL_SECONDS_MAX)
        peak_bytes = crew.peak_bytes
    used_bytes = _used_bytes(connection) - empty_bytes
    progress(f"{name}: checking the synthesis")
    revisions = synthesis_check.check(connection, name, len(ids))
    connection.close()
    return Run(name, is_killed, course, revisions, peak_bytes, used_bytes)


def table(findings: Findings) -> str:
    """Return the results as lines of text."""
    heads = (
        "results/s", "first ms", "last ms", "last/first", "worker µs", "first", "last",
        "server µs", "revisions",
        "worker MB", "server MB", "bytes each", "kills",
    )  # fmt: skip
    count = max((len(one.course.steps_ms) for one in findings.runs), default=0)
    lines = [
        f"Redis {findings.version}, {results_workload.AGENTS} agents; "
        f"first and last: {STEP:,} results, "
        f"medians of {COMPARED_STEPS} among {count}",
        "",
        f"{'':20}" + "".join(f"{head:>11}" for head in heads),
    ]
    lines += [_row(one) for one in findings.runs]
    for one in findings.delays:
        lines.append(
            f"from XADD to the revision read, {one.rate}/s: "
            f"p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, of {one.count}"
        )
    return "\n".join(lines)


def document(findings: Findings) -> dict[str, Any]:
    """Return the results as data."""
    return {
        "redis": findings.version,
        "runs": [asdict(one) | {"rate": one.rate, "ends_ms": one.ends_ms} for one in findings.runs],
        "latency": [asdict(one) for one in findings.delays],
    }


def _row(one: Run) -> str:
    course, ends = one.course, one.ends_ms
    cells: Iterator[str] = iter(
        (
            f"{one.rate:,.0f}",
            *((f"{ends[0]:.0f}", f"{ends[1]:.0f}", f"{ends[1] / ends[0]:.2f}") if ends else "---"),
            _micros(course.worker_s, course.results),
            *((f"{us:.0f}" for us in course.ends_us) if course.ends_us else "--"),
            _micros(course.server_s, course.results),
            f"{one.revisions:,}",
            f"{one.worker_bytes / 1e6:.0f}",
            f"{one.server_bytes / 1e6:.0f}",
            f"{one.server_bytes / course.results:,.0f}",
            str(course.kills),
        )
    )
    label = f"{one.workload}, killed" if one.is_killed else one.workload
    return f"{label:20}" + "".join(f"{cell:>11}" for cell in cells)


def _micros(spent_s: float | None, results: int) -> str:
    return "-" if spent_s is None else f"{spent_s / results * 1e6:.0f}"


def _used_bytes(connection: Connection) -> int:
    information: bytes = connection.call("INFO", "memory")
    return int(information.partition(b"used_memory:")[2].split()[0])


def _version(server: Server) -> str:
    connection = server.connect()
    information: bytes = connection.call("INFO", "server")
    connection.close()
    return information.decode().partition("redis_version:")[2].split()[0]
