"""Which file the rules come from, and the errors when a file cannot be used."""

from pathlib import Path

import pytest

from fabric.config import rulebook
from fabric.core.rules import Rules
from fabric.errors import ConfigError

HOPS = "[storms]\nhops_max = {}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the project's file (not made); the user's is in user/fabric/ beside it."""
    monkeypatch.delenv("FABRIC_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "user" / "fabric").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "fabric.toml"


@pytest.fixture
def user(project: Path) -> Path:
    return project.parent / "user" / "fabric" / "fabric.toml"


def test_without_a_file_the_defaults_hold(project: Path) -> None:
    assert rulebook.find()[:2] == (Rules(), None)
    assert rulebook.load() == Rules()


def test_the_projects_file_counts_whole_before_the_users(project: Path, user: Path) -> None:
    user.write_text(HOPS.format(5) + "[locks]\npreemption = true\n")
    assert rulebook.find()[:2] == (Rules(hops_max=5, preemption=True), user)
    project.write_text('namespace = "x"\n')
    assert rulebook.find()[1] == user, "the project's file holds settings only"
    project.write_text(HOPS.format(6))
    assert rulebook.find()[:2] == (Rules(hops_max=6), project)
    assert rulebook.load(user).hops_max == 5


def test_a_named_file_is_the_only_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_text(HOPS.format(6))
    named = project.parent / "named.toml"
    named.write_text(HOPS.format(7))
    monkeypatch.setenv("FABRIC_CONFIG", str(named))
    assert rulebook.find()[:2] == (Rules(hops_max=7), named)
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    assert rulebook.find()[:2] == (Rules(), None)


@pytest.mark.parametrize("path", ["nowhere/fabric.toml", "."])
def test_a_file_that_cannot_be_read_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("FABRIC_CONFIG", path)
    with pytest.raises(ConfigError, match=r"the rule file .* cannot be read: "):
        rulebook.load()


def test_the_first_fault_is_told_and_how_many_more(project: Path) -> None:
    project.write_text(HOPS.format(0))
    with pytest.raises(ConfigError) as caught:
        rulebook.load()
    assert str(caught.value) == (
        f"{project}:2: storms.hops_max: found 0; write a whole number from 1 to 1000"
    )
    project.write_text(HOPS.format(0) + "[limit]\n[lock]\n")
    with pytest.raises(ConfigError, match=r"hops_max: .* \(2 more: `fabric rules check` shows all"):
        rulebook.load()


def test_a_projects_faulty_file_is_not_passed_over(project: Path, user: Path) -> None:
    user.write_text(HOPS.format(5))
    project.write_text("[limit]\n")
    with pytest.raises(ConfigError, match="limits"):
        rulebook.find()
