"""Overlaps and losses in failovers behind sentinels: `python -m tests.hosts.failovers`.

Four agents take turns at one file while primaries are killed, or frozen as if their host were cut
off. Each agent keeps a record of its own: from when to when it believed that it might write, and
which signals were acknowledged. Two that believed so at once are an overlap; an acknowledged signal
that is not in the log at the end is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.session import pages
from fabric.errors import EndedError, FabricError
from fabric.store.port import BEGINNING
from fabric.wire.stored import fields_of
from tests.support.daemon import Daemon
from tests.support.sentinel import Sentinels
from tests.support.servers import FLAVOUR_DEFAULT

#: How long an agent writes, s.
WRITE_S = 0.2

#: Pause between two failovers, s.
PAUSE_S = 1.0

NAMES = ("A", "B", "C", "D")


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
    """Return the acknowledged reports of each agent that are not in the log."""
    logged: set[bytes] = set()
    async with Fabric.connect(url) as fabric:
        async for page in pages(fabric.store, fabric.keys("s")[1], BEGINNING):
            for _, flat in page:
                said = fields_of(flat)
                if said.get(b"kind") == b"signal" and said.get(b"type") == b"PARTIAL_RESULT":
                    logged.add(said[b"payload"])
    return {
        name: [n for n in one.sent if not any(b'"%s%d"' % (name.encode(), n) in p for p in logged)]
        for name, one in records.items()
    }


def fail_over(service: Sentinels, way: str) -> None:
    """Take the primary away in one of the ways; return when all servers are well again."""
    service.wait_healthy()
    before = service.primary
    if way == "planned":
        service.failover()
    else:
        before.kill() if way == "kill" else before.freeze()
        service.wait_primary(other_than=before)
        before.start() if way == "kill" else before.thaw()
    service.wait_healthy()


async def measure(ways: list[str], times: int, wait: int) -> int:
    """Run, print what was found, and return how many overlaps and losses there were."""
    records = {name: Record() for name in NAMES}
    with Sentinels(FLAVOUR_DEFAULT) as service:
        workers = [Daemon(service.url), Daemon(service.url)]
        try:
            stop = asyncio.Event()
            tasks = [
                asyncio.create_task(work(service.url, name, wait, records[name], stop))
                for name in NAMES
            ]
            for number in range(times):
                await asyncio.sleep(PAUSE_S)
                await asyncio.to_thread(fail_over, service, ways[number % len(ways)])
                turns = sum(len(one.turns) for one in records.values())
                sys.stdout.write(f"{number + 1}: {ways[number % len(ways)]}, {turns} turns\n")
                sys.stdout.flush()
            await asyncio.sleep(5 * PAUSE_S)
            stop.set()
            await asyncio.gather(*tasks)
            missing = await lost(service.url, records)
        finally:
            for worker in workers:
                worker.close()
    shared = overlaps(records)
    sent = sum(len(one.sent) for one in records.values())
    turns = sum(len(one.turns) for one in records.values())
    sys.stdout.write(
        f"wait_replicas {wait}, {times} failovers ({', '.join(ways)}): {turns} turns, "
        f"{len(shared)} overlaps {[round(one[2], 3) for one in shared]}, {sent} reports, "
        f"{sum(map(len, missing.values()))} lost, "
        f"{sum(one.errors for one in records.values())} errors\n"
    )
    return len(shared) + sum(map(len, missing.values()))


def main() -> int:
    """Return 1 if anything overlapped or was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--wait", type=int, default=1, help="wait_replicas, of two replicas")
    parser.add_argument("--ways", default="kill,freeze", help="of kill, freeze, planned")
    given = parser.parse_args()
    return int(bool(asyncio.run(measure(given.ways.split(","), given.times, given.wait))))


if __name__ == "__main__":
    sys.exit(main())
