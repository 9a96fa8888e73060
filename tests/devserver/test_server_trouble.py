"""Accidents of a project's private server and its files while it runs."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fabric import devserver
from fabric.devserver import lock, server
from fabric.devserver.project import Project
from fabric.devserver.server import PrivateServer
from fabric.errors import ServerError
from tests.support.project_member import Member, client, is_gone, until

pytestmark = pytest.mark.server


def test_stop_spares_a_process_that_only_looks_like_ours(
    root: Path, innocent: "subprocess.Popen[bytes]"
) -> None:
    with devserver.acquire(root):
        pass
    project = Project(root)
    (project.users / f"{innocent.pid}.lock").write_text(lock.host())
    record = '{"pid": %d, "socket": "%s", "binary": "", "version": "", "run_id": "", %s}'
    extra = f'"started_ms": 0, "place": "{lock.host()}"'
    project.state.joinpath("server.json").write_text(
        record % (innocent.pid, project.socket(), extra)
    )
    assert project.read() is not None
    assert devserver.find(root) is None
    assert devserver.stop(root) == (None, (), ())


@pytest.fixture
def far(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose state has a path that is too long for a socket."""
    monkeypatch.setenv("XDG_STATE_HOME", str(root / ("long" * 20) / ("é" * 40)))
    found = root / "far"
    found.mkdir()
    return found


def test_a_long_path_has_its_socket_in_a_private_folder_elsewhere(root: Path, far: Path) -> None:
    with devserver.acquire(far) as mine, client(mine.url) as asking:
        assert asking.ping()
        assert root not in mine.server.socket.parents
        assert mine.server.socket.parent.stat().st_mode & 0o777 == 0o700
        assert devserver.find(far) == mine.server
        # A lost record or a copy of the project does no harm.
        shutil.copytree(far, root / "copy")
        assert devserver.find(root / "copy") is None
        (Project(far).state / "server.json").unlink()
        found = devserver.find(far)
        assert found is not None
        assert found.pid == mine.server.pid
        assert not devserver.acquire(far).release()
        found = devserver.find(far)
        assert found is not None
        assert found.version == mine.server.version
    assert not mine.server.socket.parent.exists()


def test_a_deleted_state_folder_leaves_no_server_behind(
    root: Path, member: Callable[..., Member]
) -> None:
    one, two = member(), member()
    pid = one.join()
    assert two.join() == pid
    shutil.rmtree(Project(root).state)
    assert devserver.find(root) is None
    with devserver.acquire(root) as mine:
        assert mine.server.pid != pid
        one.process.communicate("\n")
        assert not is_gone(pid)
        two.process.communicate("\n")
        until(lambda: is_gone(pid))
        assert devserver.find(root) == mine.server


def test_a_deleted_state_folder_far_from_its_socket_is_created_again(far: Path) -> None:
    old = devserver.acquire(far)
    shutil.rmtree(Project(far).state)
    with devserver.acquire(far) as new, client(new.url) as asking:
        assert new.server.pid != old.server.pid
        assert new.server.socket == old.server.socket
        until(lambda: is_gone(old.server.pid))
        old.release()
        assert asking.ping()


def test_a_project_that_is_moved_keeps_its_server(root: Path) -> None:
    mine = devserver.acquire(root)
    moved = root.rename(root.with_name("moved"))
    found = devserver.find(moved)
    assert found is not None
    assert found.pid == mine.server.pid
    stopped = devserver.stop(moved).server
    assert stopped is not None
    assert stopped.pid == found.pid
    assert not mine.release()


def test_a_crashed_server_is_started_again(root: Path) -> None:
    first = devserver.acquire(root)
    os.kill(first.server.pid, signal.SIGKILL)
    until(lambda: devserver.find(root) is None)
    assert first.server.socket.exists()
    second = devserver.acquire(root)
    assert second.server.pid != first.server.pid
    assert not first.release()
    assert second.release()


def test_one_of_its_users_starts_it_again_and_the_other_joins(root: Path) -> None:
    one, two = devserver.acquire(root), devserver.acquire(root)
    assert one.keep() is None
    first = one.server.pid
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)  # a zombie holds no lock
    found = two.keep()
    assert found is not None
    assert found.pid == two.server.pid != first
    assert two.keep() is None
    assert one.keep() == found
    assert one.keep() is None
    assert not two.release()
    assert two.keep() is None
    assert not is_gone(found.pid)
    assert one.release()
    assert devserver.find(root) is None


def test_one_that_ends_as_soon_as_it_was_started_again_is_named_and_started_once_more(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure = server.ensure

    def ended(project: Project) -> tuple[PrivateServer, bool]:
        found, is_child = ensure(project)
        os.kill(found.pid, signal.SIGKILL)
        until(lambda: not lock.is_held(project.server_lock))
        return found, is_child

    with devserver.acquire(root) as mine:
        os.kill(mine.server.pid, signal.SIGKILL)
        os.waitpid(mine.server.pid, 0)
        with monkeypatch.context() as patched:
            patched.setattr(server, "ensure", ended)
            with pytest.raises(ServerError, match="ended as soon as it ran"):
                mine.keep()
        found = mine.keep()
        assert found is not None
        assert devserver.find(root) == found


def test_a_server_whose_folder_was_deleted_is_not_started_again(root: Path) -> None:
    with devserver.acquire(root) as mine:
        shutil.rmtree(Project(root).state)
        assert mine.keep() is None


@pytest.mark.slow
def test_no_second_server_starts_beside_one_that_hangs(
    root: Path, patience: None, innocent: "subprocess.Popen[bytes]"
) -> None:
    first = devserver.acquire(root)
    os.kill(first.server.pid, signal.SIGSTOP)
    assert devserver.find(root) is None
    with pytest.raises(ServerError, match=r"does not answer .*`fabric down`"):
        devserver.acquire(root)
    assert not is_gone(first.server.pid)
    # A wrong pid in the record does not get another process killed.
    project = Project(root)
    record = project.read()
    assert record is not None
    project.write(record._replace(pid=innocent.pid))
    with pytest.raises(ServerError, match="by hand"):
        devserver.stop(root)
    project.write(record)
    report = devserver.stop(root)
    assert report.server is not None
    assert report.server.pid == first.server.pid
    until(lambda: is_gone(first.server.pid))
    assert not first.release()


def test_a_server_that_does_not_start_says_why(root: Path) -> None:
    project = Project(root)
    project.prepare()
    (project.state / "appendonly.aof").write_text("this was never a Redis command\r\n" * 9)
    with pytest.raises(ServerError, match=r"Bad file format"):
        devserver.acquire(root)
    assert devserver.users(root) == []
    assert not lock.is_held(project.server_lock)


def test_no_second_server_starts_beside_one_that_lost_its_lock_file(root: Path) -> None:
    first = devserver.acquire(root)
    with client(first.url) as asking:
        asking.set("kept", "yes")
    Project(root).server_lock.unlink()
    with devserver.acquire(root) as second, client(second.url) as asking:
        assert is_gone(first.server.pid)
        assert asking.get("kept") == "yes"
        first.release()
