"""A day of a busy namespace, as fast as it goes: what Redis needs after each hour, with retention.

Ten runs at a time, 200 agents a run, 2,000 runs in 24 hours. An hour is that share of the runs, and
the times of retention are as much shorter. Agents start, report, find something, resolve an output
that the next one waits for, read what they are sent, and end; some signals are refused. Runs go on
beginning until the last hour is measured: at the end as at the beginning, ten are at work.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.connection import Connection
from benchmarks.process import Worker, progress, working
from benchmarks.server import Server, running
from fabric.errors import OverloadedError
from fabric.store.redis import RedisStore

RUNS = 2_000
HOURS = 24
AGENTS = 200
AT_A_TIME = 10

#: Signals sent in one request, and most that may wait: a fleet sends as fast as it is heard.
BATCH = 100
WAITING_MAX = 4_000

#: Commands of the slow log that are shown.
LONGEST = 5

#: Keys whose memory is asked for at a time.
PAGE = 1_000

#: One hour of the day in the rules' times, ms. If the machine takes longer for an hour of runs, or
#: less, sessions are kept for fewer hours, or more.
HOUR_MS = 30_000


def rules(runs: int) -> str:
    """Return the rules of a day of so many runs: a shorter one keeps as much less."""
    share = runs / RUNS
    hour_ms = int(HOUR_MS * share)
    return f"""
