"""The life of a project's private server: check that it runs, start it, talk to it, end it.

`ensure` and `end` change things: their caller holds the project's lock. The server is alive exactly
while `server.lock` is held. It is *ours* when the socket is in a private folder, and the process
that answers there has the run id of our record, or the state folder as its working directory.

It speaks the few commands of the Redis protocol through hiredis alone: the command line asks on
each call whether the server runs, and importing the driver takes longer than the question.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from hiredis import Reader, ReplyError

from fabric.devserver import lock
from fabric.devserver.project import NO_RECORD, Project, Record
from fabric.errors import ServerError

#: Seconds for a server to answer after its start: a few hundredths on an idle machine.
START_SECONDS_MAX = 10.0

#: Seconds for it to read its append-only files: a gigabyte takes about ten.
LOADING_SECONDS_MAX = 120.0

#: Seconds for a server to end after SHUTDOWN, which syncs its file; then again after each signal.
SHUTDOWN_SECONDS_MAX = 10.0

#: Seconds to wait for a lock that others hold only while they check it.
PROBE_SECONDS_MAX = 2.0

#: Seconds for one reply. A healthy server answers in well under a millisecond.
REPLY_SECONDS_MAX = 1.0

#: Bytes of the replies to one `ask`: INFO's section has about 4 kB, CLIENT LIST about 300 a client.
REPLY_BYTES_MAX = 4 * 1024 * 1024


class PrivateServer(NamedTuple):
    """A project's private server that runs."""

    root: Path
    socket: Path
    pid: int
    #: "redis 7.0.15", "valkey 8.0.1".
    version: str
    #: Redis' own random name for this run of the server.
    run_id: str
    #: Milliseconds since 1970; 0 when the record of its start is lost.
    started_ms: int
    #: It is still reading its files, and refuses commands until it has.
    loading: bool

    @property
    def url(self) -> str:
        """The server's URL, as redis-py's `from_url` reads it back."""
        return f"unix://{quote(str(self.socket))}?db=0"


def running(project: Project) -> PrivateServer | None:
    """Return the project's server if it answers on its socket. Changes nothing."""
    try:
        if not project.is_private() or not lock.is_held(project.server_lock):
            return None
    except OSError:
        return None
    record = project.read()
    for path in project.sockets(record):
        health = probe(path)
        if health and _is_ours(project, record, health):
            return _described(project, record, path, health)
    return None


def recorded(project: Project) -> PrivateServer | None:
    """Return the recorded server if it is alive, whether or not it answers."""
    record = project.read()
    if record is None or not lock.is_held(project.server_lock):
        return None
    return _described(project, record, Path(record.socket))


def _described(
    project: Project, record: Record | None, path: Path, health: Health | None = None
) -> PrivateServer:
    noted, seen = record or NO_RECORD, health or Health()
    return PrivateServer(
        root=project.root,
        socket=path,
        pid=seen.pid or noted.pid,
        version=seen.version or noted.version,
        run_id=seen.run_id or noted.run_id,
        started_ms=noted.started_ms,
        loading=seen.loading,
    )


def ensure(project: Project) -> tuple[PrivateServer, bool]:
    """Return the server, ready for commands, and whether this call started it.

    Raises ServerError, with the last lines of its log, when it does not get ready.
    """
    if lock.is_held(project.server_lock):
        with suppress(_EndedError):
            return _wait_ready(project, lambda: lock.is_held(project.server_lock)), False
    return _start(project), True


def end(project: Project) -> bool:
    """End the server, keeping its data; return whether one was alive.

    Sends SHUTDOWN first, then signals if it does not react. Raises ServerError when it lives on.
    """
    if not lock.is_held(project.server_lock):
        return False
    found = running(project)
    if found:
        # It may be ending already, or have stopped listening: only the lock counts.
        with suppress(OSError), closing(Connection(found.socket)) as connection:
            connection.shut_down()
        if _is_gone(project):
            project.forget()
            return True
    record = project.read()
    if record and record.place == lock.host():
        for number in (signal.SIGTERM, signal.SIGKILL):
            sent = lock.send_signal(number, record.pid, lambda: _is_the_server(project, record.pid))
            if sent and _is_gone(project):
                project.forget()
                return True
    pid = record.pid if record else "unknown"
    raise ServerError(
        f"the private server of {project.root} (pid {pid}) neither answers nor ends; "
        f"end the process that holds {project.server_lock} by hand"
    )


def _start(project: Project) -> PrivateServer:
    from fabric.devserver import launch  # costs more to import than a whole `find`

    program, _ = launch.binary(project.state)
    path = project.prepare_socket()
    _clear_socket(project, path)
    # Removed before the start: so a record beside a held lock belongs to the lock's holder.
    project.forget()
    path = project.prepare_socket()
    log_bytes = launch.rotate(project.log)
    with lock.holding(project.server_lock, PROBE_SECONDS_MAX) as descriptor:
        process = launch.launch(program, project.state, path, descriptor)
    try:
        now_ms = time.time_ns() // 1_000_000
        project.write(
            Record(process.pid, str(path), str(program), "", "", now_ms, place=lock.host())
        )
        found = _wait_ready(project, lambda: process.poll() is None)
        launch.note_writer(program, project.state)
    except BaseException as error:
        process.kill()
        process.wait()
        if isinstance(error, ServerError):
            raise ServerError(f"{error}\n{launch.log_tail(project.log, log_bytes)}") from None
        raise
    # It outlives this process on purpose; Popen would warn about that when it is collected.
    process.returncode = 0
    return found


