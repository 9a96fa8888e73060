"""The time of an event loop that only a test moves on.

The workers and the client take all their times from the event loop, so it is the loop's clock that
stands still: `asyncio.sleep` and `asyncio.timeout` of the test's own code follow it too.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

Ts = TypeVarTuple("Ts")

#: Turns of the event loop that may follow each other without any time passing. No test needs as
#: many: whatever takes more never comes to rest.
_TURNS_MAX = 100_000

#: Shortest pause of a timer, s.
_PAUSE_S_MIN = 1e-6


class Clock:
    """Stops the running event loop's time between `start` and `stop`, and moves it in steps.

    Timers set before `start` do not run meanwhile; they go on after `stop` with the time they had
    left. `on_standstill` is called once, in the event loop, when nobody has moved the clock or let
    anything settle for `patience_s` real seconds.
    """

    def __init__(self, patience_s: float, on_standstill: Callable[[], None]) -> None:
        self._patience_s = patience_s
        self._on_standstill = on_standstill
        self._now_s = self._started_s = 0.0
        #: Timers of the event loop that are not the fabric's or the test's.
        self._outer: list[asyncio.TimerHandle] = []
        self._moving = asyncio.Lock()
        self._steps = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Stop the time of the running event loop. Raises RuntimeError on another kind of loop."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.BaseEventLoop) or "time" in vars(loop):
            raise RuntimeError(
                "fabric.testing needs an event loop of asyncio's own, with one fabric at a time: "
                f"this is {loop!r}"
            )
        self._loop = loop
        self._now_s = self._started_s = loop.time()
        self._outer = list(_timers(loop))
        loop.time = lambda: self._now_s  # type: ignore[method-assign] # all timers of a loop go by it
        loop.call_later = self._call_later  # type: ignore[method-assign] # its docstring says why
        self._watcher = threading.Thread(target=self._watch, name="fabric-test-clock", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Let time pass again. Timers still set keep the time that they have left."""
        self._stopped.set()
        self._watcher.join()
        del self._loop.time, self._loop.call_later  # back to the methods of the class
        behind_s = self._loop.time() - self._now_s
        for timer in _timers(self._loop):
            timer._when += behind_s  # type: ignore[attr-defined] # all alike: their order stays

    def passed_s(self) -> float:
        """Return how many seconds have passed by this clock since `start`."""
        return self._now_s - self._started_s

    async def advance(self, seconds: float) -> None:
        """Move time on, firing each timer at its time and letting everything settle in between."""
        async with self._moving:
            until_s = self._now_s + seconds
            await self._settle()
            while (due_s := self._next_s()) is not None and due_s <= until_s:
                self._move_to(due_s)
                await self._settle()
            self._move_to(until_s)
            await self._settle()

    async def settle(self) -> None:
        """Let everything run that needs no time to pass."""
        async with self._moving:
            await self._settle()

    def _call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer as the loop does, but never for a pause too short to be added to the time.

        A real clock would have moved on by itself; this one would fire such timers for ever.
        """
        pause_s = max(delay, _PAUSE_S_MIN) if delay > 0 else 0.0
        return self._loop.call_at(self._now_s + pause_s, callback, *args, context=context)

    def _next_s(self) -> float | None:
        outer = set(map(id, self._outer))
        timers = [timer for timer in _timers(self._loop) if id(timer) not in outer]
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)

    def _move_to(self, then_s: float) -> None:
        passed_s = then_s - self._now_s
        if passed_s <= 0:
            return
        self._now_s = then_s
        if self._outer:
            for timer in self._outer:
                timer._when += passed_s  # type: ignore[attr-defined] # it does not get any closer
            heapq.heapify(_timers(self._loop))

    async def _settle(self) -> None:
        self._steps += 1
        for _ in range(_TURNS_MAX):
            await asyncio.sleep(0)
            if self._is_at_rest():
                return
        raise RuntimeError("something in this event loop never comes to rest")

    def _is_at_rest(self) -> bool:
        """Whether nothing but the caller can run now."""
        # While this runs, the loop's list of callbacks holds everything else that can run now,
        # but for timers, cancelled or not, that it has still to take up.
        ready = self._loop._ready  # type: ignore[attr-defined] # no public way
        timers = _timers(self._loop)
        return not ready and not (timers and timers[0].when() <= self._now_s)

    def _watch(self) -> None:
        """In a thread, as the loop's own time stands still: see that somebody moves it."""
        steps = -1
        while not self._stopped.wait(self._patience_s):
            if steps == self._steps:
                # One turn later the loop has read what woke it up.
                self._loop.call_soon_threadsafe(self._loop.call_soon, self._look, steps)
            steps = self._steps

    def _look(self, steps: int) -> None:
        """Report a standstill, unless the loop was only slow and has still something to run."""
        if steps == self._steps and self._is_at_rest() and not self._stopped.is_set():
            self._stopped.set()
            self._on_standstill()


def _timers(loop: asyncio.BaseEventLoop) -> list[asyncio.TimerHandle]:
    """Return the loop's own heap of timers: asyncio has no public way to see the next one."""
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined] # no public way
    return timers
