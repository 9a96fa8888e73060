"""Changes of files that can be taken back: planned, shown, written, and restored to the byte.

A journal in the user's state folder keeps each file as it was before the first change. A change
only inserts. So if the file was edited since, what was inserted is taken out and the rest stays:
members and items of JSON, lines of any other text. Links are followed: the link stays, its target
changes. A read-only file, or one in a read-only folder, is left alone.
"""

from __future__ import annotations

import base64
import difflib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric.agents.install import jsonc
from fabric.devserver.lock import holding
from fabric.devserver.project import state_home
from fabric.errors import NotAllowedError

#: Bytes of a configuration; a larger file is none.
FILE_BYTES_MAX = 4 * 1024 * 1024

#: Seconds for another `fabric init` to write the journal; that takes milliseconds.
JOURNAL_S = 10.0


@dataclass(frozen=True)
class Change:
    """A file as it is (None if it is not there) and as it is to be."""

    path: Path
    before: bytes | None
    after: bytes
    #: Permissions of a file that is made.
    mode: int = 0o644

    @property
    def is_empty(self) -> bool:
        """Whether the file is as it is to be."""
        return self.before == self.after

    def diff(self) -> Iterator[str]:
        """Yield the lines of a unified diff, without line breaks."""
        old, new = (_lines(one) for one in (self.before, self.after))
        name = str(self.path)
        head = "/dev/null" if self.before is None else name
        for line in difflib.unified_diff(old, new, head, name, lineterm=""):
            yield line.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read(path: Path) -> bytes | None:
    """Return what is in a file; None if there is none. Raises NotAllowedError."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # /dev/null, say: it would be replaced
            raise NotAllowedError(f"{path} is no regular file: mend or remove it")
        if found.st_size > FILE_BYTES_MAX:
            raise NotAllowedError(f"{path} is too large for a configuration")
        return path.read_bytes()
    except FileNotFoundError:
        for one in (path, *path.parents):
            if one.is_symlink() and not one.exists():
                raise NotAllowedError(f"{one} is a link to nothing: mend or remove it") from None
        return None
    except OSError as error:
        raise NotAllowedError(f"{path} cannot be read: {error.strerror}") from error


def why_not(change: Change) -> str:
    """Say why a file cannot be changed; "" if it can."""
    path, target = change.path, Path(os.path.realpath(change.path))
    if change.before is not None and _is_locked(target):
        return f"{path} is read-only: make it writable, or add the lines yourself"
    # A file is replaced by another one.
    folder = next(one for one in target.parents if one.exists())
    return f"{path}: {folder} cannot be written to" * _is_locked(folder)


def _is_locked(path: Path) -> bool:
    """Whether its owner has made it read-only, which does not stop root, or we may not write it."""
    return not path.stat().st_mode & stat.S_IWUSR or not os.access(path, os.W_OK)


class Journal:
    """What was changed for one scope, a project's folder or "user", in the order of the changes.

    One file in the user's state folder keeps it for all scopes.
    """

    def __init__(self, scope: str, path: Path | None = None) -> None:
        """Raises NotAllowedError if the journal cannot be read: what it says must not be lost."""
        self._scope, self._path = scope, path or state_home() / "init.json"
        self._entries: dict[str, dict[str, Any]] = self._all().get(scope, {})

    def _all(self) -> dict[str, dict[str, dict[str, Any]]]:
        try:
            return dict(json.loads(self._path.read_bytes())["changes"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotAllowedError(
                f"{self._path} cannot be read ({error}). It says what files were before: mend it, "
                "or move it away, and nothing can be undone"
            ) from error

    def paths(self) -> list[Path]:
        """Return the files that are changed."""
        return [*map(Path, self._entries)]

    def parts(self, path: Path) -> list[str]:
        """Return what was put into a file: clients, `mcp`, `git`."""
        return list(self._entries.get(str(path), {}).get("parts", []))

    def original(self, path: Path) -> tuple[bytes | None, list[str]]:
        """Return a file without our changes, and what of them was not found in it again.

        That is left in it: somebody has edited it.
        """
        now, entry = read(path), self._entries.get(str(path))
        if entry is None or now is None:  # what somebody has deleted is not brought back
            return now, []
        before, after = (_decoded(entry[name]) for name in ("before", "after"))
        if now in (before, after):
            return before, []
        return _without(now, before, after or b"", is_json=path.suffix == ".json")

    def apply(self, change: Change, parts: list[str]) -> None:
        """Write a change, and note how to take it back. Raises NotAllowedError."""
        if read(change.path) != change.before:  # while a person looked at the diff
            raise NotAllowedError(f"{change.path} was changed meanwhile: run this again")
        if reason := why_not(change):
            raise NotAllowedError(reason)
        before, _ = self.original(change.path)
        self.note(change.path, before, change.after, parts)  # first: a crash may come in between
        _write(change.path, change.after, change.mode)

    def note(self, path: Path, before: bytes | None, after: bytes, parts: list[str]) -> None:
        """Note what a file was, and is, without and with our parts."""
        known = self._entries.get(str(path), {})
        made = [str(one) for one in path.parents if not one.exists()]
        entry = {
            "parts": parts,
            "before": None if before is None else base64.b64encode(before).decode(),
            "after": base64.b64encode(after).decode(),
            "folders": known.get("folders") or made,
        }
        with self._changing():
            self._entries[str(path)] = entry

    def undo(self, path: Path) -> list[str]:
        """Restore a file; return what had to be left in it. Raises NotAllowedError."""
        before, left = self.original(path)
        entry, now = self._entries[str(path)], read(path)
        if now is not None and now != before:
            if reason := why_not(Change(path, now, b"")):
                raise NotAllowedError(reason)
            if before is None:
                path.unlink()
            else:
                _write(path, before, 0o644)
        for folder in [Path(one) for one in entry["folders"]]:
            with suppress(OSError):  # others have put something there
                folder.rmdir()
        with self._changing():
            self._entries.pop(str(path), None)
            for folder in filter(os.path.isdir, reversed(entry["folders"])):
                for other, heir in self._entries.items():
                    if Path(other).is_relative_to(folder) and folder not in heir["folders"]:
                        heir["folders"].append(folder)
                        heir["folders"].sort(key=len, reverse=True)  # the innermost first
        return left

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Inside, change what is noted here; what others have noted meanwhile stays."""
        lock = self._path.with_suffix(".lock")
        try:
            lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock.touch(0o600)
        except OSError as error:
            raise NotAllowedError(f"{lock} cannot be written: {error.strerror}") from error
        with holding(lock, JOURNAL_S):
            everything = self._all()
            self._entries = everything.setdefault(self._scope, {})
            yield
            kept = {scope: entries for scope, entries in everything.items() if entries}
            _write(self._path, json.dumps({"changes": kept}, indent=1).encode(), 0o600)


