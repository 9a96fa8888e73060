"""The scratch copy that the fixers edit: made of some files, edited by ruff, and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from fabric.core.resource import is_glob
from fabric.core.resource_name import normalise
from fabric.demo import fleet
from fabric.demo.analysers import AnalyserError, run_tool, unreadable
from fabric.demo.tree import Tree

#: Files of the copy, enough to see the fixers meet; bytes of one; files that are considered.
FILES_MAX, FILE_BYTES_MAX, CANDIDATES_MAX = 3, 32_000, 100

#: Time for one run of ruff, s.
RUFF_S_MAX = 30

#: Fixer → its command of ruff. RUF100 would take comments away that belong to rules not used here.
_RUFF = {
    fleet.FIXER.name: "check --fix --exit-zero --select E,W,F,B,C4,COM,FURB,I,PIE,RET,RUF,SIM,UP "
    "--ignore RUF100",
    fleet.FORMATTER.name: "format",
}


class Workshop:
    """The scratch copy: files in `before/` and `fixed/`, and in `edits/` a journal for each: the
    agent of each edit, and checksums of what it read and wrote.

    Raises FileNotFoundError when there is no copy.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: Paths in the order in which they are to be fixed; where what is imported may lie.
        self.files: list[str]
        self.files, self._root = json.loads((folder / "copy.json").read_bytes())

    @staticmethod
    def make(tree: Tree, files: Sequence[str], folder: Path) -> Workshop:
        """Copy some files of a snapshot into `folder`, a new one."""
        (folder / "fixed").mkdir(parents=True)
        for path in files:
            for part in ("before", "fixed", "edits"):
                _put(folder / part / path, b"" if part == "edits" else tree.read(path))
        _put(folder / "copy.json", json.dumps([files, tree.root]).encode())
        return Workshop(folder)

    def read(self, path: str, part: str = "fixed") -> bytes:
        """Return a file as it is, or as it was `before`."""
        return (self._folder / part / path).read_bytes()

    async def edited(self, agent: str, path: str, data: bytes) -> bytes:
        """Return what an agent makes of a file: the same when ruff fails on it."""
        desk = self._folder / agent
        _put(desk / path, data)
        # Lines may be as long as the longest now: the project's own limit is not known.
        longest = max(map(len, data.decode("utf-8", "replace").splitlines()), default=0)
        options = f"line-length={min(max(longest, 88), 320)}", f"src=[{json.dumps(self._root)}]"
        how = [*_RUFF[agent].split(), "--isolated", "--no-cache", "--quiet"]
        how += [word for option in options for word in ("--config", option)]
        try:
            code, _, _ = await run_tool(["ruff", *how, f"./{path}"], str(desk), RUFF_S_MAX)
        except (AnalyserError, OSError):
            return data
        return data if code else (desk / path).read_bytes()

    def write(self, agent: str, path: str, read: bytes, edited: bytes) -> None:
        """Put a file that an agent has read and edited in place, whole, and note the edit."""
        new = self._folder / f"{agent}.new"
        new.write_bytes(edited)
        new.replace(self._folder / "fixed" / path)
        with (self._folder / "edits" / path).open("a") as journal:
            journal.write(f"{agent} {_checksum(read)} {_checksum(edited)}\n")

    def made(self) -> dict[str, tuple[str, ...] | None]:
        """Return file → who has edited it, in order; None where an edit was overwritten.

        Each edit must have read what the one before wrote, and the file be what the last one wrote.
        """
        found: dict[str, tuple[str, ...] | None] = {}
        for path in self.files:
            edits = [line.split() for line in self.read(path, "edits").decode().splitlines()]
            wrote = [_checksum(self.read(path, "before")), *(wrote for _, _, wrote in edits)]
            read = [*(read for _, read, _ in edits), _checksum(self.read(path))]
            found[path] = tuple(agent for agent, _, _ in edits) if read == wrote else None
        return found


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _checksum(data: bytes) -> str:
    return sha256(data).hexdigest()


def resource(path: str) -> str:
    """Return the name under which agents ask for a file: it is the copy's, not the user's own."""
    return f"fixed/{path}"


def choose(tree: Tree) -> list[str]:
    """Return the largest of the files that are small enough and can be read."""
    fit = [
        path
        for path in tree.files[:CANDIDATES_MAX]
        # The path must be the name of one resource.
        if not is_glob(path) and normalise(path) == path
        if len(tree.read(path)) <= FILE_BYTES_MAX and unreadable(tree, path) is None
    ]
    return sorted(fit, key=lambda path: -len(tree.read(path)))[:FILES_MAX]
