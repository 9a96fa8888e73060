"""What a failover loses, and how long agents stall: `python -m tests.end_to_end.loss`.

It prints a row for each way to lose a primary, and each number of replicas that a signal waits for:
the acknowledged signals, those of them that never took effect, and the longest time between two
acknowledgements of one agent.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.end_to_end.convoy import convoy, heard
from tests.support.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.sentinel import Sentinels
from tests.support.servers import FLAVOUR_DEFAULT, flavours

#: What stands together, how its primary goes, replicas that a signal waits for, and that writes
#: need (min-replicas-to-write).
CASES = (
    ("sentinel", "kill", 0, 0),
    ("sentinel", "kill", 1, 0),
    ("sentinel", "freeze", 0, 0),
    ("sentinel", "freeze", 1, 0),
    ("sentinel", "failover", 0, 0),
    ("sentinel", "failover", 0, 1),
    ("sentinel", "failover", 1, 0),
    ("sentinel", "failover", 2, 0),
    ("cluster", "kill", 0, 0),
    ("cluster", "kill", 1, 0),
    ("cluster", "failover", 0, 0),
    ("cluster", "failover", 1, 0),
)

#: Signals that every agent must send before it counts as going on.
STEP = 40


@contextmanager
def running(kind: str, flavour: str, least: int) -> Iterator[tuple[str, Callable[[str], None]]]:
    """Run servers and workers; yield the URL, and a function that makes a primary go."""
    with (
        Sentinels(flavour, min_replicas=least) if kind == "sentinel" else Cluster(flavour)
    ) as servers:
        workers = [Daemon(servers.url), Daemon(servers.url)]
        try:
            yield servers.url, lambda way: _go(servers, way)
        finally:
            for worker in workers:
                worker.close()


def _go(servers: Sentinels | Cluster, way: str) -> None:
    if isinstance(servers, Sentinels):
        servers.wait_healthy()
        before = servers.primary
        if way == "failover":
            servers.failover()
            servers.wait_healthy()  # until the old primary refuses writes
        else:
            before.kill() if way == "kill" else before.freeze()
            servers.wait_primary(other_than=before)
        return
    servers.wait_healthy(of=6)
    if way == "failover":
        servers.failover(0)
    else:
        killed = servers.kill_primary(0)
        servers.wait_healthy(of=5)
        killed.start()
    servers.wait_healthy(of=6)


async def measure(
    kind: str, way: str, wait: int, least: int, flavour: str
) -> tuple[int, int, float]:
    """Return how many signals were acknowledged, how many are missing, and the longest pause, s."""
    with running(kind, flavour, least) as (url, go):
        async with convoy(url, wait_replicas=wait) as agents:
            await asyncio.to_thread(go, way)
            await agents.advance(STEP)
        found = await heard(url, agents.sent)
    missing = sum(
        len(set(range(1, count + 1)) - set(found[session]))
        for session, count in agents.sent.items()
    )
    return sum(agents.sent.values()), missing, agents.paused_s


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flavour", choices=flavours(), default=FLAVOUR_DEFAULT)
    parser.add_argument("--times", type=int, default=3, help="runs of each case")
    parser.add_argument("--only", default="", help="cases that begin so, as in 'sentinel kill'")
    given = parser.parse_args()
    print(f"{given.flavour}, {given.times} runs of each")
    print(f"{'servers':9} {'primary':9} {'WAIT':>4} {'least':>5} {'sent':>6}  missing    pause, s")
    for kind, way, wait, least in CASES:
        if not f"{kind} {way}".startswith(given.only):
            continue
        rows = []
        for _ in range(given.times):
            try:
                rows.append(asyncio.run(measure(kind, way, wait, least, given.flavour)))
            except AssertionError as error:
                print(f"{kind} {way}: {error}", file=sys.stderr)
        sent = sum(row[0] for row in rows)
        lost = ", ".join(str(row[1]) for row in rows)
        paused = ", ".join(f"{row[2]:.1f}" for row in rows)
        print(f"{kind:9} {way:9} {wait:4} {least:5} {sent:6}  {lost:9}  {paused}", flush=True)


if __name__ == "__main__":
    main()
