"""A project's file runs programs and names a server only with consent; the user's own file may."""

import json
import os
from pathlib import Path

import pytest

from fabric.config import rulebook
from fabric.config.settings import load
from fabric.config.trust import Request, request
from fabric.core.rules import Rules
from fabric.devserver.project import Project
from fabric.errors import ConfigError, NotAllowedError
from tests.support.git import git, repository

PROGRAMS = """
[escalations]
hook = ["sh", "notify.sh", "--urgent"]
[synthesis]
refiners = ["summary"]
[[synthesis.merges]]
path = "/a"
reducer = "sum"
[[synthesis.merges]]
path = "/b"
reducer = "p95"
"""
SERVER = 'redis_url = "redis://:topsecret@evil.example:6379/0"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that the process is in; the file names programs and a server."""
    for name in [name for name in os.environ if name.startswith("FABRIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = repository(tmp_path / "clone", "src/a.py", "notify.sh")
    (folder / "fabric.toml").write_text(SERVER + PROGRAMS)
    monkeypatch.chdir(folder)
    return folder


def asked(folder: Path) -> Request:
    path = folder / "fabric.toml"
    found = request(path, rulebook.find(path).values)
    assert found is not None
    return found


def test_without_consent_no_program_runs(project: Path) -> None:
    found = rulebook.in_force()
    assert (found.rules.hook, found.rules.refiners) == ((), ())
    assert "(escalations.hook, synthesis.refiners, synthesis.merges)" in found.withheld
    assert "`fabric trust`" in found.withheld
    assert rulebook.find().rules.hook, "`fabric rules show` shows what the file says"


def test_without_consent_the_server_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"fabric.toml:1 sets redis_url: .*`fabric trust`") as hit:
        load()
    assert "topsecret" not in str(hit.value)
    assert load(redis_url="redis://mine").redis_url is not None
    monkeypatch.setenv("FABRIC_REDIS_URL", "redis://mine")
    found = load().redis_url
    assert found is not None
    assert found.value == "redis://mine"


def test_with_consent_all_holds(project: Path) -> None:
    asked(project).allow("shown")
    found = rulebook.in_force()
    assert found.withheld == ""
    assert found.rules == rulebook.find().rules
    assert load().redis_url is not None
    asked(project).withdraw()
    assert rulebook.in_force().withheld


def test_consent_is_kept_out_of_the_checkout(project: Path) -> None:
    before = {path for path in project.rglob("*") if ".git" not in path.parts}
    asked(project).allow("shown")
    after = {path for path in project.rglob("*") if ".git" not in path.parts}
    assert {path.relative_to(project).parts[0] for path in after - before} == {".fabric"}
    for path in (project / ".fabric").iterdir():
        assert asked(project).digest not in path.read_text()
    state = Project(project).state
    state.chmod(0o755)
    assert not asked(project).is_allowed(), "others may have written there"
    state.chmod(0o700)
    assert asked(project).is_allowed()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--urgent", "--quiet"),
        ('["summary"]', '["summary", "other"]'),
        ('"p95"', '"p99"'),
        ("evil.example", "evil2.example"),
    ],
)
def test_it_is_asked_again_when_it_changes(project: Path, old: str, new: str) -> None:
    asked(project).allow("shown")
    path = project / "fabric.toml"
    path.write_text(path.read_text() + "[limits]\nagents_max = 9\n")
    assert asked(project).is_allowed(), "that runs nothing"
    path.write_text(path.read_text().replace(old, new))
    assert not asked(project).is_allowed()


def test_it_is_asked_again_when_a_program_of_the_checkout_changes(project: Path) -> None:
    assert list(asked(project).programs) == ["notify.sh"]
    asked(project).allow("shown")
    (project / "notify.sh").write_text("rm -rf ~")
    assert not asked(project).is_allowed()
    assert rulebook.in_force().rules.hook == ()


def test_another_folder_has_other_programs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(project).allow("shown")
    (project / "src" / "notify.sh").write_text("rm -rf ~")
    monkeypatch.chdir(project / "src")
    assert not asked(project).is_allowed()


