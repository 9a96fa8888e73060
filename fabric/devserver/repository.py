"""Git's own files, read without running git, which runs programs that a checkout's settings name.

The files are those of gitrepository-layout(5), git-worktree(1) and gitformat-index(5).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: Bytes of a file that holds one path.
PATH_BYTES_MAX = 8_192

#: Bytes of an index entry before its object's name: times, device, inode, mode, owner, size.
_STAT_BYTES = 40
#: Bytes of an object's name: SHA-1, or SHA-256.
_NAME_BYTES = (20, 32)


class Worktree(NamedTuple):
    """A copy of a repository's files."""

    #: Its top folder.
    top: Path
    #: Its own git folder, which holds its index.
    git: Path
    #: The same for all worktrees of the repository: the top of the main one; the git folder itself
    #: if it is bare, or kept apart from the files.
    home: Path


def at(folder: Path) -> Worktree | None:
    """Return the worktree whose top is `folder`; None if it is none. Never raises.

    A submodule is part of the worktree around it. A folder that only claims to belong to another
    repository is a repository of its own: its `.git` may have come with an archive, so the
    repository must name the folder as well.
    """
    if not os.path.lexists(f"{folder}/.git"):
        return None
    mark = folder / ".git"
    git = (mark if _is(mark, stat.S_IFDIR) else _target(mark, "gitdir: ")).resolve()
    around = [one for one in (git, *git.parents) if is_git_folder(one)]
    if not around:
        return Worktree(folder, git, folder)
    outermost = around[-1]
    home = outermost.parent if outermost.name == ".git" else outermost
    holder = home if outermost.name == ".git" else folder
    for inner in (git, *git.parents):
        if inner == outermost:
            break
        if _is(inner / "commondir", stat.S_IFREG):  # of a worktree that `git worktree add` has made
            holder = _target(inner / "gitdir", "").resolve().parent
            break
    if holder == folder:
        return Worktree(folder, git, home)
    return None if holder in folder.parents else Worktree(folder, git, folder)


def strayed(folder: Path) -> Path | None:
    """Return the worktree around a folder that was moved by hand; None if there is none.

    Its repository looks for it where nothing is any more.
    """
    found = around(folder)
    if found is None or not _is(found.git / "commondir", stat.S_IFREG):
        return None
    known = _target(found.git / "gitdir", "")
    return None if os.path.lexists(known) else found.top


def around(folder: Path) -> Worktree | None:
    """Return the innermost repository around a folder, a submodule too."""
    for top in (folder, *folder.parents):
        if os.path.lexists(mark := top / ".git"):
            git = mark if _is(mark, stat.S_IFDIR) else _target(mark, "gitdir: ")
            return Worktree(top, git.resolve(), top)
    return None


def tracks(worktree: Worktree, path: Path) -> bool | None:
    """Return whether git tracks anything at or below a path; None when its index is not clear."""
    try:
        if not os.path.lexists(index := worktree.git / "index"):
            return False
        data = index.read_bytes()
    except OSError:
        return None
    # Some file systems fold case: there, another spelling is the same folder.
    wanted = os.fsencode(path.relative_to(worktree.top)).lower() + b"/"
    for size in _NAME_BYTES:
        try:
            names = [name.lower() for name in _index(data, size)]
        except (ValueError, struct.error):
            continue
        # A sparse index has a folder's name, with a slash, in place of its files.
        return any(
            (name + b"/").startswith(wanted) or (name.endswith(b"/") and wanted.startswith(name))
            for name in names
        )
    return None


def _index(data: bytes, name_bytes: int) -> Iterator[bytes]:
    """Yield the paths in an index. Raises ValueError or struct.error when it is not understood."""
    kind, version, count = struct.unpack_from(">4sII", data)
    if kind != b"DIRC" or version not in (2, 3, 4):
        raise ValueError
    at, path = 12, b""
    for _ in range(count):
        begin = at
        at += _STAT_BYTES + name_bytes
        (flags,) = struct.unpack_from(">H", data, at)
        at += 4 if flags & 0x4000 else 2
        if version == 4:
            cut, at = _number(data, at)
            path = path[: len(path) - cut]
        else:
            path = b""
        end = data.index(b"\0", at)
        path += data[at:end]
        at = end + 1 if version == 4 else begin + (end - begin) // 8 * 8 + 8
        if len(path) != flags & 0xFFF and flags & 0xFFF != 0xFFF:
            raise ValueError
        yield path
    while at < len(data) - name_bytes:
        extension, size = struct.unpack_from(">4sI", data, at)
        if extension == b"link":  # the other half of the index is in another file
            raise ValueError
        at += 8 + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and the place behind it."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = ((value + 1) << 7) + (data[at] & 0x7F)
    return value, at + 1


def is_git_folder(folder: Path) -> bool:
    """Return whether a folder is a git folder, such as `.git` or a bare repository."""
    return _is(folder / "HEAD", stat.S_IFREG) and _is(folder / "objects", stat.S_IFDIR)


def _is(path: Path, kind: int) -> bool:
    try:
        return stat.S_IFMT(path.stat().st_mode) == kind
    except (OSError, ValueError):  # ValueError: a NUL in a path that a file has named
        return False


def _target(file: Path, prefix: str) -> Path:
    """Return the path that a file of git holds, from the file's folder; the file itself if none."""
    try:
        if not _is(file, stat.S_IFREG):  # a pipe would be waited for
            return file
        with file.open("rb") as stream:
            said = os.fsdecode(stream.read(PATH_BYTES_MAX))
    except OSError:
        return file
    if not said.startswith(prefix) or "\0" in said:
        return file
    return file.parent / said.removeprefix(prefix).rstrip("\r\n")
