"""The private server of a project: a Redis on the developer's machine, shared by `up` and `demo`.

`acquire` starts the server, or joins the one that runs; the last process to `release` shuts it
down. A file lock serialises starts and stops. File locks also say who uses the server and whether
it lives, because the kernel drops a lock when its holder dies:

- The server inherits the lock on `server.lock` and holds it until it ends. While any process holds
  that lock, no second server starts on the same files, whatever became of the socket or the record.
- Each user holds the lock on a file in `users/`. A user killed with SIGKILL leaves the server
  running: the next `acquire` joins it, and it ends when that user leaves, or with `stop`.
- We signal a pid only while the lock of that process is seen to be held.

The append-only files stay, so the next start has the data. `find` takes a few milliseconds and
imports no driver, because the command line calls it every time.

`project.py` says which project a folder is in, and has the files of its server; `repository.py`
reads git's files; `takeover.py` moves data out of a checkout. `lock.py` has the locks, `server.py`
the life of the server and its protocol, `launch.py` the choice of a program and its options,
`build.py` what is known of each version of the servers.
"""

from __future__ import annotations

import errno
import os
import signal
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from fabric.devserver import lock, repository, server
from fabric.devserver.lock import UserLock
from fabric.devserver.project import Project, locate, nearest, served_below, serving
from fabric.devserver.remote import joined
from fabric.devserver.server import Connection, PrivateServer
from fabric.errors import ConfigError, NotAllowedError, ServerError

#: Seconds that `stop` gives the users to drain and leave. Workers finish a batch within a few.
LEAVE_SECONDS_MAX = 30.0

#: Seconds to wait for another start or stop of the same server: longer than the slowest of them.
LOCK_SECONDS_MAX = server.LOADING_SECONDS_MAX + 3 * server.SHUTDOWN_SECONDS_MAX

#: Prefix of the name that each user's connection has in CLIENT LIST; the user's pid follows.
CLIENT_NAME = "fabric-user-"


class StopReport(NamedTuple):
    """What `stop` did."""

    #: The server that was stopped; None when none ran, or when it was left running.
    server: PrivateServer | None
    #: Pids of the users that have left.
    left: tuple[int, ...]
    #: Pids of the users that have not: out of reach, out of time, or new since the call.
    remaining: tuple[int, ...]


class _Url(Protocol):
    """A URL that is not shown."""

    @property
    def value(self) -> str:
        """The URL."""


class NamesServer(Protocol):
    """Settings, which may name a server."""

    @property
    def redis_url(self) -> _Url | None:
        """The server's URL."""


def server_url(settings: NamesServer, start: Path | None = None) -> str | None:
    """Return the URL in the settings, else the one that the project has joined, else its own.

    Its own is the private server, if that runs. The project is the one around `start`, by default
    the working directory.
    """
    if settings.redis_url is not None:
        return settings.redis_url.value
    try:
        if known := joined(start):
            return known
    except OSError:  # the working directory is gone
        pass
    found = find(start)
    return found.url if found is not None else None


def require_server_url(settings: NamesServer) -> str:
    """Return the same URL. Raises ConfigError when there is none."""
    url = server_url(settings)
    if url is None:
        raise ConfigError(f"no server: {advice()}")
    return url


#: The advice where no server is near.
START = "set FABRIC_REDIS_URL, or start the project's own with `fabric up`"


def advice() -> str:
    """Return what to do without a server: never to start one beside another."""
    try:
        place = serving()
        if place is not None:
            return (
                f"the private server of {place.root} runs, but does not answer; wait, or end it "
                "with `fabric down`"
            )
        if (moved := repository.strayed(Path.cwd())) is not None:
            return f"this worktree was moved: run `git worktree repair` in {moved}, then try again"
        below = served_below(nearest().top)
    except OSError:  # the working directory is gone
        below = []
    if below:
        return f"a private server runs for {below[0]}: work in that folder, or set FABRIC_REDIS_URL"
    return START


