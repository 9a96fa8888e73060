"""A snapshot of the Python files under a path: analysers work on it, never on the files themselves.

Nothing in a tree makes it raise, hang or run for ever. Names in the snapshot are printable, so that
whatever an analyser writes about a file can be found again.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
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
    home = root if root.is_dir() else root.parent
    if root.is_dir():
        os.scandir(root).close()
    elif not root.is_file():
        raise FileNotFoundError(f"{printable(path)} is neither a file nor a directory")
    search = _Search(os.fspath(home))
    folder = scratch.resolve() / _FILES
    folder.mkdir(parents=True)
    files = search.copied(search.found() if root.is_dir() else [os.fspath(root)], folder)
    skipped = search.skipped
    if search.unnamed:
        skipped.append(Skipped("…", f"and {search.unnamed:,} more"))
    tree = Tree(os.fspath(folder), _package(home), tuple(files), tuple(skipped), _line_length(home))
    (scratch / _MANIFEST).write_bytes(msgspec.json.encode(tree))
    return tree


def open_snapshot(scratch: Path) -> Tree:
    """Return the snapshot in a folder."""
    return msgspec.json.decode((scratch / _MANIFEST).read_bytes(), type=Tree)


class _Search:
    """One walk over a tree, and what it has skipped."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.skipped: list[Skipped] = []
        self.unnamed = 0

    def found(self) -> Iterator[str]:
        """Yield the location of each file: depth first, names in order, without recursion."""
        pending = [(self._root, True)]
        directories = 0
        while pending:
            location, is_directory = pending.pop()
            directories += is_directory
            if not is_directory:
                yield location
            elif directories > DIRECTORIES_MAX:
                return self._stop(location, f"{DIRECTORIES_MAX:,} directories")
            else:
                pending += reversed(list(self._entries(location)))

    def copied(self, locations: Iterable[str], folder: Path) -> dict[str, None]:
        """Copy files, unless they are too large or a limit is reached; return their new names."""
        files: dict[str, None] = {}
        size = 0
        for location in locations:
            name = self._name(location)
            try:
                data = _load(location)
                size += len(data)
                if len(files) >= FILES_MAX:
                    self._stop(location, f"{FILES_MAX:,} files")
                    break
                if size > TREE_BYTES_MAX:
                    self._stop(location, f"{TREE_BYTES_MAX:,} bytes")
                    break
                if name in files:
                    raise ValueError("its printable name is that of another file")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                files[name] = None
            except (OSError, ValueError) as error:
                self._skip(location, f"cannot be read: {getattr(error, 'strerror', error)}")
        return files

    def _entries(self, location: str) -> Iterator[tuple[str, bool]]:
        try:
            with os.scandir(location) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            return self._skip(location, f"cannot be read: {error.strerror}")
        if location != self._root and any(entry.name == "pyvenv.cfg" for entry in entries):
            return self._skip(location, "a virtual environment")
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if not is_directory and not entry.name.endswith(".py"):
                continue
            if entry.is_symlink():
                self._skip(entry.path, "a symbolic link")
            elif is_directory and entry.name in _FOREIGN_DIRECTORIES:
                self._skip(entry.path, "a directory of build output or of other people's code")
            elif not is_directory or not entry.name.startswith((".", "__pycache__")):
                yield entry.path, is_directory

    def _name(self, location: str) -> str:
        return printable(os.path.relpath(location, self._root))

    def _skip(self, location: str, reason: str) -> None:
        if len(self.skipped) < SKIPPED_NAMED_MAX:
            self.skipped.append(Skipped(self._name(location), reason))
        else:
            self.unnamed += 1

    def _stop(self, location: str, limit: str) -> None:
        reason = f"limit of {limit} reached here; nothing after it was read"
        self.skipped.insert(0, Skipped(self._name(location), reason))


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


def _package(home: Path) -> str:
    folders = (home, *home.parents)
    packages = takewhile(lambda folder: (folder / "__init__.py").is_file(), folders)
    names = takewhile(str.isidentifier, (folder.name for folder in packages))
    return ".".join(reversed(list(names)))


def _line_length(home: Path) -> int:
    """Return the line length in the nearest pyproject.toml; 0 when it says none."""
    settings = (folder / "pyproject.toml" for folder in (home, *home.parents))
    nearest = next((path for path in settings if path.is_file()), Path())
    try:
        length = tomllib.loads(_load(os.fspath(nearest)).decode())["tool"]["ruff"]["line-length"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return length if isinstance(length, int) and 1 <= length <= 320 else 0
