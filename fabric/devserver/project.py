"""Which project a folder is in, and the folder and files of that project's private server.

This is the one answer to both. A project is the nearest folder, going up, that is the top of a git
repository or holds one of `MARKERS`. A worktree belongs to the project of its main worktree, a
submodule to the repository around it. A server that already runs further up, or for the main
worktree, serves everything below: nobody starts a second one beside it.

The server's state is not in the checkout, because anybody can put files there, and a server obeys
the commands in its append-only file. It is in `$XDG_STATE_HOME/fabric/NAME-HASH/`, both from the
project's path:

    project.json  the project's path, and an id of its own
    lock          flock: held while a server is being started or stopped
    server.lock   flock: held by the server process itself, for exactly as long as it lives
    server.json   the record of the server that was started last
    users/        one locked file per process that uses the server
    trusted/      what the user allows the project's fabric.toml (fabric/config/trust.py)
    redis.sock    the server's socket, unless its path would be too long for one
    redis.log     the server's log; the append-only files are beside it

Anyone who can write here can send commands to the server. So we refuse a folder that belongs to
another user or that other users can enter. `.fabric/` in the checkout holds only a pointer to it.
The pointer is a hint: it finds the state of a project that was moved, if the id is right and
nothing is left at the old path.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fabric.devserver import lock, repository
from fabric.errors import NotAllowedError

#: Names that mark a folder as a project, as the top of a worktree does.
MARKERS = ("fabric.toml", ".fabric")

#: Bytes of a socket's path. The kernels allow 107 (Linux) and 103 (macOS): this leaves room.
SOCKET_BYTES_MAX = 100

#: Characters of a project's name in the name of its state folder: a socket's path must stay short.
NAME_CHARS_MAX = 16

#: Bytes of a file that we read back: a path and some words.
FILE_BYTES_MAX = 65_536

_ELSEWHERE = "or set FABRIC_REDIS_URL to a server of your own"


class Place(NamedTuple):
    """A folder on the way up, and the project that it stands for."""

    folder: Path
    #: The project's root, the same in all worktrees of a repository.
    root: Path
    #: The copy of the project's files that the caller is in. Names of files begin here.
    top: Path
    #: Whether the folder is a project by itself.
    is_marked: bool = False


def places(start: Path | None = None) -> Iterator[Place]:
    """Yield the folders from `start` up, nearest first; from a worktree also the main one's.

    `start` defaults to the working directory. Raises OSError when that is gone.
    """
    yield from _way_up((start or Path.cwd()).resolve(), set())


def _way_up(start: Path, seen: set[Path]) -> Iterator[Place]:
    within: list[Path] = []
    for folder in (start, *start.parents):
        within.append(folder)
        tree = repository.at(folder)
        if tree is not None:
            yield from _marked(within, tree)
            within.clear()
            if tree.home not in {folder, *folder.parents, *seen}:
                seen.add(tree.home)
                yield from (one._replace(top=folder) for one in _way_up(tree.home, seen))
    yield from _marked(within, None)


def _marked(folders: list[Path], tree: repository.Worktree | None) -> Iterator[Place]:
    for folder in folders:
        is_marked = any(os.path.lexists(f"{folder}/{marker}") for marker in MARKERS)
        if tree is None:
            yield Place(folder, folder, folder, is_marked)
        else:
            is_marked |= folder == tree.top
            yield Place(folder, tree.home / folder.relative_to(tree.top), tree.top, is_marked)


def nearest(start: Path | None = None) -> Place:
    """Return the project around `start`, whether or not its server runs.

    It is the nearest folder that is marked, else `start` itself. Raises OSError as `places` does.
    """
    found = [*places(start)]
    return next((place for place in found if place.is_marked), found[0])


def serving(start: Path | None = None) -> Place | None:
    """Return the nearest project around `start` whose private server lives, answering or not."""
    return next((place for place in places(start) if is_served(place.root)), None)


def locate(start: Path | None = None) -> Place:
    """Return the project that `start` is in: the one whose server lives, else the nearest."""
    return serving(start) or nearest(start)


def served_below(folder: Path) -> list[Path]:
    """Return the roots of the projects below a folder whose private servers live."""
    owners = (_read(path) for path in state_home().glob("*/project.json"))
    roots = sorted(Path(str(owner.get("root"))) for owner in owners)
    return [root for root in roots if folder in root.parents and is_served(root)]


def is_served(root: Path) -> bool:
    """Return whether the private server of the project at `root` lives."""
    # Each command asks for each folder on its way up: most have nothing of ours.
    kept = f"{state_home()}/{_state_name(root)}", f"{root}/.fabric/project.json"
    if not any(map(os.path.lexists, kept)):
        return False
    project = Project(root)
    try:
        return project.is_private() and lock.is_held(project.server_lock)
    except OSError:
        return False


def state_home() -> Path:
    """Return the folder of all projects' state."""
    named = os.environ.get("XDG_STATE_HOME", "")
    # "All paths must be absolute; a relative one is to be ignored" (XDG base directories).
    home = Path(named) if named.startswith("/") else user_home() / ".local" / "state"
    return home / "fabric"


