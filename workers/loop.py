"""Read → decide → commit, for one partition, for as long as its lease holds.

While the server applies one batch, the loop reads and decides the next. Memory follows the commits.
On any doubt (a refused commit, a lost reply) it is discarded with everything under way, and the
loop goes on from what the server says is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fabric.config.settings import Settings
from fabric.errors import ExhaustedError, MissingInputError, TamperedError
from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import BEGINNING, Batch, Entry
from fabric.store.read_size import ReadSize
from fabric.store.value import is_last
from workers.handler import Decided, DefectError, Handler
from workers.lease import HeldLease

logger = logging.getLogger("fabric.loop")

T = TypeVar("T")

#: So few signals are committed before the next read goes out: they are waited for, and the read
#: would cost them a tenth of a millisecond. More are a backlog, which the read is ahead of.
FEW = 4

#: Timers fired at a time, so that many of them do not hold up the signals.
TIMERS_MAX = 100

#: Share of a lease that one read of a backlog may take. On a slow link, fewer are read at a time.
READ_SHARE_MAX = 1 / 4

#: A read that does not wait for entries, ms.
NO_WAIT_MS = 1


def read_size(settings: Settings) -> ReadSize:
    """Return how many signals a loop reads at first."""
    return ReadSize(settings.batch_signals_max, settings.batch_bytes_max)


class Loop:
    """One partition's worker, for as long as it holds the lease."""

    def __init__(
        self,
        held: HeldLease,
        handler: Handler,
        settings: Settings,
        worked: Callable[[], None] = lambda: None,
        size: ReadSize | None = None,
    ) -> None:
        """`worked` is called after each commit that succeeded, and each read that found nothing.

        `size` outlasts the lease: a read that was too large for the link is followed by a smaller.
        """
        self._worked = worked
        self._held = held
        self._handler = handler
        self._settings = settings
        self._size = size or read_size(settings)
        self._committing: asyncio.Task[int] | None = None
        self._reading: asyncio.Task[list[Entry]]
        self._decided_upto = held.committed
        self._drained = True
        #: The last read has left nothing behind: timers go by the time now, not by the backlog's.
        self._caught_up = False
        self._due_ms: int | None = None
        #: Set when there is something to do.
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop, then drain. Raises ServerError on any doubt; then reload."""
        try:
            while True:
                try:
                    return await self._work(stop)
                except DefectError:
                    partition = self._held.lease.partition
                    logger.exception("partition %d: a defect; going on without", partition)
                    await self._settle()
                except TamperedError as error:
                    # The batch that met the spoilt key wrote nothing; those before it stand.
                    await self._settle()
                    if not self._handler.quarantine(error):
                        raise
                    logger.error("partition %d: %s", self._held.lease.partition, error)
                except ExhaustedError as error:
                    await self._settle()
                    await self._rebuild(error)
                except MissingInputError as error:
                    # That batch wrote nothing. What is left of its input is decided again.
                    await self._settle()
                    logger.warning("partition %d: %s", self._held.lease.partition, error)
                # Go on without the session or the input that failed.
                self._handler.forget()
        finally:
            if self._committing is not None:
                self._committing.cancel()
                await asyncio.gather(self._committing, return_exceptions=True)

    async def _rebuild(self, error: ExhaustedError) -> None:
        """Replace a stream that takes no new entries, if that is for this kind of worker to do."""
        held, lease = self._held, self._held.lease
        names = held.store.namespace.partition(lease.partition)
        if names.keeper(error.key) != lease.group:
            raise error
        logger.error("partition %d: %s", lease.partition, error)
        place: bytes | None = b""
        while place is not None:
            step = await held.store.rebuild(lease, error.key, place, held.ttl_ms)
            held.renewed(step.now_ms)
            place = step.place
        if error.key == names.source(lease.group):
            held.committed = BEGINNING
        logger.warning(
            "partition %d: %s is replaced, %d entries carried over; what was there is kept for a "
            "day as %s", lease.partition, error.key, step.entries, names.aside(error.key),
        )  # fmt: skip

    async def _check_ids(self) -> None:
        """Look whether somebody has used up the ids of a stream. Raises ExhaustedError."""
        if self._held.lease.group == ORCHESTRATORS:
            key = await self._held.store.exhausted(self._held.lease.partition)
            if key is not None:
                raise ExhaustedError(key)

    async def _work(self, stop: asyncio.Event) -> None:
        self._decided_upto = self._held.committed
        self._caught_up = False
        await self._check_ids()
        await self._look_at_timers()
        # Without waiting for entries: no timer fires before we know whether there is a backlog.
        self._reading = self._start(self._read(self._decided_upto, NO_WAIT_MS))
        stopping, losing = self._start(stop.wait()), self._start(self._held.lost.wait())
        try:
            while not stop.is_set() and not self._held.lost.is_set():
                await self._sleep()
                if self._committing is not None and self._committing.done():
                    # Raise its error now, not when the next signal comes.
                    await self._settle()
                if self._reading.done():
                    await self._take(self._reading.result())
                if self._due_ms is not None and self._due_ms <= self._horizon_ms():
                    await self._fire_timers()
            await self._settle()
        finally:
            ending = (self._reading, stopping, losing)
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._wake.set())
        return task

    async def _sleep(self) -> None:
        """Wait until a task of ours ends or a timer is due."""
        # asyncio.wait() would do, but adds and removes a callback on each task for each batch.
        pause_s = self._pause_s()
        alarm = pause_s is not None and asyncio.get_running_loop().call_later(
            pause_s, self._wake.set
        )
        try:
            await self._wake.wait()
        finally:
            if alarm:
                alarm.cancel()
        self._wake.clear()

    async def _take(self, entries: list[Entry]) -> None:
        """Decide what was read, and read on."""
        if not entries or is_last(entries[-1][0]):
            await self._check_ids()
        full = len(entries) >= self._size.count
        after = entries[-1][0] if entries else self._decided_upto
        self._size.note(entries)
        self._handler.entry_bytes = self._size.entry_bytes
        if is_few := 0 < len(entries) <= FEW:
            await self._decide(entries, full)
        # After a full batch at once: no timer fires until we know what is behind it.
        self._reading = self._start(self._read(after, NO_WAIT_MS if full else None))
        if not is_few:
            # Let the request go out before we decide this batch.
            await asyncio.sleep(0)
            await self._decide(entries, full)

    async def _read(self, after: bytes, block_ms: int | None = None) -> list[Entry]:
        held = self._held
        wait_ms = self._settings.block_ms if block_ms is None else block_ms
        partition, group = held.lease.partition, held.lease.group
        size, time = self._size, asyncio.get_running_loop().time
        begun = time()
        with size.watched():
            entries = await held.store.read(partition, group, after, size.count, wait_ms)
        if wait_ms == NO_WAIT_MS:
            size.took((time() - begun) * 1000, READ_SHARE_MAX * held.ttl_ms)
        return entries

    def _horizon_ms(self) -> int:
        """Return the time up to which everything that was sent has been decided.

        A timer that is due later waits for the backlog before it: an agent whose signals we have
        not read yet must not be taken for silent.
        """
        now_ms = self._held.now_ms()
        if self._caught_up:
            return now_ms
        # An id made by hand may lie in the future.
        return min(int(self._decided_upto.partition(b"-")[0]), now_ms)

    async def _decide(self, entries: list[Entry], full: bool) -> None:
        """Decide and commit what was read; after an empty read, trim what the last commit left."""
        self._caught_up = not full
        if not entries:
            self._worked()
            if not self._drained:
                await self._commit(Decided(Batch(), 0), self._decided_upto, drained=True)
            return
        while entries:
            inputs = await self._handler.prepare(entries)
            position = 0
            while position < len(inputs):
                left = inputs[position:] if position else inputs
                decided = self._decide_some(left, self._held.now_ms())
                position += decided.taken
                upto = entries[position - 1][0]
                await self._commit(decided, upto, drained=not full and position == len(entries))
                if decided.is_barrier:
                    await self._settle()
                elif position < len(entries):
                    await asyncio.sleep(0)  # let it go out before the rest is decided
            entries = entries[len(inputs) :]

    def _decide_some(self, inputs: list[Any], now_ms: int) -> Decided:
        """Let the handler decide as many inputs as its pace allows. Raises DefectError."""
        pace, time = self._handler.pace, asyncio.get_running_loop().time
        begun = time()
        decided = self._handler.decide(inputs[: pace.most], now_ms)
        took_ms, lease_ms = int((time() - begun) * 1000), self._held.ttl_ms
        if pace.note(decided.taken, took_ms, lease_ms, is_lease_over=self._held.is_over()):
            reason = f"deciding on it took {took_ms} ms, and a lease lasts {lease_ms} ms"
            self._handler.leave_out(inputs[0], reason)
            raise DefectError(reason)
        return decided

    async def _fire_timers(self) -> None:
        await self._settle()
        lease = self._held.lease
        now_ms = self._horizon_ms()
        due = await self._held.store.due(lease.partition, lease.group, now_ms, TIMERS_MAX)
        inputs = await self._handler.prepare_timers([key for key, _ in due], now_ms)
        while inputs:
            decided = self._decide_some(inputs, now_ms)
            await self._commit(decided, b"", drained=True)
            inputs = inputs[decided.taken :]
        await self._settle()
        await self._look_at_timers()

    async def _look_at_timers(self) -> None:
        """Read from the store when the next timer is due. Only this loop sets timers."""
        lease = self._held.lease
        first = await self._held.store.due(lease.partition, lease.group, 2**53, 1)
        self._handler.take_due_ms()
        self._due_ms = first[0][1] if first else None

    async def _commit(self, decided: Decided, upto: bytes, *, drained: bool) -> None:
        """Send a batch after the previous commit's answer; do not wait for its own answer."""
        await self._settle()
        held = self._held
        self._committing = self._start(
            held.store.commit(
                held.lease, held.version, decided.batch, upto, held.ttl_ms, drained=drained
            )
        )
        if upto:
            self._decided_upto = upto
            self._drained = drained
        due_ms = self._handler.take_due_ms()
        if due_ms is not None and (self._due_ms is None or due_ms < self._due_ms):
            self._due_ms = due_ms

    async def _settle(self) -> None:
        committing, self._committing = self._committing, None
        if committing is None:
            return
        upto = self._decided_upto
        self._held.renewed(await committing)
        self._worked()
        self._held.version += 1
        self._held.committed = upto

    def _pause_s(self) -> float | None:
        if self._due_ms is None or not self._caught_up:
            return None
        return max(0, self._due_ms - self._held.now_ms()) / 1000
