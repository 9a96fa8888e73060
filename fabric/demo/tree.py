"""A snapshot of the Python files under a path: analysers work on it, never on the files themselves.

Nothing in a tree makes it raise, hang or run for ever. Names in the snapshot are printable, so that
whatever an analyser writes about a file can be found again.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import msgspec

from fabric.wire.printable import printable

#: Bytes of one file. Larger files are generated tables: each would hold a reviewer up for seconds.
FILE_BYTES_MAX = 1_000_000

#: Files and bytes of one review, and directories that are searched for them.
FILES_MAX = 5_000
TREE_BYTES_MAX = 64_000_000
DIRECTORIES_MAX = 20_000

#: Skipped files and directories that are named one by one; the rest is counted.
SKIPPED_NAMED_MAX = 200

#: Build output and other people's code: skipped, and reported as skipped.
_FOREIGN_DIRECTORIES = frozenset({"node_modules", "site-packages", "build"})

_FILES, _MANIFEST = "tree", "tree.json"


class Skipped(msgspec.Struct, frozen=True):
    """Something under the path that is not reviewed, and why."""

    path: str
    reason: str


class Tree(msgspec.Struct, frozen=True):
    """A snapshot: its files in a stable order, relative to `folder`, and what was left out.

    `package` is the dotted name of the package that the reviewed directory is, or lies in ("" for
    none): files under it import each other by that name. `line_length` is what the project's
    settings for ruff say; 0 if they say nothing.
    """

    folder: str
    package: str
    files: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    line_length: int = 0

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return Path(self.folder, path).read_bytes()

    def lines(self, path: str) -> list[str]:
        """Return the lines of a file, with a replacement for what is not UTF-8."""
        return _lines(self.folder, path)


@lru_cache(maxsize=4)  # findings of one file come one after the other, by the thousand
def _lines(folder: str, path: str) -> list[str]:
    return Path(folder, path).read_bytes().decode("utf-8", "replace").splitlines()


def take_snapshot(path: str, scratch: Path) -> Tree:
    """Copy the .py files under `path`, a directory or one file of any name, into `scratch`.

    Hidden directories, caches, virtual environments, `node_modules` and `build` are not entered,
    symbolic links below `path` not followed, and files that are too large or over a limit are named
    in `skipped`. Raises OSError when `path` itself cannot be read.
    """
    root = Path(path).resolve(strict=True)
    search = _Search(scratch.resolve() / _FILES)
    if root.is_dir():
        os.scandir(root).close()
        search.directory(os.fspath(root))
    elif root.is_file():
        search.file(root.name, os.fspath(root))
    else:
        raise FileNotFoundError(f"{printable(path)} is neither a file nor a directory")
    home = root if root.is_dir() else root.parent
    tree = search.tree(_package_of(home), _line_length(home))
    (scratch / _MANIFEST).write_bytes(msgspec.json.encode(tree))
    return tree


def open_snapshot(scratch: Path) -> Tree:
    """Return the snapshot in a folder."""
    return msgspec.json.decode((scratch / _MANIFEST).read_bytes(), type=Tree)


class _Search:
    """One walk over a tree: depth first, names in order, without recursion."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, None] = {}
        self._skipped: list[Skipped] = []
        self._unnamed = 0
        self._bytes = 0
        self._is_full = False
        folder.mkdir(parents=True)

    def directory(self, root: str) -> None:
        pending = [("", root, True)]
        directories = 0
        while pending and not self._is_full:
            path, location, is_directory = pending.pop()
            if not is_directory:
                self.file(path, location)
                continue
            directories += 1
            if directories > DIRECTORIES_MAX:
                self._stop(f"limit of {DIRECTORIES_MAX:,} directories reached", path)
            else:
                pending.extend(reversed(list(self._entries(path, location))))

    def file(self, path: str, location: str) -> None:
        """Copy one file, unless it is too large or a limit is reached."""
        name = printable(path)
        try:
            data = _load(location)
            if len(self._files) >= FILES_MAX:
                self._stop(f"limit of {FILES_MAX:,} files reached", path)
            elif self._bytes + len(data) > TREE_BYTES_MAX:
                self._stop(f"limit of {TREE_BYTES_MAX:,} bytes reached", path)
            elif name in self._files:
                self._skip(path, "its printable name is that of another file")
            else:
                target = self._folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                self._files[name] = None
                self._bytes += len(data)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._skip(path, f"cannot be read: {reason}")

    def tree(self, package: str, line_length: int) -> Tree:
        more = [Skipped("…", f"and {self._unnamed:,} more")] if self._unnamed else []
        skipped = (*self._skipped, *more)
        return Tree(os.fspath(self._folder), package, tuple(self._files), skipped, line_length)

    def _entries(self, path: str, location: str) -> Iterator[tuple[str, str, bool]]:
        try:
            with os.scandir(location) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self._skip(path, f"cannot be read: {error.strerror}")
            return
        if path and any(entry.name == "pyvenv.cfg" for entry in entries):
            self._skip(path, "a virtual environment")
            return
        for entry in entries:
            below = f"{path}/{entry.name}" if path else entry.name
            if entry.is_symlink():
                if entry.name.endswith(".py"):
                    self._skip(below, "a symbolic link")
            elif not entry.is_dir(follow_symlinks=False):
                if entry.name.endswith(".py"):
                    yield below, entry.path, False
            elif entry.name in _FOREIGN_DIRECTORIES:
                self._skip(below, "a directory of build output or of other people's code")
            elif not entry.name.startswith(".") and entry.name != "__pycache__":
                yield below, entry.path, True

    def _skip(self, path: str, reason: str) -> None:
        if len(self._skipped) < SKIPPED_NAMED_MAX:
            self._skipped.append(Skipped(printable(path) or ".", reason))
        else:
            self._unnamed += 1

    def _stop(self, reason: str, path: str) -> None:
        skipped = Skipped(printable(path), f"{reason} here; nothing after it was read")
        self._skipped.insert(0, skipped)
        self._is_full = True


def _load(location: str) -> bytes:
    """Return a file's bytes. Raises OSError, and ValueError for a device or too large a file."""
    # Opened without waiting and without following a link, and checked after opening: since it was
    # listed, somebody may have put a pipe or a device in the file's place.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(location, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"more than {FILE_BYTES_MAX:,} bytes")
    return data


def _package_of(root: Path) -> str:
    names: list[str] = []
    for folder in (root, *root.parents):
        if not (folder / "__init__.py").is_file() or not folder.name.isidentifier():
            break
        names.append(folder.name)
    return ".".join(reversed(names))


def _line_length(root: Path) -> int:
    """Return the line length in the nearest pyproject.toml; 0 when it says none."""
    for folder in (root, *root.parents):
        settings = folder / "pyproject.toml"
        if settings.is_file():
            try:
                found = tomllib.loads(_load(os.fspath(settings)).decode())
                length = found["tool"]["ruff"]["line-length"]
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                return 0
            return length if isinstance(length, int) and 1 <= length <= 320 else 0
    return 0
