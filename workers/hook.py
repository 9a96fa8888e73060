"""The program that is told of new escalations: `[escalations] hook` in the rule file.

It is an argument vector, never a shell's line, so that nothing an agent asks can become a command;
what it is told comes on its standard input, as JSON. A run that fails is logged and over: who
started it keeps account of what is still to be told, and tells it at least once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import Final

from workers import child

logger = logging.getLogger("fabric.hook")

#: Runs at a time; others wait their turn. A fleet that asks all at once must not fork as many
#: programs, and one that hangs must not keep the others from being told.
PROCESSES_MAX: Final = 4


class Hook:
    """Runs the program once for each key, in the background.

    `limit_s` is the longest time that a run may take once it has its turn.
    """

    def __init__(self, argv: tuple[str, ...], limit_s: float) -> None:
        assert argv, "without a program there is no hook"
        self._argv = argv
        self._limit_s = limit_s
        self._turns = asyncio.Semaphore(PROCESSES_MAX)
        self._runs: dict[bytes, asyncio.Task[None]] = {}
        self._is_closed = False

    def start(self, key: bytes, document: bytes) -> None:
        """Run the program with a document on its standard input.

        Does nothing for a key whose run has not been seen to be over (`ended`), or when closed.
        """
        if key not in self._runs and not self._is_closed:
            self._runs[key] = asyncio.create_task(self._run(document))

    def ended(self, key: bytes) -> bool:
        """Say whether the run for a key is over, well or not; if so, it is forgotten."""
        run = self._runs.get(key)
        if run is None or not run.done():
            return False
        del self._runs[key]
        return True

    async def close(self) -> None:
        """Kill what still runs, and wait for its end; none of it counts as ended."""
        self._is_closed = True
        runs = list(self._runs.values())
        self._runs.clear()
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def _run(self, document: bytes) -> None:
        async with self._turns:
            try:
                process = await self._spawn()
            except (OSError, ValueError) as error:  # ValueError: a NUL in the arguments
                reason = getattr(error, "strerror", None) or type(error).__name__
                self._complain(f"cannot be started: {reason}")
                return
            try:
                async with asyncio.timeout(self._limit_s):
                    await process.communicate(document)
            except TimeoutError:
                self._complain(f"has not ended within {self._limit_s:g} s and was killed")
            else:
                if process.returncode:
                    self._complain(f"ended with exit code {process.returncode}")
            finally:
                await _kill(process)

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._argv,
            env=child.environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # A group of its own, so that what it has started is killed with it.
            start_new_session=True,
        )

    def _complain(self, what: str) -> None:
        # The program's name alone: its arguments may hold a token, the document is the agents'.
        logger.error("hook %s %s; who asks still waits", self._argv[0], what)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill a process that has not ended, with what it has started, and wait for its end."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
