"""File locks that say which processes live: the kernel drops a lock when its holder ends.

A pid in a file proves nothing, because pids are reused. An flock proves that its holder lives,
however the holder may end. Probes take shared locks, so that two probes never see each other.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from fabric.errors import HeldError

#: Seconds between two checks of another process: too short for a person to notice.
POLL_SECONDS = 0.02


def wait_until(done: Callable[[], bool], seconds_max: float) -> bool:
    """Return whether `done()` came true within `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_held(path: Path) -> bool:
    """Return whether a live process holds the lock on this file. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextmanager
def holding(path: Path, seconds_max: float) -> Iterator[int]:
    """Hold the lock on the file, creating it if need be, inside the block; yield its descriptor.

    Raises HeldError when another process keeps the lock all the time, OSError when the file cannot
    be opened.
    """
    opened: list[int] = []

    def is_locked() -> bool:
        if opened:
            os.close(opened.pop())
        opened.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        # The file may have been deleted while we waited: a lock on it would exclude nobody.
        return _try(opened[0], fcntl.LOCK_EX) and _is_at(opened[0], path)

    try:
        if not wait_until(is_locked, seconds_max):
            raise HeldError(f"{path}: another process has held this lock for {seconds_max:g} s")
        yield opened[0]
    finally:
        for descriptor in opened:
            os.close(descriptor)


def host() -> str:
    """Return the name of the scope in which a pid is valid: this host, and its pid namespace.

    A project folder can be shared with a container, where the same pid is another process.
    """
    namespace = ""
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{os.uname().nodename} {namespace}".strip()


class User(NamedTuple):
    """A process that uses the server."""

    pid: int
    #: Where the pid is valid (`host()`).
    host: str
    path: Path

    def is_live(self) -> bool:
        """Whether the process still uses the server."""
        return is_held(self.path)


class UserLock:
    """This process's lock in the folder of users. A forked child must call `close`."""

    def __init__(self, users: Path) -> None:
        """Take the lock, and remove the files of dead users. Needs the project's lock."""
        for path in users.iterdir():
            if not is_held(path):
                path.unlink(missing_ok=True)
        # This process may be a user twice, or one in another container may have the same pid.
        suffixes = chain([""], (f"-{number}" for number in count(2)))
        paths = (users / f"{os.getpid()}{suffix}.lock" for suffix in suffixes)
        self.path = next(path for path in paths if not path.exists())
        # Locked and written before it gets the name that others look for: so a file with such a
        # name and without a lock is always a dead user's.
        fresh = self.path.with_suffix(".new")
        self._descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.write(self._descriptor, host().encode())
            fresh.replace(self.path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Remove the file and unlock it."""
        if self._descriptor >= 0 and _is_at(self._descriptor, self.path):
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close this process's copy of the lock; in a forked child the parent keeps its own."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def live_users(users: Path) -> list[User]:
    """Return the live users, by pid. Raises OSError."""
    found = []
    for path in users.glob("*.lock"):
        pid = path.name.partition(".")[0].partition("-")[0]
        with suppress(FileNotFoundError):
            where = path.read_text(errors="replace")
            if pid.isdecimal() and is_held(path):
                found.append(User(int(pid), where, path))
    return sorted(found)


def send_signal(number: signal.Signals, pid: int, is_alive: Callable[[], bool]) -> bool:
    """Signal the process that `is_alive()` checks; return whether the signal was sent.

    On Linux we pin the process before we check it, so a reused pid is never hit. Elsewhere only the
    instant between the check and the signal is left.
    """
    with suppress(ProcessLookupError, PermissionError):
        pinned = _pinned(pid)
        try:
            if not is_alive():
                return False
            if sys.platform == "linux" and pinned is not None:
                signal.pidfd_send_signal(pinned, number)
            else:
                os.kill(pid, number)
            return True
        finally:
            if pinned is not None:
                os.close(pinned)
    return False


def _pinned(pid: int) -> int | None:
    try:
        if sys.platform == "linux":
            return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:  # an old kernel, or a sandbox without this call
        pass
    return None


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