[retention]
sessions_max = {round(100 * share)}
recent_ms = {hour_ms}
ended_ms = {7 * 24 * hour_ms}
dead_ms = {7 * 24 * hour_ms}
look_ms = 1000
"""


@dataclass
class Hour:
    """What the server held after an hour of the day; MB."""

    hour: int
    runs: int
    signals: int
    sessions: int
    keys: int
    used: float
    resident: float
    #: Kind of key → how many there are, and their memory.
    kinds: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass
class Day:
    """The hours, and how long all took, s."""

    hours: list[Hour] = field(default_factory=list)
    seconds: float = 0.0
    #: The commands that took the server longest, and how long, ms.
    longest: list[tuple[float, str]] = field(default_factory=list)

    def note_slow(self, look: Connection) -> None:
        """Take up what was slow and empty the log, which the server keeps in memory."""
        slow = look.call("SLOWLOG", "GET", "-1")
        look.call("SLOWLOG", "RESET")
        for entry in slow:
            words = b" ".join(entry[3][:4]).decode("utf-8", "replace")
            self.longest.append((entry[2] / 1_000, words))
        self.longest = sorted(self.longest, reverse=True)[:LONGEST]

    @property
    def growth(self) -> float:
        """Return the memory after the last hour beside that after hour 2."""
        return self.hours[-1].used / self.hours[1].used


def run(binary: Path, runs: int) -> Day:
    """Play a day on a server of its own. Raises BenchmarkError if a worker ends."""
    day = Day()
    with tempfile.TemporaryDirectory() as folder, running(binary) as server:
        file = Path(folder) / "fabric.toml"
        file.write_text(rules(runs))
        flags = ("--redis-url", server.url)
        with (
            working("workers", "orchestrator", *flags, config=file) as one,
            working("workers", "synthesizer", *flags, config=file) as other,
        ):
            began = time.monotonic()
            asyncio.run(_play(server, (one, other), day, runs))
            day.seconds = time.monotonic() - began
    return day


def table(day: Day) -> str:
    """Return the hours as a table."""
    names = ("hour", "runs", "signals", "sessions", "keys", "used MB", "resident MB")
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for one in day.hours:
        lines.append(
            f"| {one.hour} | {one.runs:,} | {one.signals:,} | {one.sessions} | {one.keys:,} "
            f"| {one.used:.0f} | {one.resident:.0f} |"
        )
    lines.append(
        f"\nhour {day.hours[-1].hour} beside hour 2: {day.growth:.2f}; {day.seconds:.0f} s"
    )
    lines += [
        "",
        "| kind of key | hour 2: keys | MB | last hour: keys | MB |",
        "|---|---|---|---|---|",
    ]
    first, last = day.hours[1].kinds, day.hours[-1].kinds
    for kind in sorted(first | last, key=lambda kind: -last.get(kind, (0, 0.0))[1]):
        (keys, size), (later, grown) = first.get(kind, (0, 0.0)), last.get(kind, (0, 0.0))
        lines.append(f"| {kind} | {keys:,} | {size:.2f} | {later:,} | {grown:.2f} |")
    lines += ["", *(f"{took_ms:.1f} ms: {words}" for took_ms, words in day.longest)]
    return "\n".join(lines)


async def _play(server: Server, workers: tuple[Worker, ...], day: Day, runs: int) -> None:
    store = RedisStore(server.url)
    await store.partitions()
    look = server.connect()
    sent = ended = 0
    under_way: list[Iterator[list[bytes]]] = []
    begun = 0
    try:
        while ended < runs:
            if len(under_way) < AT_A_TIME:
                under_way.append(_run(begun))
                begun += 1
            for script in list(under_way):
                batch = list(islice(script, BATCH))
                sent += len(batch)
                await send(store, batch)
                if len(batch) < BATCH:
                    under_way.remove(script)
                    await _read_inboxes(store, ended)
                    ended += 1
                    if ended * HOURS // runs > len(day.hours):
                        await settle(store)
                        day.note_slow(look)
                        day.hours.append(_look(look, len(day.hours) + 1, ended, sent))
                        progress(f"hour {len(day.hours)}: {day.hours[-1].used:.0f} MB")
            for one in workers:
                one.check()
    finally:
        await store.close()


async def send(store: RedisStore, batch: list[list[bytes]]) -> None:
    while batch:
        with suppress(OverloadedError):
            await store.emit(0, batch, WAITING_MAX)
            return
        await asyncio.sleep(0.01)


async def settle(store: RedisStore) -> None:
    """Wait until all that was sent is decided and folded."""
    names = store.namespace.partition(0)
    while await store.length(names.signals) or await store.length(names.results):  # noqa: ASYNC110 - they are in other processes
        await asyncio.sleep(0.05)


async def _read_inboxes(store: RedisStore, number: int) -> None:
    """Let all agents of a run read what they were sent so far."""
    keys = store.namespace.partition(0).session(f"run-{number}")
    for agent in range(AGENTS):
        name = f"A{agent}"
        newest = await store.entries(keys.inbox(name), b"-", b"+", 1, newest_first=True)
        if newest:
            await store.set_cursor(keys.cursors, name, newest[0][0] + b" 0-0")


def _look(look: Connection, hour: int, runs: int, sent: int) -> Hour:
    memory = dict(
        line.split(":", 1) for line in look.call("INFO", "memory").decode().split() if ":" in line
    )
    sessions, keys = look.call("ZCARD", "fabric:{0}:sessions"), look.call("DBSIZE")
    used, resident = (int(memory[name]) / 1e6 for name in ("used_memory", "used_memory_rss"))
    return Hour(hour, runs, sent, sessions, keys, used, resident, _kinds(look))


def _kinds(look: Connection) -> dict[str, tuple[int, float]]:
    """Return how many keys of each kind there are, and what they take, MB."""
    found: dict[str, tuple[int, float]] = {}
    cursor = b"0"
    while True:
        cursor, page = look.call("SCAN", cursor, "COUNT", PAGE)
        for key in page:
            look.send("MEMORY", "USAGE", key, "SAMPLES", 0)
        for key in page:
            size = look.receive() or 0
            # `fabric:{0}:run-7:inbox:A3` is an inbox, `fabric:{0}:dead` is the partition's.
            kind = key.decode().split(":")[1:4][-1]
            keys, total = found.get(kind, (0, 0.0))
            found[kind] = keys + 1, total + size / 1e6
        if cursor == b"0":
            return found


def _run(number: int) -> Iterator[list[bytes]]:
    """Yield the signals of a run, as entries."""
    session = f"run-{number}"
    for step in range(6):
        for agent in range(AGENTS):
            kind, payload = _signal(step, agent)
            yield entry_of(session, kind, f"A{agent}", payload)
    yield entry_of(session, "PROGRESS", "A0", {"percent": 5})  # too late: it is refused
    yield entry_of(session, "RUN_CLOSED", "alice", {"by": "alice"})


def _signal(step: int, agent: int) -> tuple[str, dict[str, Any]]:
    output = f"d{agent // 2}"
    match step:
        case 0:
            produces = {"produces": [output]} if agent % 2 else {}
            return "STARTED", {"task": f"t{agent}", **produces}
        case 1 if not agent % 2:
            return "BLOCKED", {"on": output}
        case 2:
            found = {"key": f"k{agent}", "value": "x" * 200}
            return "PARTIAL_RESULT", {"partial": {"findings": [found]}, "percent": 40}
        case 3 if agent % 2:
            return "DEPENDENCY_RESOLVED", {"dependency_id": output, "output_location": "x.py"}
        case 5:
            return "COMPLETED", {}
    return "PROGRESS", {"percent": 10 * step}


def entry_of(session: str, kind: str, agent: str, payload: dict[str, Any]) -> list[bytes]:
    fields = {"session": session, "type": kind, "emitter": agent, "payload": json.dumps(payload)}
    return [item.encode() for pair in fields.items() for item in pair]
