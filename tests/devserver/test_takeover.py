"""Data in the checkout, where earlier versions kept it: what is ours moves, all else is refused."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric import devserver
from fabric.devserver import lock
from fabric.devserver.project import Project
from fabric.errors import HeldError, NotAllowedError
from tests.support.git import git, repository
from tests.support.project_member import client
from tests.support.servers import short_directory

pytestmark = pytest.mark.server

#: The append-only file of servers up to 6.2.
DATA_6 = "appendonly.aof"


@pytest.fixture
def checkout(flavour: str) -> Iterator[Path]:
    """A repository; no server is left in it."""
    folder = short_directory()
    yield repository(folder / "project")
    devserver.stop(folder / "project")
    shutil.rmtree(folder)


def commands(*lines: str) -> bytes:
    """Return commands as an append-only file has them."""
    parts = (line.split() for line in lines)
    return b"".join(
        f"*{len(words)}\r\n".encode()
        + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)
        for words in parts
    )


def plant(checkout: Path, *lines: str, mode: int = 0o700) -> Path:
    """Put an append-only file where earlier versions had it; return the folder."""
    folder = checkout / ".fabric"
    folder.mkdir(mode=mode)
    folder.chmod(mode)
    (folder / "appendonly.aof").write_bytes(commands("SELECT 0", *(lines or ("SET kept yes",))))
    return folder


def written_by_a_server(checkout: Path) -> Path:
    """Put there what a server of this flavour has written."""
    with devserver.acquire(checkout) as mine, client(mine.url) as asking:
        asking.set("kept", "yes")
        asking.xadd("fabric:{0}:signals", {"type": "STARTED"}, id="7-0")
    state, old = Project(checkout).state, checkout / ".fabric"
    for name in ("appendonly.aof", "appendonlydir"):
        if (state / name).exists():
            shutil.move(state / name, old / name)
    shutil.rmtree(state)
    (old / "users").mkdir()
    (old / "server.lock").touch()
    return old


@pytest.mark.parametrize("state", ["short", "long" * 30])
def test_what_is_ours_is_moved_once(
    checkout: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(checkout.parent / state))
    old = written_by_a_server(checkout)
    for _ in range(2):
        with devserver.acquire(checkout) as mine, client(mine.url) as asking:
            assert asking.get("kept") == "yes"
            assert asking.xlen("fabric:{0}:signals") == 1
        assert {path.name for path in old.iterdir()} == {".gitignore", "project.json"}
    assert not (Project(checkout).state / "takeover").exists()


def test_what_is_found_later_is_not_looked_at(checkout: Path) -> None:
    with devserver.acquire(checkout) as mine, client(mine.url) as asking:
        asking.set("kept", "mine")
    shutil.rmtree(checkout / ".fabric")
    plant(checkout)
    with devserver.acquire(checkout) as mine, client(mine.url) as asking:
        assert asking.get("kept") == "mine"


def refused(checkout: Path, words: str) -> None:
    """Check that nothing is loaded, and that the message says what to do."""
    with pytest.raises(NotAllowedError, match=words) as caught:
        devserver.acquire(checkout)
    assert str(checkout / ".fabric") in str(caught.value)
    assert "with nothing" in str(caught.value)
    assert devserver.find(checkout) is None
    assert devserver.users(checkout) == []


@pytest.mark.parametrize("version", ["2", "3", "4"])
@pytest.mark.parametrize("name", [".fabric", ".FABRIC"])
def test_what_git_tracks_is_refused(checkout: Path, version: str, name: str) -> None:
    for folder in (".editorconfig", ".fabrib", "z"):
        (checkout / folder).write_text(folder)
    plant(checkout)
    if name != ".fabric":  # a file system that folds case has both
        (checkout / ".fabric").rename(checkout / name)
    git(checkout, "add", "-A", "-f")
    git(checkout, "add", "-N", "-A", "-f")
    git(checkout, "update-index", "--index-version", version)
    if name != ".fabric":
        (checkout / name).rename(checkout / ".fabric")
    refused(checkout, "git tracks it")
    # In a project that is a part of the repository.
    (checkout / "part").mkdir()
    (checkout / ".fabric").rename(checkout / "part" / ".fabric")
    git(checkout, "add", "-A", "-f")
    refused(checkout / "part", "git tracks it")
    git(checkout, "rm", "-q", "-r", "-f", "--cached", "part")
    assert devserver.acquire(checkout / "part").release()


def test_an_index_that_is_not_clear_is_refused(checkout: Path) -> None:
    plant(checkout)
    git(checkout, "update-index", "--split-index")
    refused(checkout, "cannot be told whether git tracks it")
    (checkout / ".git" / "index").write_bytes(b"DIRC\0\0\0\x09\0\0\0\0")
    refused(checkout, "cannot be told whether git tracks it")


def test_what_a_clone_brings_is_refused_whatever_the_mode(checkout: Path) -> None:
    folder = plant(checkout, "MODULE LOAD ./m.so")
    git(checkout, "add", "-A", "-f")
    git(checkout, "commit", "-q", "-m", "trap")
    clone = checkout.parent / "clone"
    git(checkout.parent, "clone", "-q", str(checkout), str(clone))
    for mode in (0o755, 0o700):
        (clone / ".fabric").chmod(mode)
        refused(clone, "git tracks it")
    assert folder.exists()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_what_others_can_enter_is_refused(checkout: Path, mode: int) -> None:
    plant(checkout, mode=mode)
    refused(checkout, f"other users can enter it \\(mode {mode:o}\\)")


def test_what_is_linked_is_refused(checkout: Path) -> None:
    folder = plant(checkout)
    theirs = checkout.parent / "theirs"
    folder.rename(theirs)
    folder.symlink_to(theirs)
    refused(checkout, "is a link")
    folder.unlink()
    folder.mkdir(mode=0o700)
    (folder / "appendonly.aof").symlink_to(theirs / "appendonly.aof")
    refused(checkout, r"appendonly\.aof is a link")
    (folder / "appendonly.aof").unlink()
    os.link(theirs / "appendonly.aof", folder / "appendonly.aof")
    refused(checkout, r"appendonly\.aof is a link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_is_another_users_is_refused(checkout: Path) -> None:
    folder = plant(checkout)
    os.chown(folder / "appendonly.aof", 65534, 65534)
    refused(checkout, r"appendonly\.aof belongs to another user \(uid 65534\)")


def test_a_submodule_in_its_place_is_refused(checkout: Path) -> None:
    plant(checkout)
    git(checkout / ".fabric", "init", "-q")
    refused(checkout, "a repository of git")


def test_a_server_of_an_earlier_version_is_not_robbed(checkout: Path) -> None:
    folder = plant(checkout)
    with (
        lock.holding(folder / "server.lock", 1),
        pytest.raises(HeldError, match="stop its `fabric up`"),
    ):
        devserver.acquire(checkout)
    assert (folder / "appendonly.aof").exists()


@pytest.mark.parametrize(
    "trap",
    [
        ("MODULE LOAD ./m.so",),
        ("CONFIG SET dbfilename marker", "SET a b", "SAVE"),
        ("CONFIG SET dbfilename marker", "SET a b", "SHUTDOWN SAVE"),
        ("EVAL return(1) 0",),
        ("DEBUG RELOAD",),
        ("REPLICAOF 127.0.0.1 {port}",),
        ("MIGRATE 127.0.0.1 {port} a 0 1000",),
    ],
    ids=lambda trap: trap[-1].split()[0],
)
@pytest.mark.parametrize("place", ["tail", "after a snapshot"])
def test_a_trap_that_looks_like_ours_does_not_go_off(
    checkout: Path, trap: tuple[str, ...], place: str
) -> None:
    """An archive can bring a folder with our mode that no repository tracks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        lines = [line.format(port=listening.getsockname()[1]) for line in trap]
        if place == "tail":
            folder = plant(checkout, "SET a b", *lines)
        else:
            folder = written_by_a_server(checkout)
            files = [path for path in folder.rglob("*aof*") if path.is_file()]
            last = max(files, key=lambda path: (".incr." in path.name, path.name == DATA_6))
            if trap[0].startswith("EVAL"):  # behind the snapshot itself
                last = min(files, key=lambda path: ".base." not in path.name)
            last.write_bytes(last.read_bytes() + commands("SELECT 0", *lines))
        before = {path: path.read_bytes() for path in folder.rglob("*aof*") if path.is_file()}
        refused(checkout, "holds data that no fabric has written")
        with pytest.raises(BlockingIOError):  # nobody has called
            listening.accept()
    assert not list(checkout.rglob("marker*"))
    assert not list(Project(checkout).state.rglob("marker*"))
    assert not list(Project(checkout).state.glob("append*"))
    assert {path: path.read_bytes() for path in folder.rglob("*aof*") if path.is_file()} == before