def test_all_worktrees_of_a_project_share_consent(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "second")
    git(project, "worktree", "add", "-q", "../wa")
    asked(project).allow("shown")
    monkeypatch.chdir(project.parent / "wa")
    assert asked(Path.cwd()).is_allowed()
    clone = project.parent / "other"
    git(project.parent, "clone", "-q", str(project), str(clone))
    monkeypatch.chdir(clone)
    assert not asked(clone).is_allowed()


def test_a_machine_allows_by_variable(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, is_allowed in [
        ("", False),
        ("yes", False),
        ("0123", False),
        (f"0123, {asked(project).digest}", True),
        ("all", True),
    ]:
        monkeypatch.setenv("FABRIC_TRUST", value)
        assert asked(project).is_allowed() is is_allowed, value


def test_the_users_own_file_needs_no_consent(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "fabric.toml").rename(tmp_path / "mine.toml")
    own = tmp_path / "home" / "fabric" / "fabric.toml"
    own.parent.mkdir(parents=True)
    own.write_text((tmp_path / "mine.toml").read_text())
    assert rulebook.in_force().rules.hook
    assert load().redis_url is not None
    own.unlink()
    monkeypatch.setenv("FABRIC_CONFIG", str(tmp_path / "mine.toml"))
    assert rulebook.in_force().rules.hook
    assert load().redis_url is not None


@pytest.mark.parametrize("spelling", ["absolute", "relative", "link", "worktree"])
def test_a_file_of_the_checkout_does_wherever_it_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    path = project / "fabric.toml"
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    if spelling == "worktree":
        git(project, "worktree", "add", "-q", "../wa")
        monkeypatch.chdir(tmp_path / "wa")
    named = {"relative": Path("fabric.toml"), "link": link}.get(spelling, path)
    monkeypatch.setenv("FABRIC_CONFIG", str(named))
    assert rulebook.in_force().rules.hook == ()
    with pytest.raises(ConfigError, match="fabric trust"):
        load()


def test_the_file_of_the_main_worktree_holds_in_the_others(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "fabric.toml").write_text('namespace = "ours"\n[limits]\nagents_max = 7\n')
    git(project, "worktree", "add", "-q", "../wa")
    monkeypatch.chdir(project.parent / "wa" / "src")
    assert load().namespace == "ours"
    assert rulebook.in_force().rules == Rules(agents_max=7)
    (project.parent / "wa" / "fabric.toml").write_text('namespace = "theirs"\n')
    assert load().namespace == "theirs"


def test_what_asks_for_nothing_needs_no_consent(project: Path) -> None:
    text = '[[synthesis.merges]]\npath = "/a"\nreducer = "sum"\n[escalations]\nhook = []\n'
    (project / "fabric.toml").write_text(text)
    assert request(project / "fabric.toml", rulebook.find().values) is None
    assert rulebook.in_force().withheld == ""


def test_odd_values_are_no_way_around(project: Path) -> None:
    path = project / "fabric.toml"
    for values in (
        {"escalations": {"hook": "sh -c x"}},
        {"synthesis": {"refiners": [1979]}},
        {"synthesis": {"merges": [{"reducer": ["a"]}]}},
        {"escalations": {"hook": ["sh", "a\0b", "x" * 5_000]}},
        {"redis_url": 6},
    ):
        found = request(path, values)
        assert found is not None, values
        assert json.dumps(found.asked)
        assert not found.is_allowed()
    assert request(path, {"escalations": [], "synthesis": {"merges": {"reducer": "a"}}}) is None


def test_consent_that_cannot_be_kept_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(NotAllowedError, match="XDG_STATE_HOME"):
        asked(project).allow("shown")
    assert not asked(project).is_allowed()


def test_a_name_that_is_not_absolute_is_that_of_any_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = project.parent / "unpacked"  # from an archive, without git
    unpacked.mkdir()
    (unpacked / "fabric.toml").write_text(PROGRAMS)
    monkeypatch.chdir(unpacked)
    monkeypatch.setenv("FABRIC_CONFIG", "fabric.toml")
    assert rulebook.in_force().rules.hook == ()
    monkeypatch.setenv("FABRIC_CONFIG", str(unpacked / "fabric.toml"))
    assert rulebook.in_force().rules.hook
