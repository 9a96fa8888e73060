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
from pathlib import Path
from typing import Any

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
        Case("the primary's host cut 30 s", 30, "one", {"is_cut": True}, with_sentinels=True),
        Case("the primary's host cut 120 s", 120, "one", {"is_cut": True}, with_sentinels=True),
    )
}


class Fleet:
    """The hosts at work, until the block ends. With sentinels, the first primary is on `one`."""

    def __init__(
        self, hosts: dict[str, Host], relay: Relay, folder: Path, *, with_sentinels: bool
    ) -> None:
        self._hosts, self.relay, self._folder = hosts, relay, folder
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
        for host in ("one", "two"):
            self._start(host, f"python -m workers orchestrator --name {host}")
        for host, names in (("one", SICK), ("agents", WELL)):
            words = f"{','.join(names)} {int(with_sentinels)} {folder / host}.json {self._stop}"
            self._start(host, f"python -m tests.hosts.crew {url} {words}")

    def _start_server(self, host: str) -> None:
        common = "bind 0.0.0.0\nprotected-mode no\n"
        own = self._folder / f"redis-{host}"
        own.mkdir()
        lines = f'{common}dir {own}\nsave ""\nunixsocket {own}/redis.sock\n'
        if len(self._servers) > 1:
            primary = self._hosts[self._servers[0]].address
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
        self._hosts[host].start(
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
        return await lost(f"unix://{self._primary()}", self.records())

    def _primary(self) -> Path:
        """Return the socket of the server that takes writes."""
        sockets = [self._folder / f"redis-{host}" / "redis.sock" for host in self._servers]
        for path in sockets:
            with redis.Redis(unix_socket_path=str(path)) as asked:
                if asked.info("replication")["role"] == "master":
                    return path
        raise AssertionError("no primary")


@dataclass
class Outcome:
    """What a case has shown; times in s."""

    turns: int
    gap_s: float
    back_s: float
    overlaps: list[float]
    lost: int

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost, and no two wrote at once."""
        return not self.overlaps and not self.lost


@contextmanager
def fleet(*, with_sentinels: bool) -> Iterator[Fleet]:
    """Make the hosts, and put them to work."""
    folder = Path(tempfile.mkdtemp(prefix="fabric-links-"))
    relay = Relay()
    try:
        with network(("server", "one", "two", "agents"), folder / "hosts", {}, relay) as hosts:
            yield Fleet(hosts, relay, folder, with_sentinels=with_sentinels)
    finally:
        relay.close()
        shutil.rmtree(folder, ignore_errors=True)


async def measure(case: Case) -> Outcome:
    """Run a case: work, the fault, and work again; every agent must have a turn after it."""
    with fleet(with_sentinels=case.with_sentinels) as running:
        await asyncio.to_thread(until, lambda: running.has_turns(SICK + WELL, 0.0), running.said)
        began = time.monotonic()
        running.relay.links[case.host] = Link(**case.link)
        await asyncio.sleep(case.last_s)
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
            f"{found.turns} turns, overlaps {found.overlaps}, lost {found.lost}\n"
        )
        sys.stdout.flush()
    return int(not is_well)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
