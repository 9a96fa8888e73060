"""One run of the synthesizer over a set of results, watched from outside, maybe killed."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.connection import BenchmarkError, Connection
from benchmarks.process import Worker, processor_seconds, working
from benchmarks.server import Server
from benchmarks.workload import KEYS
from fabric.store.keys import SYNTHESIZERS

#: Pause between two looks at the synthesizer's progress, s: about twenty looks a thousand results.
LOOK_SECONDS = 0.005

#: Results in one timed step.
STEP = 1_000

#: Results that are left out at the start, while a worker warms up.
WARM_UP = STEP

#: Results that are compared at the start and the end of a run.
COMPARED = 10 * STEP

#: Time between two kills, s.
KILL_SECONDS = 1.0

#: Lease where workers are killed, ms: after a kill nobody works for this long.
LEASE_MS = 300

#: Longest time without progress, s.
STALL_SECONDS_MAX = 30.0

_LEASE = KEYS.lease(SYNTHESIZERS)


@dataclass
class Crew:
    """The running synthesizers: one, or two of which the holder of the lease is killed."""

    server: Server
    is_killed: bool
    _names: Iterator[int] = field(default_factory=itertools.count)
    _running: dict[str, tuple[Worker, ExitStack]] = field(default_factory=dict)
    #: Largest resident memory of any of them, bytes.
    peak_bytes: int = 0

    def start(self) -> None:
        """Start another synthesizer."""
        name = f"synthesizer-{next(self._names)}"
        flags = ["synthesizer", "--redis-url", self.server.url, "--name", name]
        flags += ["--lease-ms", str(LEASE_MS)] if self.is_killed else []
        stack = ExitStack()
        self._running[name] = stack.enter_context(working("workers", *flags)), stack

    def look(self) -> None:
        """Record their memory. Raises BenchmarkError when one has ended by itself."""
        for worker, _ in self._running.values():
            worker.check()
            self.peak_bytes = max(self.peak_bytes, _peak_bytes(worker.pid))

    def kill(self, name: str) -> bool:
        """SIGKILL one and start another; return False when it is not one of these."""
        if name not in self._running:
            return False
        self.look()
        worker, stack = self._running.pop(name)
        worker.process.kill()
        stack.close()
        self.start()
        return True

    def words(self) -> str:
        """Return the end of their output."""
        return "\n".join(worker.words() for worker, _ in self._running.values())

    def processor_seconds(self) -> float | None:
        """Return the processor time of the running synthesizers."""
        spent = [processor_seconds(worker.pid) for worker, _ in self._running.values()]
        return sum(one or 0 for one in spent) if None not in spent else None

    def end(self) -> None:
        """Stop them all."""
        for _, stack in self._running.values():
            stack.close()


@contextmanager
def crew(server: Server, *, is_killed: bool) -> Iterator[Crew]:
    """Run synthesizers while the block lasts."""
    made = Crew(server, is_killed)
    try:
        for _ in range(2 if is_killed else 1):
            made.start()
        yield made
    finally:
        made.end()


@dataclass(frozen=True)
class Course:
    """The course of a run from the first commit to the last. A step's time is ms for STEP results.

    A step in which a worker was killed has no time. Processor time is in s; `ends_us` is the
    worker's processor time a result, for the first COMPARED results after warm-up and for the last:
    unlike wall time it does not depend on other programs.
    """

    results: int
    seconds: float
    kills: int
    worker_s: float | None
    server_s: float | None
    steps_ms: list[float | None]
    ends_us: tuple[float, float] | None


def watch(connection: Connection, crew: Crew, ids: list[bytes]) -> Course:
    """Wait until all results are folded; with `is_killed`, kill a worker every KILL_SECONDS.

    Raises BenchmarkError when there is no progress.
    """
    positions = {entry_id: position for position, entry_id in enumerate(ids, 1)}
    looks: list[tuple[float, int]] = []
    used: list[float | None] = []
    kills: list[float] = []
    spent: tuple[float | None, float | None] = (None, None)
    moved_at = time.monotonic()
    while not looks or looks[-1][1] < len(ids):
        committed, owner = connection.call("HMGET", _LEASE, "committed", "owner")
        now, done = time.monotonic(), positions.get(committed, 0)
        if done and (not looks or done > looks[-1][1]):
            if not looks:
                spent = _spent(crew)
            looks.append((now, done))
            used.append(crew.processor_seconds())
            moved_at = now
        crew.look()
        if now - moved_at > STALL_SECONDS_MAX:
            raise BenchmarkError(f"no progress at {done}\n{crew.words()}")
        since = kills[-1] if kills else looks[0][0] if looks else now
        is_due = crew.is_killed and now - since >= KILL_SECONDS
        if is_due and done < len(ids) and crew.kill((owner or b"").decode()):
            kills.append(now)
        time.sleep(LOOK_SECONDS)
    worker_s, server_s = (
        None if before is None or after is None else after - before
        for before, after in zip(spent, _spent(crew), strict=True)
    )
    (began, first), (ended, last) = looks[0], looks[-1]
    seconds, steps = ended - began, _steps(looks, kills)
    if crew.is_killed:
        return Course(last - first, seconds, len(kills), None, server_s, steps, None)
    ends_us = _ends_us([done for _, done in looks], used)
    return Course(last - first, seconds, 0, worker_s, server_s, steps, ends_us)


def _ends_us(counts: list[int], used: list[float | None]) -> tuple[float, float] | None:
    """Return the processor time of a result at the start and at the end."""
    if counts[-1] < WARM_UP + 2 * COMPARED or None in used:
        return None
    spent = [one or 0.0 for one in used]

    def mean_us(first: int, last: int) -> float:
        start, end = bisect_left(counts, first), bisect_left(counts, last)
        return (spent[end] - spent[start]) / (counts[end] - counts[start]) * 1e6

    begun = max(WARM_UP, counts[0])
    return mean_us(begun, begun + COMPARED), mean_us(counts[-1] - COMPARED, counts[-1])


def _spent(crew: Crew) -> tuple[float | None, float | None]:
    return crew.processor_seconds(), processor_seconds(crew.server.pid)


def _steps(looks: list[tuple[float, int]], kills: list[float]) -> list[float | None]:
    """Return the time of each whole step, interpolated between looks."""
    counts = [done for _, done in looks]
    passed: list[float] = []
    for mark in range(-(-counts[0] // STEP) * STEP, counts[-1] + 1, STEP):
        after = bisect_left(counts, mark)
        (at, done), (then, before) = looks[after], looks[max(after - 1, 0)]
        share = (mark - before) / (done - before) if done > before else 1.0
        passed.append(then + (at - then) * share)
    return [
        None if any(began <= kill <= ended for kill in kills) else (ended - began) * 1_000
        for began, ended in itertools.pairwise(passed)
    ]


def _peak_bytes(pid: int) -> int:
    """Return the largest resident memory of a process so far; 0 where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1_024
