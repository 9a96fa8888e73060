"""Finds the Python files under a path; nothing in a tree makes it raise, hang or run for ever."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fabric.demo.source import FILE_BYTES_MAX, Located
from fabric.wire.printable import printable

#: Files of one review. Enough for a large project; more belongs into several reviews.
FILES_MAX = 5_000
#: Bytes of all files together: each of the six agents may hold the texts in memory at once.
TREE_BYTES_MAX = 64_000_000
#: Directories looked into. Bounds the search when someone points the demo at a home directory.
DIRECTORIES_MAX = 20_000
#: Skipped files and directories that are named one by one; the rest is counted.
SKIPPED_NAMED_MAX = 200

#: Never worth a word: caches. Hidden directories are treated alike.
_SILENT_DIRECTORIES = frozenset({"__pycache__"})
#: Other people's code and build output: skipped, and said so.
_FOREIGN_DIRECTORIES = frozenset({"node_modules", "site-packages", "build"})


class Skipped(msgspec.Struct, frozen=True):
    """Something under the path that is not reviewed, and why."""

    path: str
    reason: str


class Listing(msgspec.Struct, frozen=True):
    """The files under a path in a stable order, and what was left out.

    `package` is the dotted name of the package that the root directory is, or lies in ("" for
    none): files under it import each other by that name.
    """

    root: str
    package: str
    files: tuple[Located, ...]
    skipped: tuple[Skipped, ...]


def find(path: str | os.PathLike[str]) -> Listing:
    """List the .py files under `path`, a directory or one file (of any name), in order of their
    relative paths.

    Hidden directories, caches, virtual environments, `node_modules` and `build` are not entered,
    and symbolic links below `path` are not followed, so no loop of links can hold the search. What
    is too large or over a limit is named in `skipped`. Raises OSError when `path` itself does not
    exist or cannot be read.
    """
    root = Path(path).resolve(strict=True)
    if root.is_dir():
        os.scandir(root).close()
        return _Search(root).run()
    if not root.is_file():
        raise FileNotFoundError(f"{printable(str(path))} is neither a file nor a directory")
    search = _Search(root.parent)
    search.add(root.name, os.fspath(root))
    return search.listing()


class _Search:
    """One walk over a tree: depth first, names in order, without recursion."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: list[Located] = []
        self._skipped: list[Skipped] = []
        self._skipped_unnamed = 0
        self._bytes = 0
        self._full = False

    def run(self) -> Listing:
        pending = [("", os.fspath(self._root), True)]
        directories = 0
        while pending and not self._full:
            path, location, is_directory = pending.pop()
            if not is_directory:
                self.add(path, location)
                continue
            directories += 1
            if directories > DIRECTORIES_MAX:
                self._stop(f"limit of {DIRECTORIES_MAX:,} directories reached", path)
                break
            pending.extend(reversed(list(self._entries(path, location))))
        return self.listing()

    def add(self, path: str, location: str) -> None:
        """Take one file in, unless it is too large or a limit is reached."""
        try:
            info = Path(location).lstat()
        except (OSError, ValueError) as error:
            self._skip(
                path, f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
            )
            return
        if not stat.S_ISREG(info.st_mode):
            self._skip(path, "not a regular file")
        elif info.st_size > FILE_BYTES_MAX:
            self._skip(path, f"{info.st_size:,} bytes, more than {FILE_BYTES_MAX:,}")
        elif len(self._files) >= FILES_MAX:
            self._stop(f"limit of {FILES_MAX:,} files reached", path)
        elif self._bytes + info.st_size > TREE_BYTES_MAX:
            self._stop(f"limit of {TREE_BYTES_MAX:,} bytes reached", path)
        else:
            self._bytes += info.st_size
            self._files.append(Located(printable(path), location))

    def listing(self) -> Listing:
        skipped = self._skipped
        if self._skipped_unnamed:
            skipped = [
                *skipped,
                Skipped("…", f"and {self._skipped_unnamed:,} more files or directories"),
            ]
        return Listing(
            printable(str(self._root)), _package_of(self._root), tuple(self._files), tuple(skipped)
        )

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
            try:
                kind = self._kind(entry, below)
            except OSError as error:
                self._skip(below, f"cannot be read: {error.strerror}")
                continue
            if kind is not None:
                yield below, entry.path, kind == "directory"

    def _kind(self, entry: os.DirEntry[str], path: str) -> str | None:
        if entry.is_symlink():
            if entry.name.endswith(".py"):
                self._skip(path, "a symbolic link")
            return None
        if entry.is_dir(follow_symlinks=False):
            if entry.name in _FOREIGN_DIRECTORIES:
                self._skip(path, "a directory of build output or of other people's code")
                return None
            return (
                None
                if entry.name.startswith(".") or entry.name in _SILENT_DIRECTORIES
                else "directory"
            )
        return "file" if entry.name.endswith(".py") else None

    def _skip(self, path: str, reason: str) -> None:
        if len(self._skipped) < SKIPPED_NAMED_MAX:
            self._skipped.append(Skipped(printable(path) or ".", reason))
        else:
            self._skipped_unnamed += 1

    def _stop(self, reason: str, path: str) -> None:
        self._skipped.insert(
            0, Skipped(printable(path), f"{reason} here; nothing after it was read")
        )
        self._full = True


def _package_of(root: Path) -> str:
    names: list[str] = []
    for folder in (root, *root.parents):
        if not (folder / "__init__.py").is_file() or not folder.name.isidentifier():
            break
        names.append(folder.name)
    return ".".join(reversed(names))
