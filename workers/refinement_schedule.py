"""When refiners run: users' code that makes something of a document while that still grows.

A revision sets a timer for each refiner that the rules name. When it is due, a run begins in the
background (`refiner_runner.py`), in a process of its own (`refiner.py`). The timer is put off until
the run is over; then one commit sends the answer, as the signal REFINED, and removes the timer. So
a run that died with its worker is made again, nothing is sent twice, and the fold, which gets the
answer like any other signal, stays a function of its input alone.
"""

from __future__ import annotations

import logging
import zlib
from typing import Final

from fabric.core.contradiction import SYNTHESIZER
from fabric.core.signal import SignalType
from fabric.core.synthesis.publish import Revision
from fabric.core.synthesis.state import REFINED
from fabric.store.keys import SYNTHESIZERS, Partition
from fabric.store.port import Batch, WorkerStore
from fabric.wire import record
from workers.child_process import PROCESSES_MAX
from workers.refiner_runner import RefinerRunner, Run

logger = logging.getLogger("fabric.refining")

#: A session's timers are `<session>:refine:<refiner>`.
TIMER: Final = "refine"

#: Time between two looks at a run, ms. Each look is a commit; but when a worker dies before it has
#: seen a run's end, the run is made again.
LOOK_MS = 250


class RefinementTimer:
    """A refiner's timer that is due, as an input of the synthesizer."""

    __slots__ = ("member", "refiner", "session")

    def __init__(self, member: str) -> None:
        self.member = member
        self.session, _, timer = member.partition(":")
        self.refiner = timer.removeprefix(f"{TIMER}:")


class RefinementSchedule:
    """The refinements of one partition's sessions: which are due, and which are under way."""

    def __init__(self, store: WorkerStore, partition: Partition, runner: RefinerRunner) -> None:
        self._store = store
        self._names = partition
        self._runner = runner
        self._runs: dict[str, Run] = {}
        #: Timers that are known to be set: setting one again would put it off.
        self._set: set[str] = set()

    def start(self, member: bytes) -> RefinementTimer | None:
        """Begin the run that a timer asks for, unless it is under way; None for another timer."""
        try:
            timer = RefinementTimer(member.decode())
        except UnicodeDecodeError:
            return None  # made by hand
        if not timer.member.startswith(f"{timer.session}:{TIMER}:"):
            return None
        if timer.refiner in self._runner.names and timer.member not in self._runs:
            run = self._runs[timer.member] = Run(timer.session, timer.refiner)
            self._runner.start(run, self._store, self._names.session(timer.session))
        return timer

    def finish(self, batch: Batch, timer: RefinementTimer, now_ms: int) -> int | None:
        """Send a run's answer, or look again later; return when to look, None for never."""
        run = self._runs.get(timer.member)
        due_ms: int | None = None
        if run is None and timer.refiner not in self._runner.names:
            logger.warning("nothing here is the refiner %s of %s", timer.refiner, timer.session)
        elif run is None or not run.is_over():
            # The more runs wait for their turn, the less often each is looked at.
            crowd = 0 if run is None or run.has_turn else len(self._runs) // PROCESSES_MAX
            due_ms = now_ms + LOOK_MS * (1 + crowd)
        else:
            del self._runs[timer.member]
            if run.payload:
                own = record.own_signal(run.session, SignalType.REFINED, SYNTHESIZER, run.payload)
                batch.append(self._names.signals, "*", *own)
                batch.size_bytes += len(run.payload)
            if run.wanted > run.revision or run.is_to_repeat:
                due_ms = self._next_beat(timer.member, now_ms)
        timers = self._names.timers(SYNTHESIZERS)
        if due_ms is None:
            self._set.discard(timer.member)
            batch.write("ZREM", timers, (timer.member,))
        else:
            self._set.add(timer.member)
            batch.write("ZADD", timers, (due_ms, timer.member))
        return due_ms

    def plan(self, batch: Batch, session: str, revision: Revision, now_ms: int) -> int | None:
        """Set the timers for a revision; return the earliest time set, None when none is."""
        if not _is_news(revision):
            return None
        earliest: int | None = None
        for refiner in self._runner.names:
            member = f"{session}:{TIMER}:{refiner}"
            run = self._runs.get(member)
            if run is not None:
                run.wanted = revision.number
            if member in self._set:
                continue
            self._set.add(member)
            due_ms = self._next_beat(member, now_ms)
            batch.write("ZADD", self._names.timers(SYNTHESIZERS), (due_ms, member))
            earliest = due_ms if earliest is None else min(earliest, due_ms)
        return earliest

    def _next_beat(self, member: str, now_ms: int) -> int:
        """Return when a refiner may run next: each timer has a beat of its own, one a pause.

        The beat follows from the name alone, so that no worker, however often it is killed, begins
        the pause anew; and sessions differ in it.
        """
        pause_ms = self._runner.pause_ms
        return now_ms + pause_ms - (now_ms - zlib.crc32(member.encode())) % pause_ms

    def forget(self) -> None:
        """Kill what runs, and discard what is in memory; the timers stand."""
        for run in self._runs.values():
            if run.task is not None:
                run.task.cancel()
        self._runs.clear()
        self._set.clear()

    async def close(self) -> None:
        """Kill what runs, and wait for its end; the timers stand."""
        await self._runner.close()


def _is_news(revision: Revision) -> bool:
    """Whether a revision says more than what a refiner has made of another."""
    operations = revision.operations
    is_refinement = bool(operations) and all(one.section == REFINED for one in operations)
    return revision.number > 0 and not is_refinement
