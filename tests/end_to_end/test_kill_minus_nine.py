"""Orchestrators are killed repeatedly; nothing is lost, and nothing takes effect twice.

The default size fits the suite's budget; FABRIC_TEST_FULL=1 runs fifty agents, 20,000 signals and
twenty kills.
"""

import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from fabric.store.keys import ORCHESTRATORS, Namespace, SessionKeys
from tests.end_to_end.swarm import agent_name, session_name
from tests.support.daemon import Daemon, StartDaemon, environment
from tests.support.keyspace import Row, rows, session, values
from tests.support.servers import ROOT, RunningServer
from tests.support.waiting import until

NAMESPACE = Namespace()


@dataclass(frozen=True)
class Size:
    """Numbers of signals, sessions and partitions, and of kills."""

    agents: int
    signals_each: int
    kills: int
    partitions: int
    sessions: int = 3
    lease_ms: int = 500

    @property
    def signals(self) -> int:
        return self.agents * self.signals_each


FULL = os.environ.get("FABRIC_TEST_FULL", "") not in ("", "0")
#: With one partition every kill hits the only active worker; with two, leases also change hands
#: when a worker joins.
SIZES = (
    (Size(50, 400, 20, partitions=1), Size(50, 400, 8, partitions=2))
    if FULL
    else (Size(10, 400, 5, partitions=1), Size(10, 200, 2, partitions=2))
)
#: Time limit of the whole run, s; at full size it takes under one minute on two cores.
RUN_SECONDS_MAX = 600.0


class Workers:
    """Two orchestrators, each started again after it is killed."""

    def __init__(self, server: RunningServer, start: StartDaemon, size: Size, rules: Path) -> None:
        self._size = size
        self._rules = rules
        self._server = server
        self._start = start
        self._names = (f"worker-{number}" for number in itertools.count(1))
        self.daemons = [self._next(), self._next()]

    def _next(self) -> tuple[str, Daemon]:
        name = next(self._names)
        flags = ("--name", name, "--partitions", str(self._size.partitions))
        return name, self._start(
            self._server.url, *flags, lease_ms=self._size.lease_ms, rules=self._rules
        )

    def owners(self) -> set[str]:
        """Return the names in the leases."""
        return {
            values(self._server, NAMESPACE.partition(number).lease(ORCHESTRATORS)).get("owner", "")
            for number in range(self._size.partitions)
        }

    def busy(self) -> list[int]:
        """Return which of the two hold a lease."""
        held = self.owners()
        return [number for number, (name, _) in enumerate(self.daemons) if name in held]

    def said(self) -> str:
        return "\n".join(f"{name}:\n{one.said()}" for name, one in self.daemons)

    def kill(self, turn: int) -> None:
        """Kill a worker that holds a lease, taking turns if both do, and start another."""
        busy: list[int] = []

        def found() -> bool:
            # A lease may expire between two looks: kill the worker that this look finds.
            busy[:] = self.busy()
            return bool(busy)

        until(found, self.said)
        victim = busy[turn % len(busy)]
        self.daemons[victim][1].kill()
        self.daemons[victim] = self._next()


def sessions(size: Size) -> list[SessionKeys]:
    return [
        session(session_name(number, size.sessions), partitions=size.partitions)
        for number in range(size.sessions)
    ]


def logged(server: RunningServer, size: Size) -> int:
    """Return the number of log entries in all sessions."""
    return sum(int(server.cli("XLEN", keys.log)) for keys in sessions(size))


def ingress(server: RunningServer, size: Size) -> int:
    return sum(
        int(server.cli("XLEN", NAMESPACE.partition(number).signals))
        for number in range(size.partitions)
    )


@pytest.mark.chaos
@pytest.mark.parametrize(
    "size",
    [SIZES[0], pytest.param(SIZES[1], marks=pytest.mark.slow)],
    ids=lambda size: f"partitions-{size.partitions}",
)
def test_nothing_is_lost_and_nothing_takes_effect_twice(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path, size: Size
) -> None:
    # Retention, which looks at every full minute, would take out what was read long before.
    rules = tmp_path / "fabric.toml"
    rules.write_text("[retention]\nread_events = 1000000\n")
    workers = Workers(server, daemon, size, rules)
    until(lambda: "" not in workers.owners(), "the partitions are taken")
    said = tmp_path / "swarm"
    with said.open("wb") as stderr:
        swarm = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.end_to_end.swarm", server.url),
                *map(str, (size.sessions, size.agents, size.signals_each)),
            ],
            cwd=ROOT,
            env=environment(),
            stderr=stderr,
        )
        try:
            for turn in range(size.kills):
                due = logged(server, size) + size.signals // (3 * size.kills)
                until(partial(_has_logged, server, size, due), said.read_text)
                workers.kill(turn)
            assert ingress(server, size) or swarm.poll() is None, (
                "killed while there was work to do"
            )
            until(lambda: swarm.poll() is not None, "the agents end", RUN_SECONDS_MAX)
        finally:
            swarm.kill()
            swarm.wait()
    assert swarm.returncode == 0, said.read_text()
    until(lambda: ingress(server, size) == 0, workers.said)
    for _, one in workers.daemons:
        one.hear("serving")
        one.terminate()
    assert [one.wait() for _, one in workers.daemons] == [0, 0], workers.said()

    log = {keys.name: rows(server, keys.log) for keys in sessions(size)}
    check_signals(log, size)
    check_results(server, log, size)
    for keys in sessions(size):
        check_messages(server, keys, log[keys.name], size)
    check_ingress(server, size)
    check_keys(server, size)


