"""Refiners: a user's own code makes something of a session's document while that still grows.

Theory of operation. A revision sets a timer for each refiner that the rules name. When it is due, a
run begins in the background (`refinement.py`): the document is read (`snapshot.py`) and given to a
process of its own (`refiner.py`). The timer is put off until the run is over; then one commit sends
what came of it, as the signal REFINED, and takes the timer away. So a run that died with its worker
is made again, nothing is sent twice, and the fold, which gets the value as it gets all else, stays
a function of its input alone.
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
from workers.refinement import PROCESSES_MAX, Refiners, Run

logger = logging.getLogger("fabric.refining")

#: Timers of a session are `<session>:refine:<refiner>`.
TIMER: Final = "refine"

#: Time between two looks at a run, ms. Each is a commit; but a run that its worker does not live to
#: see over is made again.
LOOK_MS = 250


class Look:
    """A refiner's timer that is due, as an input of the synthesizer."""

    __slots__ = ("member", "refiner", "session")

    def __init__(self, member: str) -> None:
        self.member = member
        self.session, _, timer = member.partition(":")
        self.refiner = timer.removeprefix(f"{TIMER}:")


class Refining:
    """What is to be refined, and what is being refined, of one partition's sessions."""

    def __init__(self, store: WorkerStore, partition: Partition, refiners: Refiners) -> None:
        self._store = store
        self._names = partition
        self._refiners = refiners
        self._runs: dict[str, Run] = {}
        #: Timers that are known to stand: to set one again would be to put it off.
        self._standing: set[str] = set()

    def look(self, member: bytes) -> Look | None:
        """Begin the run that a timer asks for, unless it is under way; None for another timer."""
        try:
            look = Look(member.decode())
        except UnicodeDecodeError:
            return None  # made by hand
        if not look.member.startswith(f"{look.session}:{TIMER}:"):
            return None
        if look.refiner in self._refiners.names and look.member not in self._runs:
            run = self._runs[look.member] = Run(look.session, look.refiner)
            self._refiners.start(run, self._store, self._names.session(look.session))
        return look

    def take(self, batch: Batch, look: Look, now_ms: int) -> int | None:
        """Send what a run has come to, or look again later; return when, None for never."""
        run = self._runs.get(look.member)
        due_ms: int | None = None
        if run is None and look.refiner not in self._refiners.names:
            logger.warning("nothing here is the refiner %s of %s", look.refiner, look.session)
        elif run is None or not run.is_over():
            # Those that wait for their turn are looked at the more seldom, the more they are.
            crowd = 0 if run is None or run.has_turn else len(self._runs) // PROCESSES_MAX
            due_ms = now_ms + LOOK_MS * (1 + crowd)
        else:
            del self._runs[look.member]
            if run.payload:
                own = record.own(run.session, SignalType.REFINED, SYNTHESIZER, run.payload)
                batch.append(self._names.signals, "*", *own)
                batch.size_bytes += len(run.payload)
            if run.wanted > run.revision or run.is_to_repeat:
                due_ms = self._beat(look.member, now_ms)
        timers = self._names.timers(SYNTHESIZERS)
        if due_ms is None:
            self._standing.discard(look.member)
            batch.write("ZREM", timers, (look.member,))
        else:
            self._standing.add(look.member)
            batch.write("ZADD", timers, (due_ms, look.member))
        return due_ms

    def follow(self, batch: Batch, session: str, revision: Revision, now_ms: int) -> int | None:
        """Have a revision refined; return when a timer is due that this sets."""
        if not _is_news(revision):
            return None
        earliest: int | None = None
        for refiner in self._refiners.names:
            member = f"{session}:{TIMER}:{refiner}"
            run = self._runs.get(member)
            if run is not None:
                run.wanted = revision.number
            if member in self._standing:
                continue
            self._standing.add(member)
            due_ms = self._beat(member, now_ms)
            batch.write("ZADD", self._names.timers(SYNTHESIZERS), (due_ms, member))
            earliest = due_ms if earliest is None else min(earliest, due_ms)
        return earliest

    def _beat(self, member: str, now_ms: int) -> int:
        """Return when a refiner may run next: each has a beat of its own, one a pause.

        It follows from the name alone, so that no worker, however often it is killed, begins the
        pause anew; and not all sessions have the same one.
        """
        pause_ms = self._refiners.pause_ms
        return now_ms + pause_ms - (now_ms - zlib.crc32(member.encode())) % pause_ms

    def forget(self) -> None:
        """Kill what runs, and throw everything away: the timers stand."""
        for run in self._runs.values():
            if run.task is not None:
                run.task.cancel()
        self._runs.clear()
        self._standing.clear()

    async def close(self) -> None:
        """Kill what runs, for any partition; who holds the partition next runs it again."""
        await self._refiners.close()


def _is_news(revision: Revision) -> bool:
    """Whether a revision says more than what a refiner has made of another."""
    operations = revision.operations
    is_refinement = bool(operations) and all(one.section == REFINED for one in operations)
    return revision.number > 0 and not is_refinement
