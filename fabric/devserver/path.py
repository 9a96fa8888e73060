"""What a file is called in claims, by what is there: links, folders, worktrees, letters.

`fabric/core/resource_name.py` gives each resource one spelling without looking at any files. The
senders (command line, library, guard) do here what needs a look, before that:

- A path begins at the top of the worktree that the caller is in. An absolute path and a `file://`
  URL below it are taken from there; so is a path into another worktree of the project.
- Links are followed, the last one too: writing through a link writes its target.
- A folder is all that is in it: `src` is `src/**` where `src` is a folder.
- On a file system that folds case, a name is spelled as it is there. One that is not there yet is
  a glob for each of its spellings: `[Rr][Ee][Aa][Dd].md`.
- A name that is there counts as it is, whatever characters are in it: `a,b.txt` is one file.

Two names of one file by hard links are not found: that needs a look at all files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

from fabric.core.limits import NAME_CHARS_MAX
from fabric.core.resource import is_glob
from fabric.core.resource_name import (
    ManyNamesError,
    expand,
    is_bracketed,
    is_url,
    literal,
    normalise,
    with_slashes,
)
from fabric.devserver.project import locate, nearest

#: Signal type → the fields of its payload that name resources. The tasks of TASKS_ADDED have those
#: of INTENT.
RESOURCE_FIELDS: dict[str, tuple[str, ...]] = {
    "STARTED": ("reads", "writes"),
    "INTENT": ("reads", "writes"),
    "RELEASE": ("resources",),
    "CONFLICT_DETECTED": ("resources",),
}

#: Characters that would take a name apart.
_SPECIAL = frozenset("\\,{}")

#: Folders, with a worktree of the project or not, that are kept in memory.
FOLDERS_MAX = 1_000

#: The folder whose project names belong to; None for the working directory.
_folder: ContextVar[str | None] = ContextVar("_folder", default=None)


class Files:
    """The copy of a project's files that the caller is in; names are those of claims."""

    def __init__(self, top: Path, *, folds: Callable[[str], bool] | None = None) -> None:
        """`folds` says whether the file system folds the case of names in a folder."""
        self.top = os.path.realpath(top)
        self._folds = folds or folds_case

    def names(self, texts: Iterable[str]) -> list[str]:
        """Return the resources that texts name, none twice. Raises ManyNamesError."""
        found: dict[str, None] = {}
        for text in texts:
            items = [text] if self._is_there(text) else expand([text])
            found.update(dict.fromkeys(map(self.name, items)))
        return list(found)

    def name(self, text: str) -> str:
        """Return the name of one resource. Raises nothing."""
        if not text:
            return text
        if is_url(text):
            local = normalise(text)
            return local if is_url(local) else self.name(local)
        is_plain = self._is_there(text)
        path = text if is_plain else with_slashes(text)
        front, rest = (path, "") if is_plain else _parted(path)
        try:
            place = self._place(_joined(self.top, front))
            is_folder = Path(place).is_dir()
        except (OSError, ValueError):  # a NUL, or a link that leads to itself
            return normalise(text)
        name = self._spelled(self._relative(place))
        if not rest:
            is_named_as_folder = path.endswith(("/", "/.", "/.."))
            return normalise(f"{name}/" if is_folder or is_named_as_folder else name) or name
        return normalise(f"{name}/{rest}" if name else rest)

    def file(self, path: str) -> str:
        """Return the name of one file that a program names: no list, and no glob."""
        if self._is_there(path) or _SPECIAL.isdisjoint(path):
            return self.name(path)
        return self.name("/".join(map(_plain, path.split("/"))))

    def place(self, path: str) -> str:
        """Return an absolute path, or a `file://` URL, from the top of the project; else the text.

        It is the plain name of a file, for reports: nothing in it is a glob.
        """
        local = normalise(path) if is_url(path) else path
        if not local.startswith("/"):
            return path
        try:
            inside = self._relative(self._place(local))
        except (OSError, ValueError):  # a NUL, or a link that leads to itself
            return path
        return path if inside.startswith("/") else inside

    def staged(self, path: str) -> list[str]:
        """Return the names of a path in git: of what it leads to, and of a link itself."""
        target, itself = self.name(path), normalise(path)
        # Whoever asks about a name takes its brackets literally, too.
        return [itself] if target in (itself, literal(itself)) else [target, itself]

    def _is_there(self, text: str) -> bool:
        try:
            return not is_url(text) and os.path.lexists(_joined(self.top, text))
        except ValueError:
            return False

    def _place(self, path: str) -> str:
        """Return the one path of a file: no links, letters as they are there."""
        real = os.path.realpath(self._as_it_is(path))
        return self._as_it_is(real)

    def _as_it_is(self, path: str) -> str:
        """Return a path with each name that is there spelled as it is there."""
        if not self._folds(self.top):
            return path
        found = "/"
        for part in path.split("/"):
            if part in ("", ".", ".."):
                found = _joined(found, part) if part else found
                continue
            wanted = _folded(part)
            try:
                there = [one.name for one in Path(found).iterdir() if _folded(one.name) == wanted]
            except OSError:
                there = []
            found = _joined(found, part if part in there or not there else there[0])
        return found

    def _relative(self, place: str) -> str:
        """Return a real path from the top of the project's copy that it is in; else the path."""
        if self.top.startswith(f"{place.rstrip('/')}/"):  # with the folder around it, all of it
            return "."
        folder = place.rpartition("/")[0]
        is_below = place == self.top or place.startswith(f"{self.top.rstrip('/')}/")
        if is_below and not _has_worktree(folder, self.top):
            return os.path.relpath(place, self.top)
        other = _copy_around(place, self.top) or (self.top if is_below else None)
        return os.path.relpath(place, other) if other else place

    def _spelled(self, name: str) -> str:
        """Return a path as a resource that is no glob, but for what is not there on a folding one.

        Brackets with a name in them stay: they are that name.
        """
        parts = name.split("/")
        known = 0
        if self._folds(self.top):
            while known < len(parts) and self._is_there("/".join(parts[: known + 1])):
                known += 1
        else:
            known = len(parts)
        return "/".join([*map(_plain, parts[:known]), *map(_any_case, parts[known:])])


