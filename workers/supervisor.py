"""Worker processes of one machine: started, watched, started again when they die, and stopped.

Each process is in a session of its own: a Ctrl-C at the terminal reaches the supervisor, not the
workers, so they drain in order. No worker outlives the supervisor, even one that was killed with
SIGKILL and runs no more code: the workers' standard input is a pipe, and only the supervisor has
its other end. When the supervisor ends, the kernel closes the pipe; a worker that reads the end of
its input drains and ends. (Linux can send a signal instead, PR_SET_PDEATHSIG; but macOS cannot, and
neither helps if the parent is gone before the child asks for it.) `python -m workers.supervisor
orchestrator` is `python -m workers orchestrator` with this addition.

The server's URL may hold a password, so it is passed in the environment: everybody on the machine
can see arguments.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

#: Workers may drain for so long after SIGTERM before they are killed, s. A batch takes some ms, a
#: reply from a frozen server at most five seconds. `fabric down` waits longer than this for `up`.
DRAIN_S: Final = 20.0

#: First and longest pause before a worker that died is started again, s: a worker that dies at once
#: must not take the machine with it.
RESTART_FIRST_S: Final = 0.5
RESTART_LONGEST_S: Final = 15.0

#: After a worker has lived for so long, the next pause is the first one again, s.
STEADY_S: Final = 30.0


class Supervisor:
    """Keeps workers running until its `async with` block ends, then drains them.

    `workers` names the kind of each, `orchestrator` or `synthesizer`. `say` gets a sentence each
    time a worker dies or is back. The workers' output goes to the file descriptor `output`.
    """

    def __init__(
        self,
        workers: Sequence[str],
        url: str,
        *,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None],
        output: int = 2,
    ) -> None:
        self._kinds = _named(workers)
        self._environment = {**os.environ, **(environment or {}), "FABRIC_REDIS_URL": url}
        self._say = say
        self._output = output
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._abort = asyncio.Event()
        self._pipe: tuple[int, int] | None = None
        #: Workers that were killed: they did not drain in time, or `abort` was called.
        self.killed: list[str] = []

    async def __aenter__(self) -> Supervisor:
        """Start all workers. Raises OSError when a process cannot be started."""
        self._pipe = os.pipe()
        try:
            for name in self._kinds:
                self._processes[name] = await self._start(name)
        except BaseException:
            self.abort()
            await self._end_all()
            raise
        self._keepers = [asyncio.create_task(self._keep(name)) for name in self._kinds]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let the workers drain, for at most `DRAIN_S`, and wait until they have ended."""
        self._stop.set()
        try:
            await asyncio.gather(*self._keepers)
        finally:
            await self._end_all()

    def abort(self) -> None:
        """Do not wait for the workers to drain: others go on from their last commits."""
        self._abort.set()

    @property
    def pids(self) -> dict[str, int]:
        """The process of each worker, by name: `orchestrator 1`."""
        return {name: process.pid for name, process in self._processes.items()}

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        assert self._pipe is not None
        # -P: do not import a folder called `workers` or `redis` in the working directory.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "workers.supervisor", self._kinds[name]),
            env=self._environment,
            start_new_session=True,
            stdin=self._pipe[0],
            stdout=self._output,
            stderr=self._output,
        )

    async def _keep(self, name: str) -> None:
        """Start a worker again whenever it ends, until told to stop."""
        pause_s, began_s = RESTART_FIRST_S, time.monotonic()
        while not await self._is_stopped_before(self._processes[name].wait()):
            if time.monotonic() - began_s >= STEADY_S:
                pause_s = RESTART_FIRST_S
            process = self._processes[name]
            how = f"{name} (pid {process.pid}) {_ending(process.returncode)}"
            self._say(f"{how}; starting it again in {pause_s:g} s")
            if await self._is_stopped_before(asyncio.sleep(pause_s)):
                return
            pause_s, began_s = min(2 * pause_s, RESTART_LONGEST_S), time.monotonic()
            try:
                self._processes[name] = await self._start(name)
            except OSError as error:
                self._say(f"{name} cannot be started: {error.strerror}")
            else:
                self._say(f"{name} is back (pid {self._processes[name].pid})")

    async def _is_stopped_before(self, event: Any) -> bool:
        """Wait for an event; return whether we were told to stop first."""
        tasks = asyncio.ensure_future(event), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._stop.is_set()

    async def _end_all(self) -> None:
        running = {n: p for n, p in self._processes.items() if p.returncode is None}
        ends = [asyncio.create_task(process.wait()) for process in running.values()]
        aborted = asyncio.create_task(self._abort.wait())
        try:
            for process in running.values():
                _send(process, signal.SIGTERM)
            drained = asyncio.ensure_future(asyncio.gather(*ends))
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait((drained, aborted), timeout=DRAIN_S, return_when=first)
        finally:
            aborted.cancel()
            for name, process in running.items():
                if process.returncode is None:
                    self.killed.append(name)
                    _send(process, signal.SIGKILL)
            await asyncio.gather(aborted, *ends, return_exceptions=True)
            for descriptor in self._pipe or ():
                os.close(descriptor)
            self._pipe = None


def _named(workers: Sequence[str]) -> dict[str, str]:
    """Return a name for each worker: its kind, with a number where there are more of that kind."""
    totals, counts = Counter(workers), Counter[str]()
    names = {}
    for kind in workers:
        counts[kind] += 1
        names[kind if totals[kind] == 1 else f"{kind} {counts[kind]}"] = kind
    return names


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _follow_supervisor() -> None:
    """Drain and end this process when its standard input ends: the supervisor is gone then."""
    with suppress(OSError):
        while os.read(0, 1):
            pass  # nothing is ever sent
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(DRAIN_S)
    os._exit(1)


if __name__ == "__main__":
    from workers.__main__ import main

    threading.Thread(target=_follow_supervisor, daemon=True).start()
    sys.exit(main())