def test_a_pointer_is_only_a_hint(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = checkout.parent / "victim"
    victim.mkdir()
    Project(victim).prepare()
    state = Project(victim).state
    shutil.copytree(victim / ".fabric", checkout / ".fabric")
    assert Project(checkout).state != state, "the other project is still there"
    theirs = (victim / ".fabric" / "project.json").read_text()
    shutil.rmtree(victim)
    assert Project(checkout).state == state, "it was moved here"
    pointer = checkout / ".fabric" / "project.json"
    for wrong in ("{", "[" * 60_000, "[]", '{"state": "/", "id": "x"}', theirs.replace("id", "ID")):
        pointer.write_text(wrong)
        assert Project(checkout).state != state
    pointer.write_text(theirs)
    state.chmod(0o755)
    assert Project(checkout).state != state
    state.chmod(0o700)
    pointer.unlink()
    os.mkfifo(pointer)
    assert Project(checkout).state != state


def test_a_pointer_is_written_through_no_link(checkout: Path) -> None:
    theirs = checkout.parent / "theirs"
    theirs.mkdir(mode=0o755)
    (checkout / ".fabric").symlink_to(theirs)
    Project(checkout).prepare()
    assert list(theirs.iterdir()) == []
    assert theirs.stat().st_mode & 0o777 == 0o755
    (checkout / ".fabric").unlink()
    (checkout / ".fabric").mkdir(mode=0o700)
    victim = checkout.parent / "victim"
    for name in ("project.json", f"project.{os.getpid()}", ".gitignore"):
        (checkout / ".fabric" / name).symlink_to(victim)
    Project(checkout).prepare()
    assert not victim.exists()
