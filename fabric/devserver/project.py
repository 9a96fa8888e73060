"""The folder and the files of a project's private server.

A project is the nearest folder, going up, that holds one of `MARKERS`. Its state is in `.fabric/`:

    lock          flock: held while a server is being started or stopped
    server.lock   flock: held by the server process itself, for exactly as long as it lives
    server.json   the record of the server that was started last
    users/        one locked file per process that uses the server
    redis.sock    the server's socket, unless its path would be too long for one
    redis.log     the server's log; the append-only files are beside it

Anyone who can write here can send commands to the server. So we refuse a folder that belongs to
another user or that other users can enter.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import NamedTuple

from fabric.errors import NotAllowedError

#: Names that mark a folder as a project. The nearest folder that holds any of them counts.
MARKERS = ("fabric.toml", ".fabric", ".git")

#: Bytes of a socket's path. The kernels allow 107 (Linux) and 103 (macOS): this leaves room.
SOCKET_BYTES_MAX = 100

_ELSEWHERE = "or set FABRIC_REDIS_URL to a server of your own"


def project_root(start: Path | None = None) -> Path:
    """Return the nearest folder at or above `start` that holds one of `MARKERS`, or else `start`.

    `start` defaults to the working directory.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if any(os.path.lexists(folder / marker) for marker in MARKERS):
            return folder
    return here


class Record(NamedTuple):
    """The server that was started last, as server.json keeps it. It may have died since."""

    pid: int
    socket: str
    binary: str
    #: "redis 7.0.15", "valkey 8.0.1"; empty until the server has answered.
    version: str
    #: Redis' own random name for this run of the server; empty until the server has answered.
    run_id: str
    #: Milliseconds since 1970.
    started_ms: int
    #: Where the pid is valid (`lock.host`).
    place: str


NO_RECORD = Record(0, "", "", "", "", 0, "")


class Project:
    """The files of one project's private server."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or project_root()).resolve()
        self.state = self.root / ".fabric"
        self.lock = self.state / "lock"
        self.server_lock = self.state / "server.lock"
        self.users = self.state / "users"
        self.log = self.state / "redis.log"
        self._record = self.state / "server.json"

    def is_private(self) -> bool:
        """Whether the state folder exists and no other user can enter it. Changes nothing."""
        return _is_private(self.state, follow=True)

    def prepare(self) -> None:
        """Create the state folder, or make an existing one private.

        Raises NotAllowedError when it cannot be written or made private.
        """
        _make_private(self.state, follow=True)
        try:
            self.users.mkdir(mode=0o700, exist_ok=True)
            ignore = self.state / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise _unwritable(self.state, error) from error

    def socket(self) -> Path:
        """Return where a server started now would listen."""
        beside = self.state / "redis.sock"
        if _fits(beside):
            return beside
        # Imported only when needed: few projects need it, and every command would pay for it.
        import tempfile
        from hashlib import sha256

        name = sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"fabric-{os.geteuid()}-{name}" / "redis.sock"

    def prepare_socket(self) -> Path:
        """Create the folder of `socket()` if it is not the state folder; return the socket's path.

        Anyone can guess the folder's name and write to the temp folder, so a folder that another
        user created there is refused. Raises NotAllowedError.
        """
        path = self.socket()
        if path.parent != self.state:
            if not _fits(path):
                raise NotAllowedError(
                    f"{path}: over {SOCKET_BYTES_MAX} bytes, too long for a socket; set TMPDIR to "
                    f"a folder with a shorter name, {_ELSEWHERE}"
                )
            _make_private(path.parent, follow=False)
        return path

    def sockets(self, record: Record | None) -> list[Path]:
        """Return where the running server may be listening, the most likely place first.

        That is the recorded socket; if the record is lost or the project was moved, the one that a
        server started now would use.
        """
        recorded = [Path(record.socket)] if record else []
        paths = dict.fromkeys([*recorded, self.socket()])
        return [p for p in paths if p.parent == self.state or _is_private(p.parent, follow=False)]

    def read(self) -> Record | None:
        """Return the record of the last server; None when it is missing or not readable."""
        try:
            record = Record(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        pairs = zip(record, NO_RECORD, strict=True)
        return record if all(isinstance(value, type(empty)) for value, empty in pairs) else None

    def write(self, record: Record) -> None:
        """Replace the record atomically. Needs `lock`."""
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps(record._asdict(), indent=2) + "\n")
        fresh.replace(self._record)

    def forget(self) -> None:
        """Remove the record, and the socket that a server left behind. Needs `lock`."""
        self._record.unlink(missing_ok=True)
        # Not the recorded socket: in a copy of a project, that belongs to the original.
        path = self.socket()
        if path.parent == self.state or _is_private(path.parent, follow=False):
            path.unlink(missing_ok=True)
            if path.parent != self.state:
                path.parent.rmdir()


def _fits(socket: Path) -> bool:
    # redis-py cannot read a path that is not UTF-8 back from a URL.
    try:
        return len(str(socket).encode()) <= SOCKET_BYTES_MAX
    except UnicodeEncodeError:
        return False


def _is_private(folder: Path, *, follow: bool) -> bool:
    try:
        found = folder.stat(follow_symlinks=follow)
    except OSError:
        return False
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return mine and not found.st_mode & 0o077


def _make_private(folder: Path, *, follow: bool) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat(follow_symlinks=follow)
        if not stat.S_ISDIR(found.st_mode):
            raise NotAllowedError(f"{folder}: not a folder; move it away, {_ELSEWHERE}")
        if found.st_uid != os.geteuid():
            raise NotAllowedError(
                f"{folder}: belongs to another user (uid {found.st_uid}); have its owner remove "
                f"it, {_ELSEWHERE}"
            )
        if found.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise _unwritable(folder, error) from error
    # Some file systems accept a chmod and ignore it.
    if not _is_private(folder, follow=follow):
        raise NotAllowedError(
            f"{folder}: other users can enter it, and its mode cannot be changed; move the "
            f"project to another file system, {_ELSEWHERE}"
        )


def _unwritable(folder: Path, error: OSError) -> NotAllowedError:
    return NotAllowedError(
        f"{folder}: the private server cannot keep its files there ({error.strerror}); "
        f"use a project that you can write to, {_ELSEWHERE}"
    )
