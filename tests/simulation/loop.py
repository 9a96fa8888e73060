"""One simulated process: an event loop whose time and turns the timeline gives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVarTuple

if TYPE_CHECKING:
    from tests.simulation.timeline import Timeline

Ts = TypeVarTuple("Ts")

#: Failures of a process that nobody awaited, as asyncio reports them.
Report = Callable[[str, BaseException | None], None]

#: Shortest pause, s.
SHORTEST_S = 1e-6

#: Times that a coroutine is closed which waits for something on its way out.
CLOSES_MAX = 20


class NodeLoop(asyncio.BaseEventLoop):
    """The event loop of one process. It can be frozen, thawed and killed between any two steps.

    Killed, nothing of it runs any more, not even what it would do on its way out: as with SIGKILL.
    """

    def __init__(self, timeline: Timeline, name: str, report: Report) -> None:
        super().__init__()
        self.name = name
        self.is_dead = False
        self._timeline = timeline
        self._report = report
        self._is_frozen = False
        #: What has come due while it was frozen.
        self._put_off: list[asyncio.Handle] = []

    def admit(self, handle: asyncio.Handle) -> bool:
        """Whether a callback may run now; one of a frozen process is kept for later."""
        if self._is_frozen and not self.is_dead:
            self._put_off.append(handle)
        return not (self._is_frozen or self.is_dead)

    def freeze(self) -> None:
        """Stop where it stands (SIGSTOP)."""
        self._is_frozen = True

    def thaw(self) -> None:
        """Go on (SIGCONT): all that has come due meanwhile happens at once, in order."""
        self._is_frozen = False
        put_off, self._put_off = self._put_off, []
        for handle in put_off:
            self._timeline.soon(self, handle)

    def kill(self) -> None:
        """End here and now (SIGKILL)."""
        self.is_dead = True
        self._put_off.clear()
        self._bury()
        self.close()

    def _bury(self) -> None:
        """Close what is half-way, in silence; else the garbage collector would do so, aloud."""
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
        # Time would not move on for less than a float can add to it.
        pause_s = max(delay, SHORTEST_S) if delay > 0 else 0.0
        return self.call_at(self.time() + pause_s, callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report what nobody has awaited. A killed process leaves tasks behind: that is no news."""
        if not self.is_dead:
            self._report(f"{self.name}: {context.get('message')}", context.get("exception"))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: the timeline passes over what was cancelled."""

    def _check_closed(self) -> None:
        """Nothing: what a killed process still sets up on its way to nowhere never runs."""


def _close(work: Any) -> None:
    for _ in range(CLOSES_MAX):
        try:
            work.close()
        except RuntimeError:  # it has awaited something: it is to go on from there
            continue
        return
