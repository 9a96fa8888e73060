"""Sick links between hosts, measured and judged: `python -m tests.hosts.links [CASE…]`.

Four hosts made from network namespaces: one with the server, one with an orchestrator and a crew of
agents, one with an orchestrator, and one with a crew. A relay between them cuts, loses, delays and
slows down packets. Judged as `crew.py` says; printed are the longest time without a turn while the
fault lasted, and the time from its end until the agents behind the sick link have had a turn.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from os import getloadavg
from pathlib import Path
from typing import Any

import msgspec
import redis

from tests.hosts.crew import Record, lost, overlaps, read
from tests.hosts.network import Host, environment, missing, network
from tests.hosts.relay import Link, Relay
from tests.support.servers import FLAVOUR_DEFAULT, binary
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]

#: Agents on the host whose link gets sick, and on the one whose link stays well.
SICK, WELL = ("A", "B"), ("C", "D")

#: Hosts with a server: the first primary, the replicas. Without sentinels, only the last.
SERVERS = ("one", "two", "server")

#: Bytes of one signal of a backlog.
BULK_BYTES = 75_000

#: Longest time after a fault until every agent has had a turn; and until all have ended, s.
END_S_MAX = 90


@dataclass(frozen=True)
class Case:
    """A fault of a host's link, for some seconds."""

    name: str
    last_s: float
    host: str
    link: dict[str, Any]
    with_sentinels: bool = False
    #: Whether all that runs on the host stands still meanwhile.
    is_frozen: bool = False
    #: Bytes of signals that wait when the fault begins; they must be decided while it lasts.
    backlog: int = 0
    #: Hosts with a worker.
    workers: tuple[str, ...] = ("one", "two")


CASES = {
    case.name: case
    for case in (
        Case("cut 10 s", 10, "one", {"is_cut": True}),
        Case("cut 60 s", 60, "one", {"is_cut": True}),
        Case("cut 120 s", 120, "one", {"is_cut": True}),
        Case("server cut 10 s", 10, "server", {"is_cut": True}),
        Case("loses 50 % of what it sends", 30, "one", {"loss_from": 0.5}),
        Case("loses 50 % of what it is sent", 30, "one", {"loss_to": 0.5}),
        Case("loses 90 % of what it sends", 30, "one", {"loss_from": 0.9}),
        Case("loses 90 % of what it is sent", 30, "one", {"loss_to": 0.9}),
        Case("half-open", 30, "one", {"loss_to": 1.0}),
        Case("200 ms away", 30, "one", {"delay_s": 0.1}),
        Case("1 Mbit/s", 30, "one", {"rate": 125_000}),
        Case("1 Mbit/s and a backlog", 90, "one", {"rate": 125_000}, backlog=3_000_000),
        Case(
            "the same, no other worker",
            90,
            "one",
            {"rate": 125_000},
            backlog=3_000_000,
            workers=("one",),
        ),
        Case("server frozen 30 s", 30, "server", {}, is_frozen=True),
        Case("the primary's host cut 30 s", 30, "one", {"is_cut": True}, with_sentinels=True),
        Case("the primary's host cut 120 s", 120, "one", {"is_cut": True}, with_sentinels=True),
    )
}