def user_home() -> Path:
    """Return the user's home folder; `/` if there is none, as for a container's unknown user."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


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

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        #: The folder in the checkout, with the pointer.
        self.checkout = self.root / ".fabric"
        self._named = state_home() / _state_name(self.root)
        self._at(self._named if os.path.lexists(self._named) else self._moved() or self._named)

    def _at(self, state: Path) -> None:
        self.state = state
        self.lock = state / "lock"
        self.server_lock = state / "server.lock"
        self.users = state / "users"
        self.trusted = state / "trusted"
        self.log = state / "redis.log"
        self._record = state / "server.json"

    def _moved(self) -> Path | None:
        """Return the state of the project that was moved here, if the pointer names it."""
        hint = _read(self.checkout / "project.json")
        state = Path(str(hint.get("state")))
        if state.parent != state_home() or not _is_private(state):
            return None
        owner = _read(state / "project.json")
        is_same = bool(owner.get("id")) and owner.get("id") == hint.get("id")
        return state if is_same and not os.path.lexists(str(owner.get("root"))) else None

    def is_private(self) -> bool:
        """Whether the state folder exists and no other user can enter it. Changes nothing."""
        return _is_private(self.state)

    def prepare(self) -> None:
        """Create the state folder, or make an existing one private; leave a pointer to it.

        Raises NotAllowedError when it cannot be written or made private.
        """
        home = state_home()
        try:
            home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(home, error) from error
        _make_private(home)
        try:
            if self.state != self._named:
                self._at(self.state.rename(self._named))
            _make_private(self.state)
            self.users.mkdir(mode=0o700, exist_ok=True)
            owner = _read(self.state / "project.json")
            if owner.get("root") != str(self.root) or not owner.get("id"):
                owner = {"root": str(self.root), "id": owner.get("id") or os.urandom(16).hex()}
                _write(self.state / "project.json", owner)
        except OSError as error:
            raise _unwritable(self.state, error) from error
        with suppress(OSError):  # a checkout that cannot be written to has no pointer
            self._point(str(owner["id"]))

    def _point(self, project_id: str) -> None:
        if repository.is_git_folder(self.root):  # a bare repository has no files of its own
            return
        self.checkout.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(self.checkout):  # one that came with the checkout
            return
        pointer, ignore = self.checkout / "project.json", self.checkout / ".gitignore"
        hint = {"id": project_id, "state": str(self.state)}
        if not os.path.lexists(ignore):
            ignore.write_text("*\n")
        if _read(pointer) != hint:
            _write(pointer, hint)

    def socket(self) -> Path:
        """Return where a server started now would listen."""
        beside = self.state / "redis.sock"
        if _fits(beside):
            return beside
        # Imported only when needed: few projects need it, and every command would pay for it.
        import tempfile

        name = _digest(os.fsencode(self.state))
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
            _make_private(path.parent)
        return path

    def sockets(self, record: Record | None) -> list[Path]:
        """Return where the running server may be listening, the most likely place first.

        That is the recorded socket; if the record is lost or the project was moved, the one that a
        server started now would use.
        """
        recorded = [Path(record.socket)] if record else []
        paths = dict.fromkeys([*recorded, self.socket()])
        return [p for p in paths if p.parent == self.state or _is_private(p.parent)]

    def read(self) -> Record | None:
        """Return the record of the last server; None when it is missing or not readable."""
        try:
            record = Record(**_read(self._record))
        except TypeError:
            return None
        pairs = zip(record, NO_RECORD, strict=True)
        return record if all(isinstance(value, type(empty)) for value, empty in pairs) else None

    def write(self, record: Record) -> None:
        """Replace the record atomically. Needs `lock`."""
        _write(self._record, record._asdict())

    def forget(self) -> None:
        """Remove the record, and the socket that a server left behind. Needs `lock`."""
        self._record.unlink(missing_ok=True)
        # Not the recorded socket: in a copy of a project, that belongs to the original.
        path = self.socket()
        if path.parent == self.state or _is_private(path.parent):
            path.unlink(missing_ok=True)
            if path.parent != self.state:
                path.parent.rmdir()


def _fits(socket: Path) -> bool:
    # redis-py cannot read a path that is not UTF-8 back from a URL.
    try:
        return len(str(socket).encode()) <= SOCKET_BYTES_MAX
    except UnicodeEncodeError:
        return False


def _state_name(root: Path) -> str:
    plain = "".join(one if one.isascii() and one.isalnum() else "-" for one in root.name)
    return f"{plain[:NAME_CHARS_MAX] or 'root'}-{_digest(os.fsencode(root))}"


def _digest(path: bytes) -> str:
    # Imported late: it takes longer than all else here, and `fabric --help` does without it.
    from hashlib import sha256

    return sha256(path).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    """Return what a JSON file of ours holds; nothing when it is missing, not ours or not right."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            found = json.loads(stream.read(FILE_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, values: dict[str, Any]) -> None:
    """Replace a JSON file atomically, through no link."""
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(json.dumps(values, indent=2) + "\n")
    fresh.replace(path)


def _is_private(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return mine and not found.st_mode & 0o077


def _make_private(folder: Path) -> None:
    try:
        if not os.path.lexists(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
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
    if not _is_private(folder):
        raise NotAllowedError(
            f"{folder}: other users can enter it, and its mode cannot be changed; set "
            f"XDG_STATE_HOME to a folder on another file system, {_ELSEWHERE}"
        )


def _unwritable(folder: Path, error: OSError) -> NotAllowedError:
    return NotAllowedError(
        f"{folder}: the private server cannot keep its files there ({error.strerror}); "
        f"set XDG_STATE_HOME to a folder that you can write to, {_ELSEWHERE}"
    )
