"""Agents that take turns at one file, each with a record of its own: `python -m tests.hosts.crew`.

The record says from when to when the agent believed that it might write, and which signals were
acknowledged. Two that believed so at once are an overlap; an acknowledged signal that is not in the
log at the end is lost. Times are those of the machine's clock, which all its hosts share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import msgspec

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.session import pages
from fabric.errors import EndedError, FabricError
from fabric.store.port import BEGINNING
from fabric.wire.stored import fields_of

#: How long an agent writes, s.
WRITE_S = 0.2

#: Dead letters that are looked at.
DEAD_MAX = 10_000

#: How often a crew looks whether it is to stop, s.
LOOK_S = 0.2


@dataclass
class Record:
    """What one agent knows: its turns at the file, its acknowledged signals, its errors."""

    turns: list[tuple[float, float]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    errors: int = 0
    incarnations: int = 0


async def work(url: str, name: str, wait: int, record: Record, stop: asyncio.Event) -> None:
    """Take turns at the file, and send numbered reports, until told to stop."""
    number = 0
    async with Fabric.connect(url, wait_replicas=wait, workspace="none") as fabric:
        while not stop.is_set():
            record.incarnations += 1
            try:
                async with fabric.agent(name, session="s", take_over=True) as agent:
                    while not stop.is_set():
                        number += 1
                        try:
                            await agent.partial_result({f"{name}{number}": number})
                            record.sent.append(number)
                            await turn(agent, record)
                        except EndedError:
                            raise
                        except FabricError:
                            record.errors += 1
            except FabricError:
                record.errors += 1


async def turn(agent: Agent, record: Record) -> None:
    """Hold the file for a moment, for as long as the library says that we may."""
    async with agent.writing("x", timeout=30) as grant:
        began = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(WRITE_S):
                await grant.lost.wait()
        record.turns.append((began, time.monotonic()))


def overlaps(records: dict[str, Record]) -> list[tuple[str, str, float]]:
    """Return pairs of agents that believed to hold the file at once, and for how long, s."""
    found = []
    for one, other in combinations(sorted(records), 2):
        for begin, end in records[one].turns:
            for start, stop in records[other].turns:
                shared_s = min(end, stop) - max(begin, start)
                if shared_s > 0:
                    found.append((one, other, shared_s))
    return found


async def lost(url: str, records: dict[str, Record]) -> dict[str, list[int]]:
    """Return the acknowledged reports of each agent that are neither in the log nor refused.

    One that was cut off for long is declared dead; what it sends then is refused, and it is told.
    """
    logged: set[bytes] = set()
    async with Fabric.connect(url) as fabric:
        partition, _ = fabric.keys("s")
        dead = fabric.store.namespace.partition(partition).dead
        for _, flat in await fabric.store.entries(dead, b"-", b"+", DEAD_MAX):
            logged.update(part for part in flat if part.startswith(b"{"))
        async for page in pages(fabric.store, fabric.keys("s")[1], BEGINNING):
            for _, flat in page:
                said = fields_of(flat)
                if said.get(b"kind") == b"signal" and said.get(b"type") == b"PARTIAL_RESULT":
                    logged.add(said[b"payload"])
    return {
        name: [n for n in one.sent if not any(b'"%s%d"' % (name.encode(), n) in p for p in logged)]
        for name, one in records.items()
    }


async def run(url: str, names: list[str], wait: int, out: Path, stop: Path) -> None:
    """Let agents work until a file is there; write their records into another."""
    records, is_over = {name: Record() for name in names}, asyncio.Event()
    tasks = [asyncio.create_task(work(url, name, wait, records[name], is_over)) for name in names]

    def note(*, is_last: bool) -> None:
        out.with_suffix(".new").write_bytes(msgspec.json.encode(records))
        out.with_suffix(".new").replace(out)
        if is_last:
            out.with_suffix(".done").touch()

    while not await asyncio.to_thread(stop.exists):
        await asyncio.sleep(LOOK_S)
        await asyncio.to_thread(note, is_last=False)
    is_over.set()
    await asyncio.gather(*tasks)
    await asyncio.to_thread(note, is_last=True)


def read(path: Path) -> dict[str, Record]:
    """Read the records of a crew."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Record])


if __name__ == "__main__":
    given = sys.argv[1:]
    asyncio.run(run(given[0], given[1].split(","), int(given[2]), Path(given[3]), Path(given[4])))
