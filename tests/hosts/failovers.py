"""Overlaps and losses in failovers behind sentinels: `python -m tests.hosts.failovers`.

Four agents take turns at one file while primaries are killed, or frozen as if their host were cut
off. Each keeps a record of its own (`crew.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.hosts.crew import Record, lost, overlaps, work
from tests.support.daemon import Daemon
from tests.support.sentinel import Sentinels
from tests.support.servers import FLAVOUR_DEFAULT

#: Pause between two failovers, s.
PAUSE_S = 1.0

NAMES = ("A", "B", "C", "D")


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
