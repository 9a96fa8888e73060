"""The life of a project's private server: is it running, see that it runs, end it.

`ensure` and `end` change things: the caller holds the project's lock. The server is alive exactly
while `server.lock` is held; it is *ours* when the socket in a private folder is answered by the
run that was recorded, or by one whose working directory is the state folder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from fabric.devserver import presence
from fabric.devserver.probe import Health, Line, examine
from fabric.devserver.project import Project, Record
from fabric.errors import ServerError

#: Seconds for a server to answer after its start: it takes a few hundredths on an idle machine.
START_SECONDS_MAX = 10.0

#: Seconds for it to read its append-only files: a gigabyte takes about ten.
LOADING_SECONDS_MAX = 120.0

#: Seconds for a server to end after SHUTDOWN, which syncs its file; then again after each signal.
SHUTDOWN_SECONDS_MAX = 10.0

#: Seconds for a lock that others hold only while they look at it.
GLANCE_SECONDS_MAX = 2.0


class EmbeddedServer(NamedTuple):
    """A project's private server that runs."""

    root: Path
    socket: Path
    pid: int
    #: The program's path; empty when the record of its start is lost.
    binary: str
    #: "redis 7.0.15", "valkey 8.0.1".
    version: str
    #: Milliseconds since 1970; 0 when the record of its start is lost.
    started_ms: int
    #: It still reads its files, and refuses commands until it has.
    loading: bool

    @property
    def url(self) -> str:
        """The server's URL, as redis-py's `from_url` reads it back."""
        return f"unix://{quote(str(self.socket))}?db=0"


def running(project: Project) -> EmbeddedServer | None:
    """Return the project's server when it answers on its socket, or None. Changes nothing."""
    try:
        if not project.is_private() or not presence.is_held(project.server_lock):
            return None
    except OSError:
        return None
    record = project.read()
    for path in project.sockets(record):
        health = examine(path)
        if health and _is_ours(project, record, health):
            return _describe(project, record, path, health)
    return None


def recorded(project: Project) -> EmbeddedServer | None:
    """Return what was written down of a server that is alive, whether it answers or not."""
    record = project.read()
    if record is None or not presence.is_held(project.server_lock):
        return None
    return EmbeddedServer(
        root=project.root,
        socket=Path(record.socket),
        pid=record.pid,
        binary=record.binary,
        version=record.version,
        started_ms=record.started_ms,
        loading=False,
    )


def ensure(project: Project) -> tuple[EmbeddedServer, bool]:
    """Return the server, ready for commands, and whether this call has started it.

    Raises ServerError, with the last lines of its log, when it does not get ready.
    """
    if presence.is_held(project.server_lock):
        with suppress(_EndedError):
            found = _wait(project, lambda: presence.is_held(project.server_lock))
            _write_down(project, found)
            return found, False
    return _start(project), True


def end(project: Project) -> bool:
    """End the server, keeping its data; return whether one was alive.

    Asked first with SHUTDOWN, then with signals when it does not listen. Raises ServerError when
    it lives on.
    """
    if not presence.is_held(project.server_lock):
        return False
    found = running(project)
    if found:
        # It may be ending already, or have stopped listening: what counts is the lock.
        with suppress(OSError), Line(found.socket) as line:
            line.end_server()
            line.hear_end()
        if _is_gone(project):
            project.forget()
            return True
    record = project.read()
    if record and record.place == presence.place():
        for number in (signal.SIGTERM, signal.SIGKILL):
            sent = presence.send(number, record.pid, lambda: _is_the_server(project, record.pid))
            if sent and _is_gone(project):
                project.forget()
                return True
    pid = record.pid if record else "unknown"
    raise ServerError(
        f"the private server of {project.root} (pid {pid}) neither answers nor ends; "
        f"end the process that holds {project.server_lock} by hand"
    )


