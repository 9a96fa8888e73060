"""One simulated process: an event loop that the timeline drives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVarTuple

if TYPE_CHECKING:
    from tests.simulation.timeline import Timeline

Ts = TypeVarTuple("Ts")

#: Exceptions that nothing in the process awaited, as asyncio reports them.
Report = Callable[[str, BaseException | None], None]

#: Shortest pause, s.
SHORTEST_S = 1e-6

#: How often to end a coroutine that awaits something while it ends.
CLOSES_MAX = 20


class NodeLoop(asyncio.BaseEventLoop):
    """The event loop of one process. It can be frozen, thawed and killed between any two steps.

    After a kill nothing of it runs any more, not even `finally` blocks: as with SIGKILL.
    """

    def __init__(self, timeline: Timeline, name: str, report: Report) -> None:
        super().__init__()
        self.name = name
        self.is_dead = False
        self._timeline = timeline
        self._report = report
        self.is_frozen = False
        #: Callbacks that became due while it was frozen.
        self._put_off: list[asyncio.Handle] = []

    def admit(self, handle: asyncio.Handle) -> bool:
        """Return whether a callback may run now; keep those of a frozen process for later."""
        if self.is_frozen and not self.is_dead:
            self._put_off.append(handle)
        return not (self.is_frozen or self.is_dead)

    def freeze(self) -> None:
        """Stop (SIGSTOP)."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Go on (SIGCONT): everything that became due meanwhile runs at once, in order."""
        self.is_frozen = False
        put_off, self._put_off = self._put_off, []
        for handle in put_off:
            self._timeline.soon(self, handle)

    def kill(self) -> None:
        """End at once (SIGKILL)."""
        self.is_dead = True
        self._put_off.clear()
        self._close_coroutines()
        self.close()

    def _close_coroutines(self) -> None:
        """Close unfinished coroutines quietly; the garbage collector would warn about them."""
        asyncio._set_running_loop(self)
        logging.disable()
        closed: set[asyncio.Task[Any]] = set()
        try:
            while left := asyncio.all_tasks(self) - closed:
                closed |= left
                for task in left:
                    _close(task.get_coro())
        finally:
            logging.disable(logging.NOTSET)
            asyncio._set_running_loop(None)

    def time(self) -> float:
        """Return the simulated time, s."""
        return self._timeline.now_s

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._timeline.soon(self, handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timeline.later(when, self, handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        # A pause below the precision of the time would not move it on.
        pause_s = max(delay, SHORTEST_S) if delay > 0 else 0.0
        return self.call_at(self.time() + pause_s, callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Record exceptions that nothing awaited; ignore the tasks that a killed process leaves."""
        if not self.is_dead:
            self._report(f"{self.name}: {context.get('message')}", context.get("exception"))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: the timeline skips cancelled callbacks."""

    def _check_closed(self) -> None:
        """Do nothing: callbacks that a killed process still schedules never run."""


class KilledError(BaseException):
    """Ends a coroutine of a killed process.

    Unlike the GeneratorExit of `close`, it starts in the innermost coroutine, so that none is left
    behind that awaits something while it is being closed.
    """


def _close(work: Any) -> None:
    for _ in range(CLOSES_MAX):
        try:
            work.throw(KilledError())  # returns if it awaits something while it ends
        except BaseException:  # its own exception, or another one that it has raised instead
            return
    work.close()