def _has_logged(server: RunningServer, size: Size, count: int) -> bool:
    return logged(server, size) >= count


def check_signals(log: dict[str, list[Row]], size: Size) -> None:
    """Check that every signal is in the log once, and each agent's in order."""
    heard: dict[str, list[int]] = defaultdict(list)
    for entries in log.values():
        signals = [row for row in entries if row["kind"] == "signal"]
        others = [row for row in entries if row["type"] in ("TIMER", "OUTAGE")]
        assert sorted(int(row.id.partition("-")[0]) for row in (*signals, *others)) == list(
            range(1, len(signals) + len(others) + 1)
        )
        for row in signals:
            heard[row["emitter"]].append(int(row["seq"]))
    assert heard == {
        agent_name(number): list(range(1, size.signals_each + 1)) for number in range(size.agents)
    }
    assert sum(map(len, heard.values())) == size.signals


#: Signals that hold results; the results stream also holds starts and progress.
GIVING = ("PARTIAL_RESULT", "COMPLETED")


def check_results(server: RunningServer, log: dict[str, list[Row]], size: Size) -> None:
    """Check that each PARTIAL_RESULT and each end is in the results once, unchanged."""
    expected = Counter(
        (name, row.id, row["emitter"], row["payload"])
        for name, entries in log.items()
        for row in entries
        if row["kind"] == "signal" and row["type"] in GIVING
    )
    found = Counter(
        (row["session"], row["cause"], row["emitter"], row["payload"])
        for number in range(size.partitions)
        for row in rows(server, NAMESPACE.partition(number).results)
        if row["type"] in GIVING
    )
    assert found == expected
    keys = [
        row.payload["partial"]["findings"][0]["key"]
        for number in range(size.partitions)
        for row in rows(server, NAMESPACE.partition(number).results, type="PARTIAL_RESULT")
    ]
    spoken = [turn for turn in range(size.signals_each - 2) if turn % 10 in (2, 5)]
    assert sorted(keys) == sorted(f"{n}/{turn}" for n in range(size.agents) for turn in spoken)


def check_messages(server: RunningServer, keys: SessionKeys, log: list[Row], size: Size) -> None:
    """Check that every message in the log is in the right inbox once, under the same id."""
    expected: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in log:
        if row["to"]:
            expected[row["to"]].append((row.id, row["type"]))
    for name in (*map(agent_name, range(size.agents)), "*"):
        key = keys.broadcast if name == "*" else keys.inbox(name)
        delivered = [(row.id, row["type"]) for row in rows(server, key)]
        assert delivered == expected.pop(name, []), f"messages to {name}"
        assert len(set(delivered)) == len(delivered)
    assert not expected, "messages to nobody that there is"


def check_ingress(server: RunningServer, size: Size) -> None:
    for number in range(size.partitions):
        key = NAMESPACE.partition(number).signals
        assert server.cli("XLEN", key) == 0
        assert server.cli("XPENDING", key, ORCHESTRATORS)[0] == 0
        lease = values(server, NAMESPACE.partition(number).lease(ORCHESTRATORS))
        assert int(lease["version"]) > 0, "every partition had work"


def check_keys(server: RunningServer, size: Size) -> None:
    """Check that every key is one that the documentation names."""
    named = {NAMESPACE.meta, NAMESPACE.workers(ORCHESTRATORS)}
    for number in range(size.partitions):
        part = NAMESPACE.partition(number)
        named |= {part.signals, part.results, part.sessions, part.deadlines}
        named |= {part.lease(ORCHESTRATORS)}
    for keys in sessions(size):
        named |= {keys.log, keys.meta, keys.agents, keys.dependencies}
        named |= {keys.cursors, keys.incarnations}
        named |= {keys.inbox(agent_name(number)) for number in range(size.agents)}
    assert set(server.cli("KEYS", "*")) <= named
    for keys in sessions(size):
        assert server.cli("TYPE", keys.log) == "stream"
