"""Retries: pauses that grow with full jitter, and one alarm for as long as the trouble lasts.

Workers and agents both use it. Thousands of them lose a server in the same moment; without jitter
they would all come back in the same moment too.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from fabric.errors import FabricError, ReconnectedError, UnavailableError, UnreachableError

T = TypeVar("T")

#: Ceilings of the first and of the longest pause, ms. A server that restarts is back within about a
#: second; one that is down for long is asked every few seconds.
FIRST_MS = 50
LONGEST_MS = 5_000

#: The alarm is repeated while the trouble lasts, so that a log that rotates still shows it, ms.
REMIND_MS = 30_000

#: The longest ceiling of a reader who waits for nothing else, ms.
_READ_LONGEST_MS = 1_000


class Backoff:
    """The pauses before each new try: exponential, with full jitter.

    Each pause is drawn evenly from 0 to a ceiling, which doubles up to `longest_ms`. `uniform`
    replaces `random.uniform`: a test passes its own.
    """

    def __init__(
        self,
        first_ms: int = FIRST_MS,
        longest_ms: int = LONGEST_MS,
        *,
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:
        self._first_ms = first_ms
        self._longest_ms = longest_ms
        self._uniform = uniform or random.uniform
        self._ceiling_ms = first_ms

    def next_s(self) -> float:
        """Return the next pause in seconds, and double the ceiling for the one after it."""
        ceiling_ms = self._ceiling_ms
        self._ceiling_ms = min(self._longest_ms, ceiling_ms * 2)
        return self._uniform(0, ceiling_ms) / 1000

    def reset(self) -> None:
        """Begin again with the first ceiling."""
        self._ceiling_ms = self._first_ms


class Outage:
    """One thing that may fail for a while: waits before each new try, and reports the trouble.

    Each kind of error is logged once, then every 30 seconds while it lasts: as an alarm (error
    level, logger `fabric.alarm`), or with `is_alarm` false as a warning of `fabric.agent`.
    """

    def __init__(
        self, subject: str, *, is_alarm: bool = True, backoff: Backoff | None = None
    ) -> None:
        self._subject = subject
        self._is_alarm = is_alarm
        self._logger = logging.getLogger("fabric.alarm" if is_alarm else "fabric.agent")
        self._backoff = backoff or Backoff()
        self._failures = 0
        #: When each kind of error was last reported, by code.
        self._reported_ms: dict[str, int] = {}

    async def failed(self, error: FabricError, stop: asyncio.Event | None = None) -> None:
        """Report the failure if a report is due; wait before the next try, or until `stop`."""
        self.report(error)
        pause_s = self._backoff.next_s()
        if stop is None:
            await asyncio.sleep(pause_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await stop.wait()

    def report(self, error: FabricError) -> None:
        """Report the failure if a report is due; of a new connection alone none is."""
        self._failures += 1
        if isinstance(error, ReconnectedError):  # a server may close what is idle
            return
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        reported_ms = self._reported_ms.get(error.code)
        if reported_ms is None or now_ms - reported_ms >= REMIND_MS:
            self._reported_ms[error.code] = now_ms
            level = logging.ERROR if self._is_alarm else logging.WARNING
            what = f"ALARM {self._subject}: {error.code}" if self._is_alarm else self._subject
            self._logger.log(level, "%s: %s; trying again", what, error)

    def answered(self) -> None:
        """Note that the server answers again: the next pause is short, the alarm stands."""
        self._backoff.reset()

    def worked(self) -> None:
        """Note that it works again, and say so if the trouble was reported."""
        if self._reported_ms:
            self._logger.warning("%s: works again after %d failures", self._subject, self._failures)
        self._backoff.reset()
        self._failures = 0
        self._reported_ms.clear()


async def retry(read: Callable[[], Awaitable[T]]) -> T:
    """Return what `read` returns, after as many tries as it takes until the server answers.

    Only for reading: `read` may run many times. Raises every error other than UnreachableError and
    UnavailableError at once.
    """
    outage = Outage("reading", is_alarm=False, backoff=Backoff(longest_ms=_READ_LONGEST_MS))
    while True:
        try:
            found = await read()
        except (UnreachableError, UnavailableError) as error:
            await outage.failed(error)
        else:
            outage.worked()
            return found


async def reach(
    connect: Callable[[], Awaitable[T]], limit_ms: int, tell: Callable[[str], object]
) -> T:
    """Return what `connect` returns, as soon as the server can be reached and takes commands.

    It may run many times; after `limit_ms` its last error is raised. `tell` gets one sentence if it
    is tried again. Raises every error other than UnreachableError and UnavailableError at once.
    """
    backoff, loop = Backoff(longest_ms=_READ_LONGEST_MS), asyncio.get_running_loop()
    deadline, is_told = loop.time() + limit_ms / 1000, False
    while True:
        pause_s = backoff.next_s()
        try:
            return await connect()
        except (UnreachableError, UnavailableError) as error:
            if loop.time() + pause_s > deadline:
                raise
            if not is_told:
                tell(f"{error}; trying again for up to {limit_ms / 1000:g} s")
            is_told = True
        await asyncio.sleep(pause_s)
