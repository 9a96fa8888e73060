"""What the hook does when the daemon does not answer: start it; else keep the event, and go on.

Runs without the packages of the fabric's environment (`python -S`): standard library, and the
modules beside it that need no more. An event that is kept reaches the daemon when it runs again
(`spool.py`). Without a daemon nothing is coordinated: by default the client goes on and is told so
once; with `--fail-closed` its writes are refused.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fabric.agents import dialect
from fabric.agents.event import Answer

#: Seconds for a daemon to be ready: Python starts and imports in about one, a busy machine in five.
START_S = 10.0

#: Seconds between two looks whether it is.
POLL_S = 0.02

#: Events for which the client waits a second at most (Codex): nothing is started for them.
_SHORT = (b'"SessionEnd"', b'"Interrupt"')

#: Events that are kept at most; the oldest stay, since they say what was written first.
SPOOL_MAX = 10_000

Reply = tuple[int, bytes, bytes]

_WHY = (
    "Signal Fabric: the agent daemon does not run and cannot be started ({reason}). Writes are not "
    "coordinated with other agents until it runs; events are kept for it."
)


@dataclass(frozen=True)
class Failed:
    """A request that the daemon has not answered."""

    #: The folder of the daemon's files, and its socket.
    folder: bytes
    path: bytes
    data: bytes
    #: What the client has given, which client it is, and where it works.
    body: bytes
    harness: str
    cwd: bytes
    #: Whether a write is refused while nothing can be coordinated.
    is_closed: bool


def answer(ask: Callable[[], Reply], failed: Failed) -> Reply:
    """Return exit code, stdout and stderr of the hook. `ask` asks the daemon once more."""
    folder = Path(os.fsdecode(failed.folder))
    reason = "there is no time to start it"
    if not any(mark in failed.body for mark in _SHORT):
        try:
            start(folder, failed.path)
            return ask()
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
    is_new = keep(folder, failed.data)
    event = dialect.read(failed.harness, failed.body, os.fsdecode(failed.cwd))
    if event is None:
        return 0, b"", b""
    said = _WHY.format(reason=reason)
    if failed.is_closed and event.is_write:
        said = f"{said} This write was refused (--fail-closed)."
        return dialect.render(event, Answer(refusal=said))
    if is_new and event.takes_context:
        return dialect.render(event, Answer(context=said))
    return 0, b"", b""


def start(folder: Path, path: bytes) -> None:
    """Start the daemon unless it runs; return when it listens. Raises OSError.

    One starts it: of two hooks that come at once, the second waits for the first one's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if listens(path):
            return
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        with (folder / "log").open("ab") as log:
            daemon = subprocess.Popen(  # noqa: S603 - this Python, and a module of ours
                [sys.executable, "-m", "fabric.agents", os.fsdecode(path)],
                env={**os.environ, "PYTHONPATH": paths},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not listens(path):
            if daemon.poll() is not None:
                raise OSError(f"it ended with {daemon.returncode}: {folder / 'log'}")
            if time.monotonic() > deadline:
                raise OSError(f"it was not ready within {START_S:g} s: {folder / 'log'}")
            time.sleep(POLL_S)


def listens(path: bytes) -> bool:
    """Whether a daemon listens on a socket."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found.connect(path)
    except OSError:
        return False
    finally:
        found.close()
    return True


def keep(folder: Path, data: bytes) -> bool:
    """Keep a request for the daemon; return whether it is the first since the daemon last ran."""
    with suppress(OSError):
        spool = folder / "spool"
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = len(os.listdir(spool))  # noqa: PTH208 - names are all that is needed, and there may be many
        if present < SPOOL_MAX:
            name = f"{time.time_ns():020d}-{os.getpid()}"
            fresh = spool / f".{name}"
            fresh.write_bytes(data)
            fresh.rename(spool / name)
        return present == 0
    return True