class _EndedError(ServerError):
    """The private server has ended."""


def _wait_ready(project: Project, is_alive: Callable[[], bool]) -> PrivateServer:
    began = time.monotonic()
    limit = START_SECONDS_MAX
    while is_alive():
        found = running(project)
        if found and not found.loading:
            _update_record(project, found)
            return found
        if found:
            limit = LOADING_SECONDS_MAX
        if time.monotonic() - began > limit:
            problem = "is still loading its data" if found else "does not answer"
            raise ServerError(
                f"the private server of {project.root} {problem} after {limit:g} s; "
                f"end it with `fabric down`, or see {project.log}"
            )
        time.sleep(lock.POLL_SECONDS)
    raise _EndedError(
        f"the private server of {project.root} ended while it was starting; the end of "
        f"{project.log} says:"
    )


def _clear_socket(project: Project, path: Path) -> None:
    """Make sure that no server listens on the socket where we are about to start one.

    A server of ours may listen there whose lock file, or whole folder, was deleted. It would write
    to the same files, so we end it. Raises ServerError when another project's server answers.
    """
    health = probe(path)
    if health is None:
        return
    if health.directory and not _is_in(health.directory, project.state):
        raise ServerError(
            f"{path}: the private server of another folder ({health.directory}) answers here; "
            "the folder was moved while it ran: stop that server first, with `fabric down` there"
        )
    with closing(Connection(path)) as connection:
        connection.shut_down()
    if not lock.wait_until(lambda: probe(path) is None, SHUTDOWN_SECONDS_MAX):
        raise ServerError(f"{path}: the server there (pid {health.pid}) does not end")


def _update_record(project: Project, found: PrivateServer) -> None:
    record = project.read() or NO_RECORD._replace(place=lock.host())
    if record.run_id != found.run_id:
        path = str(found.socket)
        project.write(
            record._replace(pid=found.pid, socket=path, version=found.version, run_id=found.run_id)
        )


def _is_ours(project: Project, record: Record | None, health: Health) -> bool:
    if health.busy:  # it cannot identify itself, but nobody else listens in a private folder
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
    return lock.wait_until(lambda: not lock.is_held(project.server_lock), SHUTDOWN_SECONDS_MAX)


def _is_the_server(project: Project, pid: int) -> bool:
    # A child that rewrites the append-only file holds the lock too, and may outlive a server that
    # was killed. So on Linux we also check the working directory of the process.
    if not lock.is_held(project.server_lock):
        return False
    folder = Path(f"/proc/{pid}/cwd")
    return _is_in(str(folder), project.state) if Path("/proc/self/cwd").exists() else True


class Connection:
    """A connection to the server. Its methods raise OSError when the server does not answer."""

    def __init__(self, path: Path) -> None:
        self._reader = Reader(ConnectionError, encoding="utf-8", errors="surrogateescape")
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(REPLY_SECONDS_MAX)
            self._socket.connect(os.fsencode(path))
        except BaseException:
            self._socket.close()
            raise

    def ask(self, *commands: str) -> list[Any]:
        """Send commands, each as one would type it, in one write; return a reply to each."""
        self._socket.sendall("".join(f"{one}\r\n" for one in commands).encode())
        replies: list[Any] = []
        size = 0
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is not False:  # complete
                replies.append(reply)
                continue
            data = self._socket.recv(65_536)
            size += len(data)
            if not data or size > REPLY_BYTES_MAX:
                raise ConnectionError("the server closed the connection, or says too much")
            self._reader.feed(data)
        return replies

    def shut_down(self) -> bool:
        """Tell the server to end; return whether it hangs up within `REPLY_SECONDS_MAX`.

        It answers only if it refuses. With NOSAVE it obeys even while a script runs that never
        ends. It still syncs the append-only file.
        """
        self._socket.sendall(b"SHUTDOWN NOSAVE\r\n")
        try:
            return self._socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Health(NamedTuple):
    """What a server says about itself."""

    #: It is reading its append-only file and takes no commands yet.
    loading: bool = False
    #: A script keeps it busy, so it tells nothing more (the fields below are empty).
    busy: bool = False
    run_id: str = ""
    pid: int = 0
    version: str = ""
    #: Its working directory, as the kernel names it now; empty when that has been deleted.
    directory: str = ""


def probe(path: Path) -> Health | None:
    """Ask the server behind this socket about itself; None when nothing answers as Redis does."""
    try:
        with closing(Connection(path)) as connection:
            ping, info, directory = connection.ask("PING", "INFO server", "CONFIG GET dir")
    except OSError:
        return None
    code = str(ping).partition(" ")[0] if isinstance(ping, ReplyError) else ""
    if ping != "PONG" and not code:  # any error is a server's too: MISCONF when the disk is full
        return None
    rows = info.splitlines() if isinstance(info, str) else []
    facts = dict(row.split(":", 1) for row in rows if ":" in row)
    valkey = facts.get("valkey_version")
    pid = facts.get("process_id", "")
    return Health(
        loading=code == "LOADING",
        busy=code == "BUSY",
        run_id=facts.get("run_id", ""),
        pid=int(pid) if pid.isdecimal() else 0,
        version=f"valkey {valkey}" if valkey else f"redis {facts.get('redis_version', '')}".strip(),
        directory=str(directory[1]) if isinstance(directory, list) and len(directory) == 2 else "",
    )
