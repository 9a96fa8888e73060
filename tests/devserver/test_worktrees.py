"""Which project a folder is in: real git, and a real server where one must be found."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric import devserver
from fabric.devserver.project import Place, locate, nearest
from fabric.errors import ConfigError
from tests.support.git import git, repository
from tests.support.servers import short_directory


class Settings:
    """No server is named."""

    redis_url = None


@pytest.fixture
def here(flavour: str) -> Iterator[Path]:
    folder = short_directory()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def main(here: Path) -> Iterator[Path]:
    """A repository with a worktree inside, one outside, a submodule and a nested repository."""
    other = repository(here / "library", "lib.c")
    main = repository(here / "main", "README.md", "src/a.py")
    git(main, "submodule", "-q", "add", str(other), "sub")
    git(main, "commit", "-q", "-m", "submodule")
    git(main, "worktree", "add", "-q", ".claude/worktrees/wa")
    git(main, "worktree", "add", "-q", str(here / "far" / "wb"))
    git(here / "far" / "wb", "submodule", "-q", "update", "--init")
    repository(main / "nested")
    yield main
    devserver.stop(main)


#: Folder → the top that names of files begin at, both from the folder around the repository.
FOLDERS = {
    "main": "main",
    "main/src": "main",
    "main/.claude/worktrees/wa": "main/.claude/worktrees/wa",
    "main/.claude/worktrees/wa/src": "main/.claude/worktrees/wa",
    "far/wb": "far/wb",
    "far/wb/src": "far/wb",
    "far/wb/sub": "far/wb",
    "main/sub": "main",
    "main/nested": "main",
}


@pytest.mark.server
@pytest.mark.parametrize("marker", [None, "fabric.toml"])
def test_a_server_of_the_project_is_found_from_everywhere_in_it(
    main: Path, here: Path, marker: str | None
) -> None:
    if marker:
        for name in FOLDERS:
            (here / name / marker).touch()
    with devserver.acquire(main) as mine:
        for name, top in FOLDERS.items():
            place = locate(here / name)
            assert (place.root, place.top) == (main, here / top), name
            assert devserver.find(here / name) == mine.server, name
        assert devserver.find(here / "library") is None


@pytest.mark.server
@pytest.mark.parametrize("name", FOLDERS)
def test_up_joins_it_from_everywhere(
    main: Path, here: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with devserver.acquire(main) as mine:
        monkeypatch.chdir(here / name)
        assert devserver.server_url(Settings()) == mine.url
        with devserver.acquire() as joined:
            assert joined.server == mine.server
        assert devserver.users() == [os.getpid()]


def test_without_a_server_the_worktrees_are_one_project(main: Path, here: Path) -> None:
    roots = {name: nearest(here / name).root for name in FOLDERS}
    assert roots.pop("main/nested") == main / "nested"
    assert set(roots.values()) == {main}


@pytest.mark.server
def test_a_server_started_in_a_worktree_is_that_of_all(
    main: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here / "far" / "wb" / "src")
    with devserver.acquire() as mine:
        assert mine.server.root == main
        assert devserver.find(main) == mine.server
        assert devserver.find(main / ".claude" / "worktrees" / "wa") == mine.server
        assert not (here / "far" / "wb" / ".fabric").exists()


@pytest.mark.server
def test_a_part_of_a_repository_may_be_a_project(main: Path, here: Path) -> None:
    for top in (main, here / "far" / "wb"):
        (top / "src" / "fabric.toml").touch()
        assert nearest(top / "src").root == main / "src"
    with devserver.acquire(main / "src") as mine:
        assert devserver.find(here / "far" / "wb" / "src") == mine.server
        assert devserver.find(here / "far" / "wb") is None


@pytest.mark.server
def test_a_server_above_is_found(main: Path, here: Path) -> None:
    with devserver.acquire(here) as mine:
        for name in FOLDERS:
            assert devserver.find(here / name) == mine.server, name
        assert locate(main / "src").top == here


@pytest.mark.server
def test_nothing_advises_to_start_a_second_one(
    main: Path, monkeypatch: pytest.MonkeyPatch, patience: None
) -> None:
    monkeypatch.chdir(main)
    with pytest.raises(ConfigError, match="start the project's own with `fabric up`"):
        devserver.require_server_url(Settings())
    with devserver.acquire(main / "nested"):
        with pytest.raises(ConfigError, match=r"runs for .*/main/nested: work in that") as caught:
            devserver.require_server_url(Settings())
        assert "fabric up" not in str(caught.value)
    with devserver.acquire(main) as mine:
        monkeypatch.setattr("fabric.devserver.server.running", lambda *_: None)
        with pytest.raises(ConfigError, match="runs, but does not answer") as caught:
            devserver.require_server_url(Settings())
        assert "fabric up" not in str(caught.value)
        monkeypatch.undo()
        assert devserver.find(main) == mine.server


def test_worktrees_of_a_bare_repository(here: Path) -> None:
    source = repository(here / "source")
    for bare in (here / "shop.git", here / "shop" / ".bare"):
        git(here, "clone", "-q", "--bare", str(source), str(bare))
        first, second = bare.parent / "one", bare.parent / "two"
        git(bare, "worktree", "add", "-q", str(first))
        git(bare, "worktree", "add", "-q", str(second))
        assert nearest(first) == Place(first, bare, first, is_marked=True)
        assert nearest(second).root == bare
    (here / "shop" / ".git").write_text("gitdir: ./.bare\n")
    assert nearest(here / "shop").root == here / "shop" / ".bare"


def test_git_files_kept_apart(here: Path) -> None:
    apart = here / "apart" / "store"
    apart.parent.mkdir()
    work = here / "work"
    git(here, "init", "-q", "--separate-git-dir", str(apart), str(work))
    git(work, "commit", "-q", "--allow-empty", "-m", "first")
    git(work, "worktree", "add", "-q", str(here / "other"))
    assert nearest(work).root == nearest(here / "other").root == apart


def test_a_worktree_of_a_submodule(main: Path, here: Path) -> None:
    git(main / "sub", "worktree", "add", "-q", str(here / "subtree"))
    place = nearest(here / "subtree")
    assert (place.root, place.top) == (main, here / "subtree")


@pytest.mark.parametrize("claim", ["main/.git", "main/.git/worktrees/wa", "nowhere", "", "\0"])
def test_a_folder_that_claims_to_belong_to_another_repository_does_not(
    main: Path, here: Path, claim: str
) -> None:
    hostile = here / "hostile"
    hostile.mkdir()
    target = claim if claim in ("", "\0") else here / claim
    (hostile / ".git").write_text(f"gitdir: {target}\n")
    assert nearest(hostile) == Place(hostile, hostile, hostile, is_marked=True)
    (hostile / ".git").unlink()
    (hostile / ".git").symlink_to(here / (claim.strip("\0") or "main/.git"))
    assert nearest(hostile).root == hostile


def test_a_pipe_in_place_of_a_git_folder_is_not_waited_for(here: Path) -> None:
    os.mkfifo(here / ".git")
    assert nearest(here).root == here


def test_a_worktree_that_was_moved_by_hand_is_told_to_be_repaired(
    main: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = here / "moved"
    (here / "far" / "wb").rename(moved)
    (moved / "src").mkdir(exist_ok=True)
    for folder in (moved, moved / "src"):
        monkeypatch.chdir(folder)
        advice = devserver.advice()
        assert f"`git worktree repair` in {moved}" in advice
        assert "fabric up" not in advice
    git(moved, "worktree", "repair")
    assert nearest(moved).root == main
