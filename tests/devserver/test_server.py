"""The private server of a project: real servers, real processes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from fabric import devserver
from fabric.devserver import launch
from fabric.devserver.project import Project
from fabric.errors import ServerError
from tests.support.project_member import PARENT, Member, client, is_gone, until
from tests.support.servers import binary

pytestmark = pytest.mark.server


def test_it_is_private_persistent_and_never_evicts(root: Path, flavour: str) -> None:
    with devserver.acquire(root) as mine, client(mine.url) as asking:
        settings = asking.config_get()
        assert settings["port"] == "0"
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["save"] == ""
        assert settings["maxmemory-policy"] == "noeviction"
        state = Project(root).state
        assert Path(settings["dir"]).samefile(state)
        assert state.stat().st_mode & 0o777 == 0o700
        assert not {path.name for path in (root / ".fabric").iterdir()} - {
            ".gitignore",
            "project.json",
        }
        assert mine.server.socket.stat().st_mode & 0o777 == 0o700
        # It has a session of its own, so that Ctrl-C at the terminal does not reach it.
        assert os.getsid(mine.server.pid) == mine.server.pid
        name = flavour.partition("-")[0]
        assert mine.server.version == f"{name} {asking.info('server')[f'{name}_version']}"
        assert mine.server.started_ms > 1_700_000_000_000


def test_one_that_cannot_write_to_the_disk_runs(root: Path) -> None:
    """Then even PING is answered with an error, MISCONF."""
    with devserver.acquire(root) as mine, client(mine.url) as asking:
        in_the_way = Project(root).state / "dump.rdb"
        in_the_way.mkdir()
        asking.config_set("save", "3600 1")
        asking.bgsave()
        until(lambda: asking.info("persistence")["rdb_last_bgsave_status"] == "err")
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            asking.ping()
        assert devserver.find(root) == mine.server
        in_the_way.rmdir()
        asking.config_set("save", "")


def test_others_find_it_and_the_last_user_ends_it(root: Path) -> None:
    inside = root / "source"
    inside.mkdir()
    first = devserver.acquire(root)
    second = devserver.acquire(root)
    assert devserver.find(inside) == first.server == second.server
    assert devserver.users(root) == [os.getpid()]
    assert not first.release()
    assert devserver.find(inside) == second.server
    assert second.release()
    assert not second.release()
    assert devserver.find(inside) is None
    assert devserver.users(root) == []
    assert not second.server.socket.exists()
    assert is_gone(second.server.pid)


def test_data_survives_a_stop_and_a_start(root: Path) -> None:
    with devserver.acquire(root) as mine, client(mine.url) as asking:
        asking.xadd("fabric:{0}:signals", {"type": "STARTED"}, id="7-0")
    with devserver.acquire(root) as again, client(again.url) as asking:
        assert again.server.pid != mine.server.pid
        assert asking.xrange("fabric:{0}:signals") == [("7-0", {"type": "STARTED"})]


def test_processes_that_start_at_once_share_one_server(
    root: Path, member: Callable[..., Member]
) -> None:
    members = [member() for _ in range(4)]
    assert {one.hear() for one in members} == {"hello"}
    for one in members:
        one.go_on()
    pids = {int(one.hear()) for one in members}
    assert len(pids) == 1
    log = Project(root).log.read_text(errors="replace")
    assert log.lower().count("ready to accept connections") == 1
    assert devserver.users(root) == sorted(one.process.pid for one in members)
    for one in members:
        one.process.communicate("\n")
        assert one.process.returncode == 0
    assert devserver.find(root) is None
    assert is_gone(pids.pop())


def test_a_server_whose_parent_was_killed_is_joined_and_ends_with_the_next(
    root: Path, member: Callable[..., Member]
) -> None:
    parent = member()
    pid = parent.join()
    found = devserver.find(root)
    assert found is not None
    with client(found.url) as asking:
        asking.set("kept", "yes")
    parent.kill()
    assert devserver.users(root) == []
    assert devserver.find(root) == found
    mine = devserver.acquire(root)
    assert mine.server == found
    assert mine.server.pid == pid
    with client(mine.url) as asking:
        assert asking.get("kept") == "yes"
    assert mine.release()
    until(lambda: is_gone(pid))


def test_a_server_whose_parent_was_killed_is_stopped(
    root: Path, member: Callable[..., Member]
) -> None:
    parent = member()
    pid = parent.join()
    parent.kill()
    report = devserver.stop(root)
    assert report.server is not None
    assert report.server.pid == pid
    assert report.left == report.remaining == ()
    until(lambda: is_gone(pid))
    assert devserver.stop(root) == (None, (), ())


def test_a_forked_child_does_not_keep_its_killed_parent_among_the_users(
    root: Path, member: Callable[..., Member]
) -> None:
    parent = member(program=PARENT)
    child = int(parent.hear())
    try:
        assert devserver.users(root) == [parent.process.pid]
        parent.process.kill()
        parent.process.wait()
        until(lambda: devserver.users(root) == [])
        assert not is_gone(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_stop_asks_the_users_to_leave(root: Path, member: Callable[..., Member]) -> None:
    members = [member(), member()]
    pids = {one.join() for one in members}
    report = devserver.stop(root)
    assert report.server is not None
    assert {report.server.pid} == pids
    assert report.left == tuple(sorted(one.process.pid for one in members))
    assert report.remaining == ()
    assert [one.process.wait() for one in members] == [0, 0]
    assert devserver.find(root) is None


def test_stop_ends_the_server_of_a_user_that_does_not_leave(
    root: Path, member: Callable[..., Member], patience: None
) -> None:
    deaf = member("deaf")
    pid = deaf.join()
    report = devserver.stop(root)
    assert report.server is not None
    assert report.remaining == (deaf.process.pid,)
    assert deaf.process.poll() is None
    until(lambda: is_gone(pid))


def test_data_moves_to_a_newer_server_and_never_back(
    root: Path, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with devserver.acquire(root) as mine, client(mine.url) as asking:
        asking.xadd("fabric:{0}:signals", {"type": "STARTED"}, id="7-0")
    state = Project(root).state
    newer = "valkey-9.1" if flavour != "redis-8.2" else flavour

    def put_on_path(name: str) -> None:
        (root.parent / "redis-server").unlink(missing_ok=True)
        (root.parent / "redis-server").symlink_to(binary(name).resolve())

    monkeypatch.setenv("PATH", str(root.parent))
    put_on_path(newer)
    with devserver.acquire(root) as mine, client(mine.url) as asking:
        assert asking.xlen("fabric:{0}:signals") == 1
        asking.xadd("fabric:{0}:signals", {"type": "STARTED"}, id="8-0")
    assert (state / launch.WRITTEN_BY).read_text().startswith(newer.replace("-", " "))
    before = {path: path.read_bytes() for path in state.glob("appendonlydir/*")}
    put_on_path("redis-6.2")
    with pytest.raises(ServerError, match=r"is redis 6\.2\.14, which cannot read the data that"):
        devserver.acquire(root)
    assert {path: path.read_bytes() for path in state.glob("appendonlydir/*")} == before
    put_on_path(newer)
    with devserver.acquire(root) as mine, client(mine.url) as asking:
        assert asking.xlen("fabric:{0}:signals") == 2
