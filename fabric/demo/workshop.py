"""The scratch copy that the fixers work on: some files of the tree, as they were and as they are.

    <folder>/files.json    the paths of the files, in the order in which they are to be fixed
    <folder>/before/       the files as they were
    <folder>/fixed/        the files that are edited

Nothing outside of the folder is ever written.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from fabric.core.resource import is_glob, normalise
from fabric.demo.edits import is_editable, made_so_far, remarks
from fabric.demo.listing import find
from fabric.demo.source import Located, decode, load

#: Files of one copy: enough to see the fixers come by each other.
FILES_MAX = 3

#: Bytes of a file that is copied: larger ones are slow to judge, and nobody reads their difference.
FILE_BYTES_MAX = 32_000

#: Files that are looked at to find those that are most worth fixing.
CANDIDATES_MAX = 100

_MANIFEST, _BEFORE, _FIXED = "files.json", "before", "fixed"

#: The resource that all files which are edited are.
ALL = f"{_FIXED}/**"


def resource(path: str) -> str:
    """Return the name under which agents ask for a file: it is the copy's, not the user's own."""
    return f"{_FIXED}/{path}"


class Workshop:
    """A copy in a folder. Raises OSError where the folder cannot be read or written."""

    def __init__(self, folder: Path, files: tuple[str, ...]) -> None:
        self.folder = folder
        #: Paths relative to the reviewed tree.
        self.files = files

    @staticmethod
    def make(tree: str, folder: Path) -> Workshop:
        """Copy the files under `tree` that are most worth fixing into `folder`, a new one."""
        chosen = _choose(tree)
        for path, data in chosen.items():
            for part in (_BEFORE, _FIXED):
                target = folder / part / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / _MANIFEST, msgspec.json.encode(list(chosen)))
        return Workshop(folder, tuple(chosen))

    @staticmethod
    def open(folder: Path) -> Workshop:
        """Return the copy in a folder. Raises ValueError when its list of files is none."""
        paths = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=tuple[str, ...])
        return Workshop(folder, paths)

    def before(self, path: str) -> bytes:
        """Return a file as it was."""
        return (self.folder / _BEFORE / path).read_bytes()

    def now(self, path: str) -> bytes:
        """Return a file as it is."""
        return (self.folder / _FIXED / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """Put a file in the place of the present one, whole."""
        _replace(self.folder / _FIXED / path, data)

    def hand_over(self, target: Path) -> None:
        """Copy the files as they are into `target`, which may not be there."""
        target.mkdir(parents=True, exist_ok=True)
        for path in self.files:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(self.now(path))

    def made(self) -> dict[str, tuple[str, ...] | None]:
        """Return for each file who has edited it, in order; None where an edit was lost."""
        return {path: made_so_far(path, self.before(path), self.now(path)) for path in self.files}


def _choose(tree: str) -> dict[str, bytes]:
    """Return the files with the most to remark on, path → bytes; the first ones where none has."""
    candidates: list[tuple[int, int, str, bytes]] = []
    for number, located in enumerate(find(tree).files[:CANDIDATES_MAX]):
        data = _fit(located)
        if data is not None:
            count = len(remarks(decode(located.path, data)))
            candidates.append((-count, number, located.path, data))
    chosen: dict[str, bytes] = {}
    for _, _, path, data in sorted(candidates):
        if len(chosen) == FILES_MAX:
            break
        if is_editable(path, data):
            chosen[path] = data
    return chosen


def _fit(located: Located) -> bytes | None:
    """Return a file's bytes if it is small, and its path the name of one resource."""
    if is_glob(located.path) or normalise(located.path) != located.path:
        return None
    try:
        data = load(located.location)
    except (OSError, ValueError):
        return None
    return data if len(data) <= FILE_BYTES_MAX else None


def _replace(target: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