class Fleet:
    """The hosts at work, until the block ends. With sentinels, the first primary is on `one`."""

    def __init__(
        self,
        hosts: dict[str, Host],
        relay: Relay,
        folder: Path,
        *,
        with_sentinels: bool,
        workers: tuple[str, ...],
    ) -> None:
        self.hosts, self.relay, self._folder = hosts, relay, folder
        self._servers = SERVERS if with_sentinels else SERVERS[-1:]
        url = "redis://server:6379"
        if with_sentinels:
            addresses = (f"{hosts[name].address}:26379" for name in SERVERS)
            url = f"redis+sentinel://{','.join(addresses)}/fabric"
        self._environment = environment(binary(FLAVOUR_DEFAULT)) | {
            "PYTHONPATH": str(ROOT), "FABRIC_LEASE_MS": "2000", "FABRIC_CONFIG": "/dev/null",
            "FABRIC_REDIS_URL": url,
        }  # fmt: skip
        self._stop = folder / "stop"
        for name in self._servers:
            self._start_server(name)
        for host in workers:
            # By this name the worker on `one` has the partition, while both are well.
            self._start(host, f"python -m workers orchestrator --name orchestrator-{host}")
        for host, names in (("one", SICK), ("agents", WELL)):
            words = f"{','.join(names)} {int(with_sentinels)} {folder / host}.json {self._stop}"
            self._start(host, f"python -m tests.hosts.crew {url} {words}")

    def _start_server(self, host: str) -> None:
        common = "bind 0.0.0.0\nprotected-mode no\n"
        own = self._folder / f"redis-{host}"
        own.mkdir()
        lines = f'{common}dir {own}\nsave ""\nunixsocket {own}/redis.sock\n'
        if len(self._servers) > 1:
            primary = self.hosts[self._servers[0]].address
            lines += "repl-diskless-sync-delay 0\nrepl-timeout 5\nrepl-ping-replica-period 1\n"
            lines += "" if host == self._servers[0] else f"replicaof {primary} 6379\n"
            watch = f"port 26379\ndir {own}\nsentinel monitor fabric {primary} 6379 2\n"
            watch += "sentinel down-after-milliseconds fabric 2000\n"
            watch += "sentinel failover-timeout fabric 5000\n"
            (own / "sentinel.conf").write_text(common + watch)
            self._start(host, f"redis-server {own}/sentinel.conf --sentinel")
        (own / "redis.conf").write_text(lines)
        self._start(host, f"redis-server {own}/redis.conf")

    def _start(self, host: str, script: str) -> None:
        log = self._folder / f"{host}.log"
        self.hosts[host].start(
            f"exec {script}", folder=self._folder, environment=self._environment, log=log
        )

    def records(self) -> dict[str, Record]:
        """Return what the agents have noted so far."""
        paths = [self._folder / f"{host}.json" for host in ("one", "agents")]
        return {name: one for path in paths if path.exists() for name, one in read(path).items()}

    def has_turns(self, names: tuple[str, ...], since_s: float) -> bool:
        """Whether all these agents have begun a turn since then."""
        found = self.records()
        return all(
            name in found and any(begin > since_s for begin, _ in found[name].turns)
            for name in names
        )

    def said(self) -> str:
        """Return what all programs have printed."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.log")))[-4_000:]

    async def end(self) -> dict[str, list[int]]:
        """Let all agents end; return the acknowledged reports that are not in the log."""
        self._stop.touch()
        marks = [self._folder / f"{host}.done" for host in ("one", "agents")]
        await asyncio.to_thread(
            until, lambda: all(mark.exists() for mark in marks), self.said, END_S_MAX
        )
        primary = await asyncio.to_thread(self._primary)
        return await lost(f"unix://{primary}", self.records())

    def pile_up(self, size: int) -> None:
        """Add a backlog of so many bytes, from the server's own host."""
        partial = "x" * BULK_BYTES
        with redis.Redis(unix_socket_path=str(self._primary())) as asked:
            for number in range(size // BULK_BYTES):
                payload = msgspec.json.encode({"partial": {f"bulk{number}": partial}})
                fields = {"session": "s", "type": "PARTIAL_RESULT", "emitter": "BULK"}
                asked.xadd("fabric:{0}:signals", fields | {"payload": payload})

    def _primary(self) -> Path:
        """Return the socket of the only server that takes writes: a former primary may still."""
        found: list[Path] = []

        def is_one() -> bool:
            found.clear()
            for host in self._servers:
                path = self._folder / f"redis-{host}" / "redis.sock"
                with redis.Redis(unix_socket_path=str(path)) as asked:
                    if asked.info("replication")["role"] == "master":
                        found.append(path)
            return len(found) == 1

        until(is_one, self.said, END_S_MAX)
        return found[0]


@dataclass
class Outcome:
    """What a case has shown; times in s."""

    turns: int
    gap_s: float
    back_s: float
    overlaps: list[float]
    lost: int
    #: Whether a backlog was decided while the fault lasted: agents had turns after it.
    has_drained: bool

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost, no two wrote at once, and a backlog was decided."""
        return not self.overlaps and not self.lost and self.has_drained


@contextmanager
def fleet(case: Case) -> Iterator[Fleet]:
    """Make the hosts, and put them to work."""
    folder = Path(tempfile.mkdtemp(prefix="fabric-links-"))
    relay = Relay()
    try:
        with network(("server", "one", "two", "agents"), folder / "hosts", {}, relay) as hosts:
            yield Fleet(
                hosts, relay, folder, with_sentinels=case.with_sentinels, workers=case.workers
            )
    finally:
        relay.close()
        shutil.rmtree(folder, ignore_errors=True)


async def measure(case: Case) -> Outcome:
    """Run a case: work, the fault, and work again; every agent must have a turn after it."""
    with fleet(case) as running:
        await asyncio.to_thread(until, lambda: running.has_turns(SICK + WELL, 0.0), running.said)
        began = time.monotonic()
        running.relay.links[case.host] = Link(**case.link)
        running.pile_up(case.backlog)
        if case.is_frozen:
            running.hosts[case.host].freeze()
        await asyncio.sleep(case.last_s)
        if case.is_frozen:
            running.hosts[case.host].thaw()
        running.relay.links[case.host] = Link()
        ended = time.monotonic()
        await asyncio.to_thread(
            until, lambda: running.has_turns(SICK + WELL, ended), running.said, END_S_MAX
        )
        missing_reports = await running.end()
        records = running.records()
    firsts = [min(b for b, _ in records[name].turns if b > ended) for name in SICK]
    starts = sorted(begin for one in records.values() for begin, _ in one.turns)
    during = [began, *(at for at in starts if began < at < ended), ended]
    return Outcome(
        turns=len(starts),
        gap_s=max(after - before for before, after in pairwise(during)),
        back_s=max(firsts) - ended,
        overlaps=[round(shared_s, 3) for *_, shared_s in overlaps(records)],
        lost=sum(map(len, missing_reports.values())),
        has_drained=not case.backlog or during[-2] > began + case.last_s / 2,
    )


def main(names: list[str]) -> int:
    """Print a row for each case; return 1 if one was not well."""
    if why := missing():
        sys.exit(why)
    is_well = True
    for name in names or CASES:
        found = asyncio.run(measure(CASES[name]))
        is_well = is_well and found.is_well
        sys.stdout.write(
            f"{name:<30} longest gap {found.gap_s:5.1f} s, back after {found.back_s:5.1f} s, "
            f"{found.turns} turns, overlaps {found.overlaps}, lost {found.lost}"
            f"{'' if found.has_drained else ', the backlog stood still'}, "
            f"load {getloadavg()[0]:.0f}\n"
        )
        sys.stdout.flush()
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