def _without(
    now: bytes, before: bytes | None, after: bytes, *, is_json: bool
) -> tuple[bytes | None, list[str]]:
    """Return an edited file without what was inserted into it, and what was not found again."""
    text, old, new = (
        (one or b"").decode("utf-8", "surrogateescape") for one in (now, before, after)
    )
    left: list[str] = []
    try:
        if not is_json:
            raise ValueError
        text, left = jsonc.without(text, old, new)
        is_empty = not jsonc.parse(text).value
    except ValueError:  # also what somebody has made no JSON
        text, left = _without_lines(text, old, new)
        is_empty = not text.strip()
    if before is None and is_empty:
        return None, left
    return text.encode("utf-8", "surrogateescape"), left


def _without_lines(text: str, before: str, after: str) -> tuple[str, list[str]]:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    left = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, *(first, last, start, end) in matcher.get_opcodes():
        inserted = "".join(new[start:end])
        if tag == "equal" or not inserted:
            continue
        if text.count(inserted) == 1:
            text = text.replace(inserted, "".join(old[first:last]))
        else:
            left.append(inserted)
    return text, left


def _lines(data: bytes | None) -> list[str]:
    return (data or b"").decode("utf-8", "surrogateescape").splitlines(keepends=True)


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file's content, through links, with its permissions kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        known = target.stat() if target.exists() else None
        if known is not None and known.st_nlink > 1:  # a new file would part the hard links
            target.write_bytes(data)
            return
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            fresh.chmod(stat.S_IMODE(known.st_mode) if known else mode)
            if known is not None and os.geteuid() == 0:
                os.chown(fresh, known.st_uid, known.st_gid)
            fresh.replace(target)
        except OSError:
            fresh.unlink()
            raise
    except OSError as error:
        raise NotAllowedError(f"{path} cannot be written: {error.strerror}") from error
