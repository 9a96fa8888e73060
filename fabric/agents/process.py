"""The processes of clients: which one a hook belongs to, and when it ends.

A client that is killed runs no hook. Linux tells at once that a process has ended (pidfd);
elsewhere the daemon looks again and again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

#: Programs between a client and its hook: each client starts hooks in another way.
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "env", "timeout", "nice"})

#: Ancestors that are looked at.
DEPTH_MAX = 8

#: Seconds between two looks where the system does not tell.
LOOK_S = 0.5


def client_of(pid: int) -> int:
    """Return the nearest ancestor that is no shell; the process itself where that is not known."""
    found = pid
    for _ in range(DEPTH_MAX):
        try:
            stat = Path(f"/proc/{found}/stat").read_text()
        except OSError:
            return pid if found == pid else found
        name = stat[stat.index("(") + 1 : stat.rindex(")")]
        if name not in SHELLS:
            return found
        parent = int(stat[stat.rindex(")") + 2 :].split()[1])
        if parent <= 1:
            return found
        found = parent
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat[stat.rindex(")") + 2] not in "ZX"
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Watch:
    """Calls back once when a process has ended, at once if it has ended already."""

    def __init__(self, pid: int, on_end: Callable[[], None]) -> None:
        self._on_end, self._descriptor = on_end, -1
        self._task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        try:
            if sys.platform == "linux":
                self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            loop.call_soon(on_end)
            return
        except OSError:  # an old kernel, or a sandbox without this call
            pass
        if self._descriptor >= 0:
            loop.add_reader(self._descriptor, self._ended)
        else:
            self._task = asyncio.create_task(self._look(pid))

    def _ended(self) -> None:
        self.close()
        self._on_end()

    async def _look(self, pid: int) -> None:
        while is_alive(pid):  # noqa: ASYNC110 - another process's end is no event of ours
            await asyncio.sleep(LOOK_S)
        self._on_end()

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
