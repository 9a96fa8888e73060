"""A snapshot of the Python files under a path: analysers work on it, never on the files themselves.

Nothing in a tree makes this raise, hang or run for ever. Names in the snapshot are printable, so
that whatever an analyser writes about a file can be found again.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from itertools import takewhile
from pathlib import Path

import msgspec

from fabric.wire.stored import printable

#: Bytes of one file. Larger files are generated tables: each would hold a reviewer up for seconds.
FILE_BYTES_MAX = 1_000_000

#: Files and bytes of one review, and directories that are searched for them.
FILES_MAX, TREE_BYTES_MAX, DIRECTORIES_MAX = 5_000, 64_000_000, 20_000

#: Skipped files and directories that are named one by one; the rest is counted.
SKIPPED_NAMED_MAX = 20

#: Build output and other people's code: skipped, and reported as skipped.
_FOREIGN_DIRECTORIES = frozenset({"node_modules", "site-packages", "build"})


class Skipped(msgspec.Struct, frozen=True):
    """Something under the path that is not reviewed, and why."""

    path: str
    reason: str


class Tree(msgspec.Struct, frozen=True):
    """A snapshot: its files in a stable order, relative to `folder`, and what was left out.

    `folder` is `root`, or the package in it that the reviewed directory is or lies in, so that an
    analyser knows files by the names under which they import each other.
    """

    root: str
    folder: str
    files: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return Path(self.folder, path).read_bytes()


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
    folder = top = scratch.resolve() / "tree"
    folder.mkdir(parents=True)
    for part in _package(home):
        folder /= part
        folder.mkdir()
        (folder / "__init__.py").touch()
    limits = {"files": FILES_MAX, "bytes": TREE_BYTES_MAX, "directories": DIRECTORIES_MAX}
    found: Counter[str] = Counter()
    files: dict[str, None] = {}
    skipped: list[Skipped] = []
    pending = [(os.fspath(root), root.is_dir())]  # no recursion: a tree can be deeper than a stack
    while pending:
        location, is_directory = pending.pop()
        name = printable(os.path.relpath(location, home))
        try:
            data = b"" if is_directory else _load(location)
            found["directories" if is_directory else "files"] += 1
            found["bytes"] += len(data)
            if over := [f"{limits[one]:,} {one}" for one in limits if found[one] > limits[one]]:
                reason = f"limit of {over[0]} reached here; nothing after it was read"
                skipped.insert(0, Skipped(name, reason))
                break
            if is_directory:
                pending += _entries(location, is_home=location == os.fspath(home))
            elif name in files:
                raise ValueError("its printable name is that of another file")
            else:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                files[name] = None
        except OSError as error:
            skipped.append(Skipped(name, f"cannot be read: {error.strerror}"))
        except ValueError as error:
            skipped.append(Skipped(name, str(error)))
    if (unnamed := len(skipped) - SKIPPED_NAMED_MAX) > 0:
        skipped[SKIPPED_NAMED_MAX:] = [Skipped("…", f"and {unnamed:,} more")]
    tree = Tree(str(top), str(folder), tuple(files), tuple(skipped))
    (scratch / "tree.json").write_bytes(msgspec.json.encode(tree))
    return tree


def open_snapshot(scratch: Path) -> Tree:
    """Return the snapshot in a folder."""
    return msgspec.json.decode((scratch / "tree.json").read_bytes(), type=Tree)


def _entries(location: str, *, is_home: bool) -> list[tuple[str, bool]]:
    """Return the directories and files of a directory that are to be read, the last name first.

    Raises OSError, and ValueError when the directory is not to be read.
    """
    if not is_home and Path(location).name in _FOREIGN_DIRECTORIES:
        raise ValueError("a directory of build output or of other people's code")
    with os.scandir(location) as found:
        entries = sorted(found, key=lambda entry: entry.name, reverse=True)
    if not is_home and any(entry.name == "pyvenv.cfg" for entry in entries):
        raise ValueError("a virtual environment")
    typed = [(entry.path, entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    return [
        (path, is_directory)
        for path, name, is_directory in typed
        if (name[0] != "." and name != "__pycache__" if is_directory else name.endswith(".py"))
    ]


def _load(location: str) -> bytes:
    """Return a file's bytes. Raises OSError, and ValueError for what is not to be read."""
    if Path(location).is_symlink():
        raise ValueError("a symbolic link")
    # Opened without waiting and without following a link, and checked after opening: since it was
    # listed, somebody may have put a pipe or a device in the file's place.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(location, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("cannot be read: not a regular file")
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"cannot be read: more than {FILE_BYTES_MAX:,} bytes")
    return data


def _package(home: Path) -> list[str]:
    """Return the names of the packages that a directory is and lies in, the outermost first."""
    folders = (home, *home.parents)
    packages = takewhile(lambda folder: (folder / "__init__.py").is_file(), folders)
    names = takewhile(str.isidentifier, (folder.name for folder in packages))
    return list(names)[::-1]
