"""Take over the data that an earlier version kept in the checkout, in `.fabric/`: once, or never.

Whoever can put a file there can have commands run by the server that loads it. So the data must be
ours by every sign that there is, and its first server knows no command but those on data.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fabric.devserver import launch, lock, repository, server
from fabric.devserver.project import SOCKET_BYTES_MAX, Project
from fabric.errors import HeldError, NotAllowedError

#: The append-only files: of servers up to 6.2, and of later ones.
DATA = ("appendonly.aof", "appendonlydir")

#: What else an earlier version has left there.
LEFT = ("lock", "server.lock", "server.json", "redis.sock", "redis.log", "redis.log.1")

#: Commands that reach beyond the data: code, files, other hosts, other settings. An append-only
#: file of the fabric has none of them: scripts are in it as the commands that they called.
_WITHHELD = (
    *("ACL", "BGREWRITEAOF", "BGSAVE", "CLUSTER", "CONFIG", "DEBUG", "EVAL", "EVALSHA", "FAILOVER"),
    *("MIGRATE", "MODULE", "MONITOR", "PSYNC", "REPLCONF", "REPLICAOF", "RESTORE", "SAVE"),
    *("SCRIPT", "SHUTDOWN", "SLAVEOF", "SYNC"),
)
#: The same, of servers from 7.0 on.
_WITHHELD_7 = ("EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO", "FUNCTION")


def take_over(project: Project) -> None:
    """Move the data in the checkout to the project's state folder if that has none. Needs `lock`.

    Raises NotAllowedError, with the reason, when the data may be somebody else's, and HeldError
    when a server of an earlier version still runs on it.
    """
    old = project.checkout
    held = [name for name in DATA if os.path.lexists(old / name)]
    if not held or any((project.state / name).exists() for name in DATA):
        return
    if why := _foreign(old):
        raise NotAllowedError(
            f"{old} holds data for a server, and {why}. A server obeys what is in it, so it is not "
            f"loaded. Remove {', '.join(held)} there to start with nothing; if you know that the "
            f"data is yours, move it to {project.state}"
        )
    if lock.is_held(old / "server.lock"):
        raise HeldError(
            f"{old}: a server of an earlier version of the fabric runs there; stop its `fabric up`"
        )
    fresh = project.state / "takeover"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        for name in held:
            copy = shutil.copytree if (old / name).is_dir() else shutil.copy2
            copy(old / name, fresh / name)
        _prove(fresh, old)
        for name in DATA:  # a newer server has put an old file into its folder
            if (fresh / name).exists():
                (fresh / name).rename(project.state / name)
    finally:
        shutil.rmtree(fresh)
    for name in (*held, "users"):
        shutil.rmtree(old / name, ignore_errors=True)
    for name in (*held, *LEFT):
        with suppress(OSError):
            (old / name).unlink()


def _prove(folder: Path, old: Path) -> None:
    """Load the data in a server that knows only commands on data, and end it.

    Raises NotAllowedError, with the end of its log, when it does not load them.
    """
    program, _ = launch.binary(folder)
    build = launch.build_of(program)
    is_new = build is not None and build.line >= (7, 0)
    withheld = [*_WITHHELD, *(_WITHHELD_7 if is_new else ())]
    options = [word for name in withheld for word in ("--rename-command", name, "")]
    path = folder / "s"
    socket = path if len(os.fsencode(path)) <= SOCKET_BYTES_MAX else Path(tempfile.mkdtemp()) / "s"
    process = launch.launch(program, folder, socket, None, options)
    try:

        def is_decided() -> bool:
            health = server.probe(socket)
            return process.poll() is not None or (health is not None and not health.loading)

        is_loaded = lock.wait_until(is_decided, server.LOADING_SECONDS_MAX)
        is_loaded = is_loaded and process.poll() is None
        process.terminate()
        lock.wait_until(lambda: process.poll() is not None, server.SHUTDOWN_SECONDS_MAX)
    finally:
        process.kill()
        process.wait()
        if socket.parent != folder:
            shutil.rmtree(socket.parent)
    if not is_loaded:
        raise NotAllowedError(
            f"{old} holds data that no fabric has written, so it is not taken over; move it away "
            f"to start with nothing. The server says:\n{launch.log_tail(folder / 'redis.log', 0)}"
        )


def _foreign(old: Path) -> str:
    """Say why the data in a folder may be somebody else's; "" when there is no sign of that."""
    if old.is_symlink():
        return "is a link"
    tree = repository.around(old.parent)
    is_tracked = tree is not None and repository.tracks(tree, old)
    if is_tracked is not False:
        return "git tracks it" if is_tracked else "it cannot be told whether git tracks it"
    mode = old.lstat().st_mode
    if mode & 0o077:
        return f"other users can enter it (mode {mode & 0o777:o}), so no fabric has made it"
    for path in _all(old):
        found = path.lstat()
        if found.st_uid != os.geteuid():
            return f"{path.name} belongs to another user (uid {found.st_uid})"
        if path.is_symlink() or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1):
            return f"{path.name} is a link"
        if path.name == ".git":
            return "it is a repository of git"
    return ""


def _all(folder: Path) -> Iterator[Path]:
    yield folder
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _all(path)
        else:
            yield path
