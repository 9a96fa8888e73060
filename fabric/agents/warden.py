"""The process between `fabric run` and the command: no process of the command outlives either.

Run as a program of its own, `python -I -S warden.py FD LOCK COMMAND…`, with the standard library
only. LOCK is the file in which the agent daemon has its process: the first hook of a client starts
it, perhaps below us, and it speaks for all agents of this host, so it stays.
FD is the reading end of a pipe whose writing end only `fabric run` has: when it closes, however
`fabric run` has ended, all processes of the command are killed. When the command ends by itself,
what it has left behind is told to end, and killed after `GRACE_S`.

On Linux the warden adopts orphans (PR_SET_CHILD_SUBREAPER), so it also finds processes that have
left the group, as shells of coding agents do. Elsewhere it kills the group.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Seconds that processes have to end after SIGTERM.
GRACE_S = 2.0
#: Seconds between two looks at what is left.
_LOOK_S = 0.02
#: Exit code when the command cannot be started, as shells have it.
NOT_FOUND = 127
#: The option of prctl(2).
_PR_SET_CHILD_SUBREAPER = 36


def main(words: list[str]) -> int:
    """Run the command; return its exit code, 128 + n if signal n ended it."""
    lifeline, lock, command = int(words[0]), Path(words[1]), words[2:]
    os.set_inheritable(lifeline, False)
    _adopt_orphans()
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    # Handlers, not SIG_IGN: the command inherits what is ignored.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        child = subprocess.Popen(command)  # noqa: S603 - what the user wants to run
    except OSError as error:
        sys.stderr.write(f"fabric: {command[0]}: {error.strerror}\n")
        return NOT_FOUND
    while child.poll() is None:
        ready, _, _ = select.select([lifeline, waking], [], [])
        if lifeline in ready:  # nothing is ever written: it is closed
            _end_all(child.pid, 0.0, lock)
            return 128 + signal.SIGKILL
        # Of the others, the terminal has told the command too. It may have left our group.
        if signal.SIGTERM in os.read(waking, 4096):
            with suppress(ProcessLookupError):
                _tell_group(child)
    _end_all(child.pid, GRACE_S, lock)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _tell_group(child: subprocess.Popen[bytes]) -> None:
    """Pass SIGTERM on: to all of our group if it is our own, else to the command alone."""
    if os.getpgrp() != os.getpid():
        child.terminate()
        return
    # We get it too: that one is not to be passed on again.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.killpg(0, signal.SIGTERM)
    signal.sigtimedwait([signal.SIGTERM], 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):  # a libc without it
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_all(child: int, grace_s: float, lock: Path) -> None:
    """End what is left of the command: SIGTERM, and SIGKILL after `grace_s`."""
    deadline = time.monotonic() + grace_s
    number = signal.SIGTERM if grace_s else signal.SIGKILL
    told: set[int] = set()
    while left := _left(child, _daemon(lock)):
        if number is signal.SIGTERM and time.monotonic() > deadline:
            number, told = signal.SIGKILL, set()
        for pid in left - told:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        # A process may start another before it ends; the killed ones are gone at the next look.
        told |= left
        _reap()
        time.sleep(_LOOK_S)


def _daemon(lock: Path) -> int:
    """Return the process of the agent daemon; 0 if it does not run."""
    try:
        pid = int(lock.read_text())
        return pid if b"fabric.agents" in Path(f"/proc/{pid}/cmdline").read_bytes() else 0
    except (OSError, ValueError):
        return 0


def _left(child: int, spared: int) -> set[int]:
    """Return our descendants; without /proc, the members of our group as far as they are known.

    Without the one that is spared, and what is below it.
    """
    if not Path("/proc/self/stat").exists():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child, 0)
            return {child}
        return set()
    children: dict[int, list[int]] = {}
    for pid in (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()):
        with suppress(OSError, ValueError, IndexError):
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(pid)
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        below = [pid for pid in children.get(todo.pop(), []) if pid != spared]
        found.update(below)
        todo += below
    return found


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(main: Callable[[list[str]], int]) -> None:
    code = main(sys.argv[1:])
    if os.getpgrp() == os.getpid() and not Path("/proc/self/stat").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(0, signal.SIGTERM if code != 128 + signal.SIGKILL else signal.SIGKILL)
    sys.exit(code)


if __name__ == "__main__":
    _run(main)
