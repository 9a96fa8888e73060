"""Programs that a worker runs beside itself: the hook, and the processes of refiners."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import IO, Any, Final

#: Not passed on: the server's URL may hold a password. Names of settings have no case.
WITHHELD: Final = "FABRIC_REDIS_URL"

#: Processes of one kind at a time in one worker; others wait for their turn. Many sessions at once
#: must not take the machine, and a program that hangs must not stop all others.
PROCESSES_MAX: Final = 4


class RunError(Exception):
    """A run has failed. The message says how, and holds no secret: it goes into the log."""


class Background:
    """Work beside the handlers' loops; `turns` bounds that of all handlers of a worker."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None] | None:
        """Begin some work, once it is its turn; None after `close`."""
        if self._is_closed:
            return None
        task = asyncio.create_task(self._take_turn(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End what still runs, and wait for its end."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_turn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._turns:
            await work()


async def run(
    argv: Sequence[str],
    given: IO[bytes],
    answer: IO[bytes] | None,
    limit_s: float,
    *,
    leaves_others: bool = False,
    kept: Sequence[int] = (),
) -> None:
    """Run a program to its end. Raises RunError when it cannot be started, fails, or is killed.

    It is killed after `limit_s`, together with all processes that it has started. With
    `leaves_others`, what it has started may go on when it has ended by itself. It inherits the file
    descriptors in `kept`.

    Input and output are files: a pipe would have to be fed, drained and bounded, and a process that
    the program has left running could hold it open.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={name: value for name, value in os.environ.items() if name.upper() != WITHHELD},
            stdin=given,
            stdout=asyncio.subprocess.DEVNULL if answer is None else answer,
            stderr=asyncio.subprocess.DEVNULL,
            # A process group of its own, so that what it has started can be killed with it.
            start_new_session=True,
            pass_fds=kept,
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL in the arguments
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RunError(f"cannot be started: {reason}") from None
    try:
        async with asyncio.timeout(limit_s):
            code = await process.wait()
    except TimeoutError:
        raise RunError(f"has not ended within {limit_s:g} s and was killed") from None
    finally:
        if process.returncode is None or not leaves_others:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if code < 0:
        raise RunError(f"was ended by signal {-code}; it may have used too much memory")
    if code:
        raise RunError(f"ended with exit code {code}")
