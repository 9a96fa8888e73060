"""`fabric up`: real processes, real signals, nothing left behind."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric import Fabric, devserver
from fabric.devserver.project import Project
from tests.cli.up_process import project, up
from tests.support.project_member import is_gone
from tests.support.servers import RunningServer
from tests.support.shell import Shell
from tests.support.waiting import until

pytestmark = pytest.mark.server


@pytest.fixture
def here(lone: Shell) -> Iterator[Shell]:
    with project(lone) as found:
        yield found


def test_signals_are_handled_and_ctrl_c_leaves_nothing_behind(here: Shell) -> None:
    with up(here) as running:
        assert sorted(running.workers) == ["orchestrator", "synthesizer"]
        assert running.told["private"] is True
        assert running.told["project"] == str(here.home)
        assert running.handle() == 1
        assert running.handle() == 2
        done = running.stop(signal.SIGINT)
        assert done.code == 0, done
        assert done.out == ""
        assert "partition 0: given up by" in done.err
        assert all(map(is_gone, [*running.pids, running.server_pid]))
    assert devserver.find(here.home) is None
    assert devserver.users(here.home) == []
    with up(here) as again:
        assert again.handle() == 3
        assert again.stop().code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_ways_to_tell_it_to_stop(here: Shell, number: signal.Signals) -> None:
    with up(here, "--orchestrators", "2") as running:
        assert sorted(running.workers) == ["orchestrator 1", "orchestrator 2", "synthesizer"]
        assert running.stop(number).code == 0
        assert all(map(is_gone, [*running.pids, running.server_pid]))


def test_it_prints_the_server_and_commands_to_try(here: Shell) -> None:
    process = here.start("up")
    assert process.stdout is not None
    assert process.stderr is not None
    url = process.stdout.readline().strip()
    found = devserver.find(here.home)
    assert found is not None
    assert url == found.url
    said = [process.stderr.readline().strip() for _ in range(7)]
    assert said[0] == f"fabric: {found.version}, private to {here.home} (pid {found.pid})"
    assert said[1] == f"fabric: its data: {Project(here.home).state}"
    tries = [line for line in said if line.startswith("fabric ")]
    assert len(tries) == 3
    # What it tells one to try works.
    assert here.good("status", "--json").code == 0
    assert here.good("emit", "PROGRESS(25%)", "--session", "demo", "--agent", "ME").out
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.stdout.close()
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()


@pytest.mark.slow
def test_its_workers_die_with_it_and_the_next_one_takes_over(here: Shell) -> None:
    with up(here) as first:
        assert first.handle() == 1
        first.kill()
        until(lambda: all(map(is_gone, first.workers.values())), "the workers notice")
        found = devserver.find(here.home)
        assert found is not None
        assert found.pid == first.server_pid
        assert devserver.users(here.home) == []
        with up(here) as second:
            assert second.server_pid == first.server_pid
            assert second.handle() == 2
            assert second.stop().code == 0
            assert is_gone(first.server_pid)


@pytest.mark.slow
def test_a_worker_that_was_killed_is_started_again(here: Shell) -> None:
    with up(here) as running, running.client() as client:
        assert running.handle() == 1
        owner = client.hget("fabric:{0}:lease", "owner")
        os.kill(running.workers["orchestrator"], signal.SIGKILL)
        until(lambda: client.hget("fabric:{0}:lease", "owner") not in (owner, ""), "another")
        assert running.handle() == 2
        done = running.stop()
        assert done.code == 0
        killed = (
            f"fabric: orchestrator (pid {running.workers['orchestrator']}) was ended by SIGKILL"
        )
        assert killed in done.err
        assert "fabric: orchestrator is back (pid " in done.err


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(here: Shell) -> None:
    with up(here) as running:
        running.handle()
        os.kill(running.workers["orchestrator"], signal.SIGSTOP)
        running.process.send_signal(signal.SIGINT)
        until(lambda: is_gone(running.workers["synthesizer"]), "the other has drained")
        done = running.stop(signal.SIGINT)
        assert done.code == 1
        assert "fabric: orchestrator did not drain and was killed" in done.err
        assert all(map(is_gone, [*running.pids, running.server_pid]))


@pytest.mark.slow
def test_two_up_commands_of_a_project_share_the_server(here: Shell) -> None:
    with up(here) as first, up(here) as second:
        assert first.server_pid == second.server_pid
        assert (first.told["others"], second.told["others"]) == ([], [first.process.pid])
        assert first.stop().code == 0
        assert not is_gone(second.server_pid)
        assert second.handle() == 1
        assert second.stop().code == 0
        assert is_gone(second.server_pid)


@pytest.mark.slow
def test_a_server_that_was_killed_is_started_again_by_one_of_two(here: Shell) -> None:
    def kill(pid: int) -> int:
        """Kill the server; return the pid of the one that takes its place."""
        os.kill(pid, signal.SIGKILL)
        until(lambda: (found := devserver.find(here.home)) and found.pid != pid, "it is back")
        found = devserver.find(here.home)
        assert found is not None
        return found.pid

    with up(here) as first, up(here) as second:
        assert first.handle() == 1
        before = kill(first.server_pid)
        assert second.handle() == 2
        before = kill(before)
        assert second.handle() == 3
        done = second.stop()
        assert done.code == 0
        assert not is_gone(before)
        also = first.stop()
        assert also.code == 0
        # Whoever did not start it says so too, if it looks before it is told to stop.
        assert f"it runs again (pid {before}). Its log: " in done.err + also.err
        until(lambda: is_gone(before), "the last user ends it")


@pytest.mark.slow
def test_a_server_that_is_killed_twenty_times_under_load_loses_nothing(here: Shell) -> None:
    """Two `fabric up` share it; an agent goes on through all of it, and each signal counts once."""

    async def work(url: str, kills: int) -> None:
        async with Fabric.connect(url, emit_limit_ms=60_000) as fabric:
            async with fabric.agent("A", session="s") as agent:
                for number in range(kills):
                    sending = asyncio.gather(*(agent.progress(n % 100) for n in range(50)))
                    await asyncio.to_thread(kill)
                    await sending
                    await agent.partial_result({"findings": [{"key": f"k{number}", "value": 1}]})
            found = await fabric.session("s").until_final(timeout=60)
            assert len(found.findings) == kills

    def kill() -> None:
        found = devserver.find(here.home)
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        until(lambda: (now := devserver.find(here.home)) and now.pid != found.pid, "it is back")

    with up(here) as first, up(here) as second:
        asyncio.run(work(first.told["url"], 20))
        log: Any = first.client().xrange("fabric:{0}:s:log")
        sent = [one for _, one in log if one["kind"] == "signal" and one["emitter"] == "A"]
        kinds = Counter(one["type"] for one in sent)
        del kinds["HEARTBEAT"]  # one is sent where a server is away for long
        # None is lost or counts twice.
        assert kinds == {"STARTED": 1, "PROGRESS": 1000, "PARTIAL_RESULT": 20, "COMPLETED": 1}
        assert len({one["seq"] for one in sent}) == len(sent)
        assert here.good("replay", "s").out.startswith("same: ")
        assert (first.stop().code, second.stop().code) == (0, 0)


@pytest.fixture
def disk(here: Shell) -> Iterator[Path]:
    """A disk of a few megabytes, for the state of the project."""
    project_ = Project(here.home)
    project_.prepare()
    mount = ("mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(project_.state))
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only a root that may mount has a small disk")
    yield project_.state
    devserver.stop(here.home)
    unmount = ("umount", "--lazy", str(project_.state))
    subprocess.run(unmount, check=True)


@pytest.mark.slow
def test_a_full_disk_is_named_and_all_goes_on_when_it_is_free_again(
    here: Shell, disk: Path
) -> None:
    async def work(url: str) -> None:
        async with Fabric.connect(url, emit_limit_ms=120_000) as fabric:
            async with fabric.agent("A", session="s") as agent:
                finding = {"key": "k", "value": "x" * 1_000}
                sending = asyncio.gather(
                    *(agent.partial_result({"findings": [finding]}) for _ in range(300))
                )
                await asyncio.to_thread(look)
                await sending
            await fabric.session("s").until_final(timeout=60)

    def look() -> None:
        with running.client() as client:
            until(lambda: client.info("persistence")["aof_last_write_status"] == "err", "full")
        alone = {"FABRIC_EMIT_LIMIT_MS": "1"}
        refused = here.run("emit", "PROGRESS(1%)", "emitter=B", "session=s", **alone)
        assert (refused.code, "MISCONF" in refused.err) == (6, True), refused
        assert here.good("status", "--sessions").out
        found = devserver.find(here.home)
        assert found is not None
        assert found.pid == running.server_pid
        (disk / "in-the-way").unlink()

    with up(here) as running:
        assert running.handle() == 1
        room = shutil.disk_usage(disk).free - 200_000
        (disk / "in-the-way").write_bytes(bytes(room))
        asyncio.run(work(running.told["url"]))
        log: Any = running.client().xrange("fabric:{0}:s:log")
        heard = [int(one["seq"]) for _, one in log if one["kind"] == "signal" and one.get("seq")]
        assert sorted(heard) == list(range(1, 303))
        assert here.good("replay", "s").out.startswith("same: ")
        assert running.handle("other") == 1
        assert running.stop().code == 0


def test_a_server_named_by_url_is_used_and_left_alone(here: Shell, server: RunningServer) -> None:
    server.flush()
    server.cli("ACL", "SETUSER", "me", "on", ">topsecret", "~*", "&*", "+@all")
    named = server.url.replace("unix://", "unix://me:topsecret@")
    with up(here, FABRIC_REDIS_URL=named) as running:
        assert running.told["private"] is False
        assert running.told["url"] == server.url
        assert running.handle() == 1
        listed = subprocess.run(["/bin/ps", "-A", "-o", "args"], capture_output=True, check=True)
        assert b"workers.supervisor" in listed.stdout
        assert b"topsecret" not in listed.stdout
        done = running.stop()
        assert done.code == 0
        assert "topsecret" not in done.err
    assert server.alive
    assert devserver.find(here.home) is None
    assert not (here.home / ".fabric").exists()
    assert not Project(here.home).state.exists()


def test_it_names_a_server_that_runs_below(here: Shell) -> None:
    below = here.home / "part"
    below.mkdir()
    (below / "fabric.toml").touch()
    with devserver.acquire(below), up(here) as running:
        assert running.told["project"] == str(here.home)
        assert f"agents in {below} use the private server that runs there" in running.stop().err


def test_a_server_that_may_evict_is_refused(here: Shell, server: RunningServer) -> None:
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    done = here.run("up", FABRIC_REDIS_URL=server.url)
    server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert done.code == 6
    assert "maxmemory-policy is allkeys-lru" in done.err
    assert done.out == ""


def test_an_unreachable_server_ends_it(here: Shell) -> None:
    done = here.run("up", FABRIC_REDIS_URL="unix:///nowhere/redis.sock")
    assert (done.code, done.out) == (6, "")
    done = here.run("up", FABRIC_REDIS_URL="nonsense")
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("count", ["0", "65", "many"])
def test_a_bad_number_of_orchestrators(here: Shell, count: str) -> None:
    assert here.run("up", "--orchestrators", count).code == 2
    assert devserver.find(here.home) is None
