"""A program that a worker runs beside itself: bounded in time, killed with all it has started."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Final

#: Not handed down: the server's URL may hold a password. Names of settings have no case.
WITHHELD: Final = "FABRIC_REDIS_URL"


def environment() -> dict[str, str]:
    """Return what a program is told of our environment."""
    return {name: value for name, value in os.environ.items() if name.upper() != WITHHELD}


async def run(argv: Sequence[str], given: IO[bytes], answer: IO[bytes], limit_s: float) -> int:
    """Run a program to its end; return its exit code, or -n when signal n has ended it.

    It reads one file and writes another: a pipe would have to be fed, drained and bounded, and what
    the program has left running could hold it open. Raises OSError when the program cannot be
    started, TimeoutError when it was killed for taking too long.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment(),
        stdin=given,
        stdout=answer,
        stderr=asyncio.subprocess.DEVNULL,
        # A group of its own, so that what it has started is killed with it.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            return await process.wait()
    finally:
        # Also when it has ended: what it has started may not have.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
