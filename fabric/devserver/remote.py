"""The server of another host that a project has joined: `fabric init --server URL`.

Its URL holds a password. So it is not in the checkout but in the project's state folder, in a file
that only its owner can read. What flags, environment and files name counts more.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from fabric.devserver.project import Project, nearest
from fabric.errors import NotAllowedError

#: Bytes of the file: a URL with a certificate in it has about a thousand.
FILE_BYTES_MAX = 65_536


def _file(start: Path | None) -> Path:
    return Project(nearest(start).root).state / "joined"


def joined(start: Path | None = None) -> str | None:
    """Return the URL that the project around a folder has joined; None if it has joined none.

    A file that others can read or have written counts for nothing.
    """
    with suppress(OSError, UnicodeDecodeError):
        descriptor = os.open(_file(start), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            if mine and not found.st_mode & 0o077:
                return stream.read(FILE_BYTES_MAX).decode().strip() or None
    return None


def join(url: str, start: Path | None = None) -> Path:
    """Note the URL; return the file. Raises NotAllowedError if it cannot be written."""
    Project(nearest(start).root).prepare()
    path = _file(start)
    fresh = path.with_name(f"joined.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(url + "\n")
        fresh.replace(path)
    except OSError as error:
        raise NotAllowedError(f"{path} cannot be written: {error.strerror}") from error
    return path


def leave(start: Path | None = None) -> bool:
    """Forget the URL; return whether there was one."""
    path = _file(start)
    is_there = os.path.lexists(path)
    path.unlink(missing_ok=True)
    return is_there
