"""The command of a job, below its warden: started, told to end, its output kept and passed on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote

from fabric.agents import hook, warden
from fabric.agents.output import VENDORS
from fabric.devserver.project import state_home
from fabric.errors import NotAllowedError

#: Seconds that a command has to end after SIGTERM, before all of it is killed. Claude Code and
#: Gemini CLI say goodbye to their hooks meanwhile.
STOP_S = 10.0
#: Bytes of one run's output that are kept, and days after which a kept output is deleted.
KEPT_BYTES_MAX = 64 * 1024 * 1024
KEPT_DAYS = 14


@dataclass(frozen=True)
class Job:
    """One agent to run."""

    name: str
    command: tuple[str, ...]
    stream: str = ""
    priority: int = 0
    task: str = ""
    #: Where it works; None for the present folder.
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Give it our terminal: its output is then neither read nor kept.
    has_terminal: bool = False

    @property
    def harness(self) -> str:
        """The coding agent that the command is, by its name; "" for any other program."""
        name = Path(self.command[0]).name
        return name if name in VENDORS else ""

    @property
    def is_fed(self) -> bool:
        """Whether it reads one JSON document a line while it works, and so can be woken."""
        words = " ".join(self.command).replace("--input-format=", "--input-format ")
        is_read = "--input-format stream-json" in words
        return self.harness == "claude" and is_read and not self.has_terminal


@asynccontextmanager
async def started(
    job: Job, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command below a warden; when the block ends, nothing of it is left."""
    lifeline, ours = os.pipe()
    pipe = None if job.has_terminal else asyncio.subprocess.PIPE
    empty = asyncio.subprocess.DEVNULL
    # A group in the background cannot read a terminal: the kernel would stop it.
    is_blind = not job.has_terminal and sys.stdin is not None and sys.stdin.isatty()
    variables = {os.fsencode(name): os.fsencode(one) for name, one in environment.items()}
    lock = os.fsdecode(hook.folder(variables)) + "/daemon.lock"
    words = ["-I", "-S", warden.__file__, str(lifeline), lock, *job.command]
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *words),
            stdin=pipe if job.is_fed else empty if is_blind else None,
            stdout=pipe,
            stderr=pipe,
            cwd=job.folder,
            env=environment,
            pass_fds=(lifeline,),
            # With the terminal it stays in our group, which the shell has put in the foreground.
            process_group=None if job.has_terminal else 0,
        )
    except OSError as error:
        os.close(ours)
        raise NotAllowedError(f"{job.name} cannot start in {job.folder}: {error}") from error
    finally:
        os.close(lifeline)
    try:
        yield process
    finally:
        os.close(ours)
        await asyncio.shield(process.wait())


async def stop(process: asyncio.subprocess.Process) -> None:
    """Tell the command to end; return when it has, or after STOP_S."""
    with suppress(ProcessLookupError):
        process.terminate()  # the warden passes it on
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            await process.wait()


def show(file: IO[str], chunk: bytes) -> bool:
    """Write to a stream of ours; return whether its reader is still there."""
    try:
        file.buffer.write(chunk)  # type: ignore[attr-defined] # a text file over bytes
        file.flush()
    except (OSError, ValueError):
        return False
    return True


def signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def keep(session: str, agent: str) -> Path:
    """Return the file for a run's output; delete those that are older than KEPT_DAYS."""
    top = state_home() / "output"
    folder = top / quote(session, safe="")
    top.parent.parent.mkdir(parents=True, exist_ok=True)
    for one in (top.parent, top, folder):
        one.mkdir(mode=0o700, exist_ok=True)
    oldest = time.time() - KEPT_DAYS * 86_400
    for old in top.glob("*/*.log"):
        with suppress(OSError):
            if old.stat().st_mtime < oldest:
                old.unlink()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    kept = folder / f"{quote(agent, safe='')}-{stamp}-{os.urandom(2).hex()}.log"
    kept.touch(mode=0o600)
    return kept


def pass_on(process: asyncio.subprocess.Process) -> None:
    """Give our standard input to a command that is fed; the end of ours is the end of its own."""
    loop = asyncio.get_running_loop()

    def write(line: bytes) -> None:
        if process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(line) if line else process.stdin.close()

    def read() -> None:
        with suppress(RuntimeError, OSError, ValueError):  # we have ended, or have none
            while line := sys.stdin.buffer.readline():
                loop.call_soon_threadsafe(write, line)
            loop.call_soon_threadsafe(write, b"")

    # Nothing ends a read of a terminal but its reader's end.
    threading.Thread(target=read, daemon=True).start()