def _start(project: Project) -> EmbeddedServer:
    from fabric.devserver import launch  # costs more to import than a whole `find`

    program, _ = launch.binary()
    launch.check_data(program, project.state)
    socket = project.prepare_socket()
    _vacate(project, socket)
    # Removed before the start: a record beside a held lock is that of the lock's holder.
    project.forget()
    socket = project.prepare_socket()
    log_bytes = launch.rotate(project.log)
    lock = presence.take(project.server_lock, GLANCE_SECONDS_MAX)
    try:
        process = launch.launch(program, project.state, socket, lock)
    finally:
        os.close(lock)
    try:
        project.write(
            Record(
                pid=process.pid,
                socket=str(socket),
                binary=str(program),
                version="",
                run_id="",
                started_ms=time.time_ns() // 1_000_000,
                place=presence.place(),
            )
        )
        found = _wait(project, lambda: process.poll() is None)
        _write_down(project, found)
    except BaseException as error:
        process.kill()
        process.wait()
        if isinstance(error, ServerError):
            raise ServerError(f"{error}\n{launch.last_words(project.log, log_bytes)}") from None
        raise
    # It outlives this process on purpose; Popen would warn of that when it is collected.
    process.returncode = 0
    return found


class _EndedError(ServerError):
    """The private server has ended."""


def _wait(project: Project, is_alive: Callable[[], bool]) -> EmbeddedServer:
    began = time.monotonic()
    limit = START_SECONDS_MAX
    while is_alive():
        found = running(project)
        if found and not found.loading:
            return found
        if found:
            limit = LOADING_SECONDS_MAX
        if time.monotonic() - began > limit:
            doing = "is still loading its data" if found else "does not answer"
            raise ServerError(
                f"the private server of {project.root} {doing} after {limit:g} s; "
                f"end it with `fabric down`, or see {project.log}"
            )
        time.sleep(presence.POLL_SECONDS)
    raise _EndedError(
        f"the private server of {project.root} ended while it was starting; the end of "
        f"{project.log} says:"
    )


def _vacate(project: Project, socket: Path) -> None:
    """See that nobody listens where a server is about to be started.

    A server there whose lock file, or whole folder, has been deleted is one of ours and would
    write to the same files: it is ended. Raises ServerError when another project's answers.
    """
    health = examine(socket)
    if health is None:
        return
    if health.directory and not _is_in(health.directory, project.state):
        raise ServerError(
            f"{socket}: answered by the private server of another folder ({health.directory}), "
            "which was moved while it ran; stop that one first, with `fabric down` there"
        )
    with Line(socket) as line:
        line.end_server()
        line.hear_end()
    if not presence.wait_until(lambda: examine(socket) is None, SHUTDOWN_SECONDS_MAX):
        raise ServerError(f"{socket}: the server there (pid {health.pid}) does not end")


def _write_down(project: Project, found: EmbeddedServer) -> None:
    record = project.read()
    health = examine(found.socket)
    if health is None or not health.run_id or (record and record.run_id == health.run_id):
        return
    project.write(
        Record(
            pid=health.pid,
            socket=str(found.socket),
            binary=found.binary,
            version=health.version,
            run_id=health.run_id,
            started_ms=found.started_ms,
            place=record.place if record else presence.place(),
        )
    )


def _describe(
    project: Project, record: Record | None, socket: Path, health: Health
) -> EmbeddedServer:
    return EmbeddedServer(
        root=project.root,
        socket=socket,
        pid=health.pid or (record.pid if record else 0),
        binary=record.binary if record else "",
        version=health.version or (record.version if record else ""),
        started_ms=record.started_ms if record else 0,
        loading=health.loading,
    )


def _is_ours(project: Project, record: Record | None, health: Health) -> bool:
    if health.busy:  # it cannot say who it is; who else would listen in a private folder
        return record is not None
    if record and record.run_id and record.run_id == health.run_id:
        return True
    return _is_in(health.directory, project.state)


def _is_in(directory: str, state: Path) -> bool:
    try:
        return bool(directory) and state.samefile(directory)
    except OSError:
        return False


def _is_gone(project: Project) -> bool:
    return presence.wait_until(
        lambda: not presence.is_held(project.server_lock), SHUTDOWN_SECONDS_MAX
    )


def _is_the_server(project: Project, pid: int) -> bool:
    # The lock is also held by a child that rewrites the append-only file, and that may outlive a
    # server that was killed: on Linux the process is looked at too.
    if not presence.is_held(project.server_lock):
        return False
    folder = Path(f"/proc/{pid}/cwd")
    return _is_in(str(folder), project.state) if Path("/proc/self/cwd").exists() else True
