"""What git makes of two copies of a project's files: a merge on trial, with what is not committed.

Both copies become commits in a folder that is thrown away, and `git merge-tree` merges these: so
renames, deletions, files that both have added and binary files count as in a real merge. Nothing in
the repository or in a copy changes. No program runs that the repository's own settings name: where
one of them would decide (a merge driver), nobody can say.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from fabric.core.resource import is_glob, overlap
from fabric.core.resource_name import literal

#: Seconds for one command of git: where it takes longer, nobody can say.
GIT_S = 20.0

#: Files of one copy that are looked at: a claim on the whole project may stand for very many.
FILES_MAX = 10_000

#: Bytes of one file.
FILE_BYTES_MAX = 64 << 20

#: Settings that name a program each; a driver that fails leaves a conflict, of which nobody can
#: say.
_DRIVERS = r"^merge\..+\.driver$"
_ALWAYS = {"core.fsmonitor": "false", "core.hooksPath": "/dev/null"}

_LINK, _FILE, _PROGRAM, _SUBMODULE = "120000", "100644", "100755", "160000"


class Trial(NamedTuple):
    """What git can merge of the resources that two copies have written, and what it cannot.

    A resource of which nobody can say is in neither.
    """

    conflicts: list[str]
    clean: list[str]


class UnknownError(Exception):
    """Nobody can say: git is missing or too old, the copies are of other repositories, …"""


def merge(mine: str, other: str, resources: Iterable[str], more: Iterable[str] = ()) -> Trial:
    """Merge two copies, given by their top folders, on trial. Raises UnknownError.

    Each resource is one that both have written, as claims name it; `more` are those that only one
    has written, such as the new name of a file.
    """
    wanted = list(resources)
    written = [*wanted, *more]
    with tempfile.TemporaryDirectory(prefix="fabric-merge-") as folder:
        copies = [_Copy(top, Path(folder, name)) for top, name in ((mine, "a"), (other, "b"))]
        objects = os.pathsep.join(_quoted(one.objects) for one in copies)
        for one in copies:
            one.share(Path(folder, "objects"), objects)
        ours, theirs = (one.commit(written) for one in copies)
        found = _conflicts(copies[0], ours, theirs)
        odd = [*copies[0].odd, *copies[1].odd, *_driven(copies[0], found)]
    trial = Trial([], [])
    for resource in wanted:
        named = copies[0].prefix + resource
        if any(overlap(named, literal(path)) for path in odd):
            continue
        is_conflict = any(overlap(named, literal(path)) for path in found)
        (trial.conflicts if is_conflict else trial.clean).append(resource)
    return trial


class _Copy:
    """One copy of the files, and git in it."""

    def __init__(self, top: str, folder: Path) -> None:
        self.top, self._folder = top, folder
        self._variables: dict[str, str] = {}
        #: Paths of which nobody can say: what is in a submodule.
        self.odd: list[str] = []
        self._settings = dict(_ALWAYS)
        names = self.git("config", "--name-only", "-z", "--get-regexp", _DRIVERS, ok=(0, 1))
        self.drivers = _parted(names)
        self._settings |= dict.fromkeys(self.drivers, "false")
        self.objects = self._line("rev-parse", "--path-format=absolute", "--git-path", "objects")
        #: The path of the project's top in git, with a slash; "" if it is the same.
        self.prefix = literal(self._line("rev-parse", "--show-prefix"))
        self.head = self._line("rev-parse", "--verify", "HEAD^{commit}")

    def share(self, objects: Path, known: str) -> None:
        """Write new objects to a folder of our own; find those of both copies."""
        objects.mkdir(exist_ok=True)
        self._variables = {
            "GIT_OBJECT_DIRECTORY": str(objects),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": known,
            "GIT_INDEX_FILE": str(self._folder),
        }

    def git(self, *words: str, given: bytes = b"", ok: tuple[int, ...] = (0,)) -> bytes:
        """Run git in the copy; return its output. Raises UnknownError."""
        try:
            done = subprocess.run(  # noqa: S603 - git, with words of our own
                ["git", *words],  # noqa: S607 - from PATH, as the user has it
                cwd=self.top,
                env={**_environment(self._settings), **self._variables},
                input=given,
                capture_output=True,
                timeout=GIT_S,
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise UnknownError(str(error)) from error
        if done.returncode not in ok:
            raise UnknownError(done.stderr.decode("utf-8", "replace").strip())
        return done.stdout

    def _line(self, *words: str) -> str:
        return os.fsdecode(self.git(*words)).removesuffix("\n")

    def commit(self, resources: list[str]) -> str:
        """Return a commit of the copy as it is now, as far as these resources go."""
        tracked = self._tracked()
        changes = [*self._changes(tracked, [self.prefix + one for one in resources])]
        if not changes:
            return self.head
        self.git("read-tree", "HEAD")
        self.git("update-index", "-z", "--index-info", given=b"".join(changes))
        tree = self._line("write-tree")
        return self._line("commit-tree", tree, "-p", self.head, "-m", "trial")

    def _tracked(self) -> dict[str, tuple[str, str]]:
        """Return path → mode and object, of the last commit."""
        found = {}
        for line in _parted(self.git("ls-tree", "-r", "-z", "--full-tree", "HEAD")):
            facts, _, path = line.partition("\t")
            mode, _, name = facts.split(" ", 2)
            found[path] = mode, name
        return found

    def _changes(self, tracked: dict[str, tuple[str, str]], wanted: list[str]) -> Iterator[bytes]:
        """Yield what the index needs to be as the files are."""
        top = self._line("rev-parse", "--show-toplevel")
        inside = [path for path, (mode, _) in tracked.items() if mode == _SUBMODULE]
        self.odd += [path for path in inside if any(overlap(one, literal(path)) for one in wanted)]
        paths = [path for path in self._named(tracked, wanted) if path not in self.odd]
        if len(paths) > FILES_MAX:
            raise UnknownError(f"over {FILES_MAX} files were claimed in {self.top}")
        for path in paths:
            mode, content = _now(f"{top}/{path}")
            if not mode:
                if path in tracked:
                    yield os.fsencode(f"0 {'0' * len(self.head)}\t{path}\0")
            elif (mode, self._name(content)) != tracked.get(path):
                words = ("hash-object", "-w", "--no-filters", "--stdin")
                name = os.fsdecode(self.git(*words, given=content)).strip()
                yield os.fsencode(f"{mode} {name}\t{path}\0")

    def _name(self, content: bytes) -> str:
        """Return the name of a file's content as an object."""
        known = hashlib.sha1 if len(self.head) == 40 else hashlib.sha256
        return known(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def _named(self, tracked: Iterable[str], wanted: list[str]) -> list[str]:
        """Return the files that resources name: those of the last commit, and new ones."""
        plain = {one for one in wanted if not is_glob(one)}
        globs = [one for one in wanted if one not in plain]
        where = [] if globs else [f":(top,literal){one}" for one in sorted(plain)]
        words = ("ls-files", "-z", "--full-name", "-o", "--exclude-standard", "--", *where)
        new = _parted(self.git(*words if len(where) < FILES_MAX // 10 else words[: -len(where)]))
        found = []
        for path in dict.fromkeys([*tracked, *new]):
            known = normalize("NFC", path)
            parts = known.split("/")
            is_named = any("/".join(parts[:depth]) in plain for depth in range(1, len(parts) + 1))
            if is_named or any(overlap(one, literal(known)) for one in globs):
                found.append(path)
        return found


def _now(path: str) -> tuple[str, bytes]:
    """Return the mode and the content of a file as it is there; "" if none is.

    Filters are left out: they are programs.
    """
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            return _LINK, os.fsencode(os.readlink(path))  # noqa: PTH115 - bytes of any kind
        if not stat.S_ISREG(found.st_mode):
            return "", b""
        if found.st_size > FILE_BYTES_MAX:
            raise UnknownError(f"{path} is larger than {FILE_BYTES_MAX} bytes")
        content = Path(path).read_bytes()
    except (OSError, ValueError):
        return "", b""
    return (_PROGRAM if found.st_mode & stat.S_IXUSR else _FILE), content


def _conflicts(copy: _Copy, ours: str, theirs: str) -> list[str]:
    """Return the paths at which git cannot merge two commits, under their old names too."""
    out = copy.git("merge-tree", "--write-tree", "-z", "--messages", ours, theirs, ok=(0, 1))
    _, _, rest = out.partition(b"\0")
    files, _, said = (b"\0" + rest).partition(b"\0\0")
    found = {os.fsdecode(one.partition(b"\t")[2]) for one in files.split(b"\0") if one}
    words = iter(said.split(b"\0"))
    with suppress(StopIteration, ValueError):
        while True:
            paths = [os.fsdecode(next(words)) for _ in range(int(next(words)))]
            if next(words).startswith(b"CONFLICT"):
                found.update(paths)
            next(words)
    if found:
        base = os.fsdecode(copy.git("merge-base", ours, theirs)).strip()
        for side in (ours, theirs):
            words = iter(copy.git(*_RENAMES, base, side).split(b"\0"))
            for kind in words:
                if kind.startswith(b"R"):
                    old, new = os.fsdecode(next(words)), os.fsdecode(next(words))
                    found.update([old] if new in found else [])
    return sorted(found)


_RENAMES = ("diff-tree", "-r", "-z", "-M", "--no-ext-diff", "--name-status", "--diff-filter=R")


def _driven(copy: _Copy, paths: list[str]) -> list[str]:
    """Return those of some paths that a program merges which the repository's settings name."""
    if not paths or not copy.drivers:
        return []
    out = copy.git("check-attr", "-z", "--stdin", "merge", given=os.fsencode("\0".join(paths)))
    words = _parted(out)
    known = {"set", "unset", "unspecified", "text", "binary", "union"}
    return [path for path, how in zip(words[::3], words[2::3], strict=True) if how not in known]


def _quoted(path: str) -> str:
    """Return a path as git reads it in a list of paths."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parted(out: bytes) -> list[str]:
    return [os.fsdecode(one) for one in out.split(b"\0") if one]


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """Return our environment for git: its user's, without what would lead it elsewhere."""
    kept = {name: one for name, one in os.environ.items() if not name.startswith("GIT_")}
    for number, (name, value) in enumerate(settings.items()):
        kept |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    for role in ("AUTHOR", "COMMITTER"):
        kept |= {f"GIT_{role}_NAME": "fabric", f"GIT_{role}_EMAIL": "fabric"}
    # Objects that a partial clone has left out would be fetched, by a program of its choice.
    kept |= {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
    return {**kept, "GIT_CONFIG_COUNT": str(len(settings)), "LC_ALL": "C"}
