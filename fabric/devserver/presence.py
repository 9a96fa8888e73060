"""Who is alive, told by the kernel: a file lock ends with the process that holds it.

A pid in a file proves nothing, for pids come round again. An flock proves that its holder lives,
however that holder may end. Probes take shared locks, so that two of them never see each other.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fabric.errors import HeldError

#: Seconds between two looks at a condition of another process: too short for a person to notice.
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


def take(path: Path, seconds_max: float) -> int:
    """Lock the file, making it if need be, and return its descriptor: closing it unlocks.

    Raises HeldError when another process holds it all the time, OSError when it cannot be opened.
    """
    found: list[int] = []

    def taken() -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # A file deleted while we waited for it locks nobody out.
            if _try(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, path):
                found.append(descriptor)
        finally:
            if not found:
                os.close(descriptor)
        return bool(found)

    if not wait_until(taken, seconds_max):
        raise HeldError(f"{path}: another process has held this lock for {seconds_max:g} s")
    return found[0]


@contextmanager
def holding(path: Path, seconds_max: float) -> Iterator[None]:
    """Hold the lock on the file inside the block. Raises as `take` does."""
    descriptor = take(path, seconds_max)
    try:
        yield
    finally:
        os.close(descriptor)


def place() -> str:
    """Return a name for where pids mean the same: this host, and on Linux this pid namespace.

    A project folder can be shared with a container, whose pids are other processes here.
    """
    namespace = ""
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{os.uname().nodename} {namespace}".strip()


class User(NamedTuple):
    """A process that uses the server."""

    pid: int
    place: str
    path: Path

    def is_live(self) -> bool:
        """Whether the process still uses the server."""
        return is_held(self.path)


class Seat:
    """This process's own lock among the users. A forked child must call `forget`."""

    def __init__(self, users: Path) -> None:
        """Take a seat, and clear away those of the dead. Only while the project's lock is held."""
        _clear(users)
        self.path = _free_name(users)
        # Locked and written before it gets the name that others look for: a file with that name
        # and no lock is a dead user's, always.
        fresh = self.path.with_suffix(".new")
        self._descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.write(self._descriptor, place().encode())
            fresh.replace(self.path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def leave(self) -> None:
        """Give the seat up."""
        if self._descriptor >= 0 and _is_at(self._descriptor, self.path):
            self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close this process's copy of the lock: the one that stays is the parent's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def present(users: Path) -> list[User]:
    """Return the live users, by pid. Raises OSError."""
    found = []
    for path in users.glob("*.lock"):
        pid = path.name.partition(".")[0].partition("-")[0]
        with suppress(FileNotFoundError):
            where = path.read_text(errors="replace")
            if pid.isdecimal() and is_held(path):
                found.append(User(int(pid), where, path))
    return sorted(found)


def send(number: signal.Signals, pid: int, alive: Callable[[], bool]) -> bool:
    """Send a signal to the process that `alive()` speaks of; return whether it was sent.

    On Linux the process is pinned before the question is asked, so a pid that has come round
    again can never be hit; elsewhere only the instant between the answer and the signal is left.
    """
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "linux":
            with suppress(NotImplementedError):
                return _send_pinned(number, pid, alive)
        if alive():
            os.kill(pid, number)
            return True
    return False


def _send_pinned(number: signal.Signals, pid: int, alive: Callable[[], bool]) -> bool:
    assert sys.platform == "linux"
    try:
        pinned = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError as error:  # an old kernel, or a sandbox that does not offer it
        raise NotImplementedError from error
    try:
        if not alive():
            return False
        signal.pidfd_send_signal(pinned, number)
        return True
    finally:
        os.close(pinned)


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


def _clear(users: Path) -> None:
    for path in users.iterdir():
        if not is_held(path):
            path.unlink(missing_ok=True)


def _free_name(users: Path) -> Path:
    # A second seat of this process, or a process of the same number in another container.
    path, count = users / f"{os.getpid()}.lock", 1
    while path.exists():
        count += 1
        path = users / f"{os.getpid()}-{count}.lock"
    return path
