"""The end of a large run: close, export, purge, replay of the file, the same name again.

50,000 signals of 200 agents with 20,000 findings. Each command runs twice: left alone, and killed
in its middle together with both workers, then again. Another run beside it must stay as it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.connection import BenchmarkError, Connection
from benchmarks.day import entry_of, send, settle
from benchmarks.process import ROOT, Worker, environment, working
from benchmarks.server import Server, running
from fabric.store.redis import RedisStore

AGENTS = 200
FINDINGS = 20_000
SIGNALS = 50_000

PROGRAM = str(Path(sys.executable).with_name("fabric"))

#: Part of a command's own time after which it is killed.
MIDDLE = 0.4


@dataclass
class Step:
    """One command: s, its longest script, ms, memory after it, MB; and whether it was killed."""

    command: str
    seconds: float
    longest_ms: float
    used_mb: float
    is_killed: bool


def run(binary: Path) -> list[Step]:
    """Measure all steps on a server of its own. Raises BenchmarkError when something is wrong."""
    found: list[Step] = []
    with tempfile.TemporaryDirectory() as folder, running(binary) as server:
        flags = ("--redis-url", server.url, "--lease-ms", "1000")
        for is_killed in (False, True):
            with ExitStack() as workers:
                for name in ("orchestrator", "synthesizer"):
                    workers.enter_context(working("workers", name, *flags))
                asyncio.run(_work(server))
                other = _dump(server.connect(), "other")
            found += _end(server, flags, Path(folder), found if is_killed else [])
            if _dump(server.connect(), "other") != other:
                raise BenchmarkError("another run was touched")
    return found


def table(steps: list[Step]) -> str:
    """Return the steps as a table."""
    lines = ["| command | s | longest script, ms | memory after it, MB |", "|---|---|---|---|"]
    for one in steps:
        how = ", killed in its middle with both workers, and again" if one.is_killed else ""
        row = f"| `{one.command}`{how} | {one.seconds:.1f} | {one.longest_ms:.1f} |"
        lines.append(f"{row} {one.used_mb:.0f} |")
    return "\n".join(lines)


def _end(server: Server, flags: tuple[str, ...], folder: Path, before: list[Step]) -> list[Step]:
    file = folder / "big.ndjson.gz"
    commands = [
        ["close", "big", "--by", "eva"],
        ["export", "big", "--out", str(file)],
        ["replay", str(file)],
        ["purge", "big", "--yes", "--by", "eva"],
        ["emit", "STARTED", "--session", "big", "--agent", "A", "--confirm"],
        ["replay", "big"],
    ]
    look, found = server.connect(), []
    for number, words in enumerate(commands):
        look.call("SLOWLOG", "RESET")
        began = time.monotonic()
        with ExitStack() as workers:
            both = [workers.enter_context(working("workers", w, *flags)) for w in _WORKERS]
            if before:
                _kill_in_the_middle(server, words, both, before[number].seconds * MIDDLE)
        with ExitStack() as workers:
            for name in _WORKERS:
                workers.enter_context(working("workers", name, *flags))
            _fabric(server, words, may_be_done=bool(before))
            seconds = time.monotonic() - began
        slow = look.call("SLOWLOG", "GET", "-1")
        longest_ms = max((entry[2] / 1_000 for entry in slow), default=0.0)
        memory = look.call("INFO", "memory").decode()
        used = int(memory.split("used_memory:")[1].split()[0]) / 1e6
        name = " ".join(Path(word).name if "/" in word else word for word in words)
        found.append(Step(name, seconds, longest_ms, used, bool(before)))
        sys.stderr.write(f"{found[-1]}\n")
    look.call("XADD", "fabric:{0}:signals", "*", *entry_of("big", "COMPLETED", "A", {}))
    return found


_WORKERS = ("orchestrator", "synthesizer")


def _kill_in_the_middle(
    server: Server, words: list[str], workers: list[Worker], after_s: float
) -> None:
    command = subprocess.Popen(
        [PROGRAM, *words],
        cwd=ROOT,
        env=environment() | {"FABRIC_REDIS_URL": server.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after_s)
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    command.kill()
    command.wait()


def _fabric(server: Server, words: list[str], *, may_be_done: bool) -> None:
    done = subprocess.run(
        [PROGRAM, *words],
        cwd=ROOT,
        env=environment() | {"FABRIC_REDIS_URL": server.url},
        capture_output=True,
        text=True,
        check=False,
    )
    # A run that is closed already, and a session that is gone already, are refused.
    is_done = may_be_done and words[0] in ("close", "purge") and done.returncode in (3, 4)
    if done.returncode and not is_done:
        raise BenchmarkError(f"fabric {' '.join(words)}: {done.returncode}\n{done.stderr}")


def _dump(look: Connection, session: str) -> dict[bytes, bytes]:
    keys = look.call("KEYS", f"fabric:{{0}}:{session}:*".replace("{", "[{]").replace("}", "[}]"))
    return {key: look.call("DUMP", key) for key in sorted(keys)}


async def _work(server: Server) -> None:
    store = RedisStore(server.url)
    await store.partitions()
    try:
        for session, share in (("other", 50), ("big", 1)):
            batch = []
            for number in range(SIGNALS // share):
                agent = f"A{number % AGENTS}"
                kind, payload = "PROGRESS", dict[str, Any](percent=number % 100)
                if number < AGENTS:
                    kind, payload = "STARTED", {"produces": [f"d{number}"]}
                elif number % 5 < 2 and number // 5 * 2 < FINDINGS:
                    finding = {"key": f"k{number}", "value": "x" * 100}
                    kind, payload = "PARTIAL_RESULT", {"partial": {"findings": [finding]}}
                batch.append(entry_of(session, kind, agent, payload))
                if len(batch) == 200:
                    await send(store, batch)
                    batch = []
            if session == "other":
                # Nothing happens in it any more: each of its bytes stays.
                batch.append(entry_of(session, "RUN_CLOSED", "eva", {"by": "eva"}))
            await send(store, batch)
        await settle(store)
    finally:
        await store.close()
