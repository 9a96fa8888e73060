"""The supervisor, with real workers: killed, frozen, drained, or left without a supervisor."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fabric.store.redis import RedisStore
from tests.support.daemon import LEASE_MS, environment
from tests.support.project_member import is_gone
from tests.support.servers import ROOT, RunningServer
from tests.support.waiting import eventually, until
from workers import supervisor
from workers.supervisor import Supervisor

FLEET = ("orchestrator", "orchestrator", "synthesizer")

#: Starts workers, prints their pids, and waits to be killed.
PARENT = """
import asyncio, json, sys
from workers.supervisor import Supervisor

async def main():
    workers = ["orchestrator", "synthesizer"]
    async with Supervisor(workers, sys.argv[1], say=lambda words: None) as fleet:
        print(json.dumps(fleet.pids), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the supervisor's sentences; hide the settings of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("FABRIC_")]:
        monkeypatch.delenv(name)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FABRIC_LEASE_MS", str(LEASE_MS))
    return []


async def owner(store: RedisStore) -> str:
    (found,) = await store.fields(store.namespace.partition(0).lease("orchestrators"), ["owner"])
    return (found or b"").decode()


async def test_workers_serve_and_are_drained(server: RunningServer, said: list[str]) -> None:
    store = RedisStore(server.url)
    async with Supervisor(FLEET, server.url, say=said.append) as fleet:
        assert sorted(fleet.pids) == ["orchestrator 1", "orchestrator 2", "synthesizer"]
        pids = list(fleet.pids.values())
        for pid in pids:
            assert os.getsid(pid) == pid  # a Ctrl-C at the terminal passes it by
        await eventually(lambda: owner(store), "one of them serves")
        await store.emit(0, [[b"session", b"s", b"type", b"PROGRESS", b"emitter", b"A"]], 10)
        log = store.namespace.partition(0).session("s").log
        await eventually(lambda: store.length(log), "the signal is handled")
    assert all(map(is_gone, pids))
    # They have drained: the lease was given up, it did not run out.
    assert await owner(store) == ""
    assert fleet.killed == []
    assert said == []
    await store.close()


async def test_one_that_dies_is_started_again(server: RunningServer, said: list[str]) -> None:
    store = RedisStore(server.url)
    async with Supervisor(FLEET[1:], server.url, say=said.append) as fleet:
        await eventually(lambda: owner(store), "it serves")
        pids, first = fleet.pids, await owner(store)
        os.kill(pids["orchestrator"], signal.SIGKILL)
        await eventually(lambda: fleet.pids["orchestrator"] != pids["orchestrator"], "it is back")
        assert fleet.pids["synthesizer"] == pids["synthesizer"]
        assert said == [
            f"orchestrator (pid {pids['orchestrator']}) was ended by SIGKILL; "
            "starting it again in 0.5 s",
            f"orchestrator is back (pid {fleet.pids['orchestrator']})",
        ]

        async def is_served_anew() -> bool:
            return await owner(store) not in ("", first)

        await eventually(is_served_anew, "the new one serves")
    await store.close()


async def test_one_that_cannot_run_is_tried_at_growing_pauses(
    server: RunningServer, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(supervisor, "RESTART_LONGEST_S", 0.03)
    wrong = {"FABRIC_LEASE_MS": "1"}
    async with Supervisor(
        FLEET[2:], server.url, environment=wrong, say=said.append, output=subprocess.DEVNULL
    ) as fleet:
        await eventually(lambda: len(said) >= 7, "it was tried three times")
        assert fleet.killed == []
    ended = [words.partition(") ")[2] for words in said[::2]]
    assert ended[:4] == [
        f"ended with exit code 2; starting it again in {pause} s"
        for pause in ("0.01", "0.02", "0.03", "0.03")
    ]


async def test_one_that_does_not_drain_is_killed(
    server: RunningServer, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "DRAIN_S", 0.2)
    async with Supervisor(FLEET, server.url, say=said.append) as fleet:
        frozen = fleet.pids["orchestrator 2"]
        # Before that it has no handler for SIGTERM, and would just end.
        await eventually(
            lambda: server.cli("ZCARD", "fabric:replicas:orchestrators") == 2, "both serve"
        )
        os.kill(frozen, signal.SIGSTOP)
    assert "orchestrator 2" in fleet.killed  # on a slow machine, others too
    assert is_gone(frozen)


async def test_an_abort_does_not_wait(server: RunningServer, said: list[str]) -> None:
    async with Supervisor(FLEET[:2], server.url, say=said.append) as fleet:
        for pid in fleet.pids.values():
            os.kill(pid, signal.SIGSTOP)
        fleet.abort()
    assert sorted(fleet.killed) == ["orchestrator 1", "orchestrator 2"]
    assert all(map(is_gone, fleet.pids.values()))


async def test_an_error_inside_the_block_leaves_no_worker(
    server: RunningServer, said: list[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Supervisor(FLEET, server.url, say=said.append) as fleet:
            raise ZeroDivisionError
    assert all(map(is_gone, fleet.pids.values()))


def test_workers_do_not_outlive_a_killed_supervisor_and_are_ours(
    server: RunningServer, said: list[str], tmp_path: Path
) -> None:
    # A project may have a package of this name.
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("raise SystemExit('not ours')\n")
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, server.url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        lease = "fabric:{0}:lease"
        until(lambda: server.cli("HGET", lease, "owner"), "they serve")
        parent.kill()
    until(lambda: all(map(is_gone, pids.values())), "they notice, and end")
    assert server.cli("HGET", lease, "owner") == ""


def test_one_whose_supervisor_is_gone_ends_even_when_it_cannot_drain(
    server: RunningServer, said: list[str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, server.url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        until(lambda: server.cli("HGET", "fabric:{0}:lease", "owner"), "they serve")
        server.kill()
        parent.kill()
    until(lambda: all(map(is_gone, pids.values())), "they end without a server")