def files_here() -> Files:
    """Return the copy of the project's files that the working directory is in."""
    return _files_at(_folder.get() or str(Path.cwd()))


@contextmanager
def working_in(folder: str) -> Iterator[Files]:
    """Inside, and in the tasks that start there, take a folder for the working directory.

    The agent daemon works for agents in many folders at once.
    """
    token = _folder.set(folder)
    try:
        yield files_here()
    finally:
        _folder.reset(token)


def named(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a signal's payload with resources as they are called in claims.

    What is no list of texts is left as it is: the checks of signals name the fault.
    """
    changed = dict(payload)
    tasks = changed.get("tasks")
    if kind == "TASKS_ADDED" and isinstance(tasks, list):
        changed["tasks"] = [
            named("INTENT", task) if isinstance(task, dict) else task for task in tasks
        ]
    for field in RESOURCE_FIELDS.get(kind, ()):
        texts = changed.get(field)
        if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
            try:
                changed[field] = files_here().names(texts)
            except (ManyNamesError, OSError):  # the fabric refuses it; the folder is gone
                continue
    return changed


def placed(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a signal's payload with each finding's `path` from the top of the project.

    Tools print absolute paths; agents that found the same thing must name one place.
    """
    changed = dict(payload)
    for field in ("partial", "result"):
        body = changed.get(field)
        if not isinstance(body, Mapping):
            continue
        findings = body.get("findings")
        if isinstance(findings, list) and any(map(_is_absolute, findings)):
            changed[field] = {**body, "findings": [*map(_placed, findings)]}
    return changed


def _is_absolute(finding: Any) -> bool:
    path = finding.get("path") if isinstance(finding, Mapping) else None
    return isinstance(path, str) and path.startswith(("/", "file:"))


def _placed(finding: Any) -> Any:
    if not _is_absolute(finding):
        return finding
    try:
        return {**finding, "path": files_here().place(finding["path"])}
    except OSError:  # the folder is gone
        return finding


def workspace() -> str | None:
    """Return the copy of a project's files around the working directory, as HOST:TOP.

    None outside of any project, and where the folder's name is no text that a signal can carry.
    """
    try:
        place = locate(Path(_folder.get() or Path.cwd()))
    except OSError:
        return None
    name = f"{os.uname().nodename}:{os.path.realpath(place.top)}"
    is_name = name.isprintable() and len(name) <= NAME_CHARS_MAX and name == name.strip()
    return name if place.is_marked and is_name else None


@lru_cache(FOLDERS_MAX)
def _files_at(folder: str) -> Files:
    return Files(locate(Path(folder)).top)


@lru_cache(FOLDERS_MAX)
def folds_case(folder: str) -> bool:
    """Whether a file system folds case: what is in a folder is there under another spelling too.

    An empty one is looked at in the folder around it, which may be on another file system.
    """
    with suppress(OSError), os.scandir(folder) as found:
        for one in found:
            if one.name.swapcase() != one.name:
                return _is_also(folder, one.name)
    for path in (folder, *map(str, Path(folder).parents)):
        head, name = os.path.split(path)
        if name.swapcase() != name:
            return _is_also(head, name)
    return False


def _is_also(folder: str, name: str) -> bool:
    """Whether a name in a folder is there with its upper and lower case exchanged, too."""
    try:
        mine, other = (os.lstat(_joined(folder, one)) for one in (name, name.swapcase()))
    except OSError:
        return False
    return os.path.samestat(mine, other)


def _joined(folder: str, path: str) -> str:
    return path if path.startswith("/") else f"{folder.rstrip('/')}/{path}"


def _folded(name: str) -> str:
    return normalize("NFC", name).casefold()


def _plain(part: str) -> str:
    """Return a name as a resource that is that name; most are as they are."""
    if is_glob(part) and not is_bracketed(part):
        return literal(part)
    return part if _SPECIAL.isdisjoint(part) else literal(part)


def _any_case(part: str) -> str:
    """Return a glob for every spelling of a name in upper and lower case."""
    return "".join(
        f"[{char.upper()}{char.lower()}]"
        if char.upper() != char.lower() and len(char.upper()) == len(char.lower()) == 1
        else literal(char)
        for char in normalize("NFC", part)
    )


def _parted(path: str) -> tuple[str, str]:
    """Return a path's folders before the first part with a wildcard, and the rest."""
    parts = path.split("/")
    for depth, part in enumerate(parts):
        if is_glob(part) and not is_bracketed(part):
            front = "/".join(parts[:depth])
            return ("/" if not front and path.startswith("/") else front), "/".join(parts[depth:])
    return path, ""


def _has_worktree(folder: str, top: str) -> bool:
    """Whether another worktree or repository begins between the top and a folder below it."""
    while len(folder) > len(top):
        if os.path.lexists(f"{folder}/.git"):
            return True
        folder = folder.rpartition("/")[0]
    return False


def _copy_around(place: str, top: str) -> str | None:
    """Return the top of the copy of the same project around a path; None if there is none."""
    folder = Path(place)
    while not folder.is_dir():
        folder = folder.parent
    try:
        mine, other = nearest(Path(top)), nearest(folder)
    except OSError:
        return None
    return str(other.top) if other.root == mine.root and folder != folder.parent else None