def binary() -> tuple[Path, str]:
    """Return the server binary that `acquire` would start, and its origin: "PATH" or a package.

    Raises ServerError, saying how to install one, when there is none.
    """
    from fabric.devserver import launch  # costs more to import than a whole `find`

    try:
        state = Project(nearest().root).state
    except OSError:  # the working directory is gone
        state = None
    return launch.binary(state)


def find(start: Path | None = None) -> PrivateServer | None:
    """Return the running server of the project around `start` (default: the working directory).

    A server that runs for a folder above, or for the main worktree, is the project's too. None when
    no server answers, or when other users can enter its folder. Never raises, starts or changes
    anything.
    """
    try:
        place = serving(start)
        return None if place is None else server.running(Project(place.root))
    except OSError:  # the working directory is gone, or there is no temp folder
        return None


def users(root: Path | None = None) -> list[int]:
    """Return the pids of the live processes that use the project's server, ascending."""
    project = Project(root or locate().root)
    if not project.is_private():
        return []
    return sorted({user.pid for user in lock.live_users(project.users)})


def acquire(root: Path | None = None) -> ServerUse:
    """Start the private server of the project at `root`, or join it, and count as its user.

    `root` defaults to the project around the working directory. Blocks until the server takes
    commands. Raises NotAllowedError when the state folder cannot be made or is not private, or when
    the checkout has data that nobody should load (`takeover.py`); ServerError when there is no
    server to start or it does not get ready; HeldError when another process has been starting or
    stopping it for longer than `LOCK_SECONDS_MAX`.
    """
    project = Project(root or locate().root)
    project.prepare()
    from fabric.devserver.takeover import take_over  # costs more to import than a whole `find`

    with _locked(project):
        take_over(project)
        user_lock = UserLock(project.users)
        try:
            found, is_child = server.ensure(project)
            return ServerUse(project, user_lock, found, is_child=is_child)
        except BaseException:
            user_lock.release()
            raise


class ServerUse(AbstractContextManager["ServerUse"]):
    """This process's use of the server, until `release`. A context manager; made by `acquire`."""

    def __init__(
        self, project: Project, user_lock: UserLock, found: PrivateServer, *, is_child: bool
    ) -> None:
        self._project = project
        self._user_lock = user_lock
        self._owner = os.getpid()
        self._is_released = False
        self._adopt(found, is_child=is_child)
        _uses.add(self)

    def _adopt(self, found: PrivateServer, *, is_child: bool) -> None:
        self.server = found
        self._is_child = is_child
        self._server_lock = self._project.server_lock.stat()
        # Kept open: if the folder is deleted, this connection is the only way to the server.
        try:
            self._connection = Connection(found.socket)
            self._connection.ask(f"CLIENT SETNAME {CLIENT_NAME}{self._owner}")
        except OSError as error:
            reason = f"the private server (pid {found.pid}) ended as soon as it ran ({error})"
            raise ServerError(f"{reason}; its log: {self._project.log}") from error

    @property
    def url(self) -> str:
        """The server's URL: `unix://…?db=0`, percent-encoded as redis-py's `from_url` reads it."""
        return self.server.url

    def __exit__(self, *_: object) -> None:
        self.release()

    def keep(self) -> PrivateServer | None:
        """Start the server again if it has ended, or use the one that another user has started.

        Return that server; None when ours runs on, or when its folder was deleted. Blocks and
        raises as `acquire` does.
        """
        if self._is_released or self._is_orphaned() or not self._has_ended():
            return None
        with _locked(self._project):
            found, is_child = server.ensure(self._project)
        if self._is_child:
            self._reap(os.WNOHANG)
        self._connection.close()
        self._adopt(found, is_child=is_child)
        return found

    def _has_ended(self) -> bool:
        if not lock.is_held(self._project.server_lock):
            return True
        record = self._project.read()
        return bool(record and record.run_id and record.run_id != self.server.run_id)

    def release(self) -> bool:
        """Stop using the server; shut it down and return True when nobody else uses it.

        A second call does nothing, nor does one in a forked child. Raises ServerError when the
        server does not end, HeldError as `acquire` does; this process is no user any more even so.
        """
        if self._is_released or os.getpid() != self._owner:
            return False
        self._is_released = True
        try:
            if self._is_orphaned():
                has_ended = self._end_orphaned()
            else:
                with _locked(self._project):
                    self._user_lock.release()
                    is_last = not lock.live_users(self._project.users)
                    has_ended = is_last and server.end(self._project)
        finally:
            self._close()
        if self._is_child:
            self._reap(0 if has_ended else os.WNOHANG)
        return has_ended

    def _reap(self, options: int) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self.server.pid, options)

    def leave(self) -> None:
        """Stop using the server but leave it running for inspection; `stop` ends it."""
        if not self._is_released and os.getpid() == self._owner:
            self._is_released = True
            self._user_lock.release()
            self._close()

    def _is_orphaned(self) -> bool:
        # The state folder was deleted while the server ran (`git clean -fdx` does that).
        try:
            return not os.path.samestat(self._server_lock, self._project.server_lock.stat())
        except OSError:
            return True

    def _end_orphaned(self) -> bool:
        # The users' files are gone with the folder, but the server knows who is connected. Each
        # user removes its own name first, so of two that leave at once the later sees no other.
        with suppress(OSError):
            _, clients = self._connection.ask('CLIENT SETNAME ""', "CLIENT LIST")
            if f" name={CLIENT_NAME}" not in str(clients):
                return self._connection.shut_down()
        return False

    def _close(self) -> None:
        self._user_lock.close()
        self._connection.close()


