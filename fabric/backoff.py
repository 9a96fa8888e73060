"""What a worker does while the server is away: wait longer each time, and raise an alarm once."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress

from fabric.errors import FabricError

logger = logging.getLogger("fabric.alarm")

#: First and longest pause, ms. A server that restarts is back within a second or so; one that is
#: down for long is asked every few seconds.
FIRST_MS = 50
LONGEST_MS = 5_000

#: The alarm is repeated while the trouble lasts, so that a log that rotates still shows it, ms.
REMIND_MS = 30_000


class Backoff:
    """Pauses after failures of one thing, named for the alarm."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._failures = 0
        #: Failures since the server last answered: the pause grows with them.
        self._streak = 0
        self._alarm_ms = 0

    async def failed(self, error: FabricError, stop: asyncio.Event) -> None:
        """Wait before the next try, at most until told to stop."""
        ceiling_ms = min(LONGEST_MS, FIRST_MS * 2 ** min(self._streak, 16))
        self._failures += 1
        self._streak += 1
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        if not self._alarm_ms or now_ms - self._alarm_ms >= REMIND_MS:
            self._alarm_ms = now_ms
            logger.error("ALARM %s: %s: %s; trying again", self._subject, error.code, error)
        # Full jitter: replicas that lost the server together do not come back together.
        pause_ms = random.uniform(ceiling_ms / 2, ceiling_ms)  # spreads retries, guards nothing
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_ms / 1000):
                await stop.wait()

    def answered(self) -> None:
        """Note that the server is there: the next pause is a short one, the alarm stands."""
        self._streak = 0

    def worked(self) -> None:
        """Note that it works again."""
        if self._alarm_ms:
            logger.warning("%s: works again after %d failures", self._subject, self._failures)
        self._failures = self._streak = 0
        self._alarm_ms = 0