def stop(root: Path | None = None) -> StopReport:
    """Ask all users of the project's server to leave, then shut it down.

    Users get SIGTERM, drain, and have `LEAVE_SECONDS_MAX` for it. Then the server ends whether or
    not they have left; it is left running only for users that came after the call. Raises
    ServerError when it does not end, HeldError as `acquire` does, NotAllowedError when the folder
    is not private.
    """
    project = Project(root or locate().root)
    if not project.state.exists():
        return StopReport(server=None, left=(), remaining=())
    project.prepare()
    here = lock.host()
    before = server.running(project) or server.recorded(project)
    users = lock.live_users(project.users)
    others = [user for user in users if (user.pid, user.host) != (os.getpid(), here)]
    asked = [
        user
        for user in others
        if user.host == here and lock.send_signal(signal.SIGTERM, user.pid, user.is_live)
    ]
    lock.wait_until(lambda: not any(user.is_live() for user in asked), LEAVE_SECONDS_MAX)
    with _locked(project):
        now = lock.live_users(project.users)
        known = {user.path for user in others}
        if all(user.path in known or user.pid == os.getpid() for user in now):
            server.end(project)
        is_alive = lock.is_held(project.server_lock)
    live = {user.path for user in now}
    return StopReport(
        server=None if is_alive else before,
        left=tuple(user.pid for user in others if user.path not in live),
        remaining=tuple(user.pid for user in now if user.pid != os.getpid()),
    )


@contextmanager
def _locked(project: Project) -> Iterator[None]:
    try:
        with lock.holding(project.lock, LOCK_SECONDS_MAX):
            yield
    except OSError as error:
        is_refused = isinstance(error, PermissionError) or error.errno == errno.EROFS
        kind = NotAllowedError if is_refused else ServerError
        raise kind(f"{project.state}: the private server cannot work there ({error})") from error


_uses: weakref.WeakSet[ServerUse] = weakref.WeakSet()


def _close_in_child() -> None:
    # A forked child shares the lock, which would make a killed parent look alive.
    for use in list(_uses):
        use._close()


os.register_at_fork(after_in_child=_close_in_child)
