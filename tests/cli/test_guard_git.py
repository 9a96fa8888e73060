"""`fabric guard` in a git repository: paths, what is staged, and the hook that git itself runs."""

import os
import subprocess

import pytest

from fabric.ops.guard import HOOK, HOOK_LINE
from tests.cli.git_repository import NOWHERE, Hold, Repository, holding
from tests.support.servers import RunningServer
from tests.support.shell import COMMAND_SECONDS_MAX, Shell

#: Many processes of git as well; `tests/cli/test_guard.py` and the library's tests are quick.
pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _no_settings_of_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may do so from a hook, or have settings of their own."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def hold(quiet: Shell, server: RunningServer) -> Hold:
    return holding(server, quiet.variables["FABRIC_NAMESPACE"])


@pytest.fixture
def repository(quiet: Shell) -> Repository:
    return Repository(quiet)


def test_a_path_is_named_from_the_root(quiet: Shell, repository: Repository, hold: Hold) -> None:
    hold("B", 7, "src/a.py")
    folder = repository.folder / "src"
    folder.mkdir()
    within = Shell(folder, quiet.variables)
    assert within.run("guard", "src/a.py").code == 5
    within.good("guard", "a.py")
    done = within.run("guard", str(folder / "a.py"), "--json")
    assert (done.code, done.json["path"]) == (5, "src/a.py")


def test_an_absolute_path_through_a_link(quiet: Shell, repository: Repository, hold: Hold) -> None:
    hold("B", 7, "src/a.py")
    (repository.folder / "src").mkdir()
    (repository.folder / "link").symlink_to("src")
    other = repository.folder.parent / f"{repository.folder.name}-link"
    other.symlink_to(repository.folder)
    assert quiet.run("guard", str(other / "src" / "a.py")).code == 5
    other.unlink()


def test_an_absolute_path_outside_of_a_repository(quiet: Shell, hold: Hold) -> None:
    hold("B", 7, "a.py", "/elsewhere/b.py")
    assert quiet.run("guard", str(quiet.home / "a.py")).code == 5
    assert quiet.run("guard", "/elsewhere/b.py").code == 5


def test_everything_staged_is_guarded(quiet: Shell, repository: Repository, hold: Hold) -> None:
    names = ("kept.py", "gone.py", "old.py", "[x].py", "ä\n.py", "free.py")
    repository.stage(*names)
    repository.good("commit", "-q", "-m", "one")
    repository.good("rm", "-q", "gone.py")
    repository.good("mv", "old.py", "new.py")
    repository.stage("kept.py", "[x].py", "ä\n.py", "free.py", "sub/added.py")
    (repository.folder / "unstaged.py").touch()
    (repository.folder / "free.py").write_text("not staged")
    mine, others = ("free.py", "unstaged.py"), ("kept.py", "[[]x].py", "ä\n.py", "gone.py")
    hold("A", 6, *mine)
    hold("B", 7, *others, "old.py", "new.py")
    hold("C", 8, "sub/**")
    found = quiet.run("guard", "--staged", "--json")
    assert found.code == 5
    refused = {one["path"]: one["held"][0]["agent"] for one in found.json_lines if one["refusal"]}
    changed = ("kept.py", "[x].py", "ä\n.py", "gone.py", "old.py", "new.py")
    assert refused == {**dict.fromkeys(changed, "B"), "sub/added.py": "C"}
    assert len(found.err.splitlines()) == len(refused)
    assert "--no-verify" not in found.err


def test_settings_of_git_hide_nothing(quiet: Shell, repository: Repository, hold: Hold) -> None:
    hold("B", 7, "top.py", "submodule")
    repository.stage("top.py", "sub/a.py")
    repository.good("update-index", "--add", "--cacheinfo", f"160000,{1:040x},submodule")
    repository.good("config", "diff.relative", "true")
    repository.good("config", "diff.ignoreSubmodules", "all")
    within = Shell(repository.folder / "sub", quiet.variables)
    done = within.run("guard", "--staged", "--json")
    assert [one["path"] for one in done.json_lines if not one["allowed"]] == ["submodule", "top.py"]


def test_a_name_that_is_not_text(quiet: Shell, repository: Repository, hold: Hold) -> None:
    hold("B", 7, "**")
    path = os.fsencode(repository.folder) + b"/\xff.py"
    try:
        os.close(os.open(path, os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes no such name")
    repository.good("add", ".")
    done = quiet.run("guard", "--staged", "--json")
    assert (done.code, done.json["path"]) == (5, "\ufffd.py")


def test_nothing_staged_needs_no_server(quiet: Shell, repository: Repository) -> None:
    quiet.good("guard", "--staged", **NOWHERE)


@pytest.mark.parametrize(("more", "code"), [(NOWHERE, 6), ({"FABRIC_SESSION": ""}, 2), ({}, 3)])
def test_the_way_out_is_named(
    quiet: Shell, repository: Repository, more: dict[str, str], code: int
) -> None:
    repository.stage("a.py")
    done = quiet.run("guard", "--staged", **more)
    assert done.code == code
    assert done.err.endswith("check: git commit --no-verify\n")


def test_outside_of_a_repository(quiet: Shell) -> None:
    for words in (("--staged",), ("--install",)):
        done = quiet.run("guard", *words)
        assert done.code == 2
        assert "not a git repository" in done.err


def test_git_runs_the_hook(quiet: Shell, repository: Repository, hold: Hold) -> None:
    quiet.good("guard", "--install")
    hold("B", 7, "src/**")
    repository.stage("src/a.py")
    done = repository.git("commit", "-m", "refused")
    assert done.code == 1
    assert "src/a.py is held by B" in done.err
    assert repository.commits == 0
    assert repository.git("commit", "-m", "goes through", FABRIC_AGENT="B").code == 0
    assert repository.commits == 1
    repository.stage("README.md")
    repository.good("commit", "-m", "free")
    # The paths named with the commit, and no other, are in an index of its own.
    repository.stage("README.md", "src/a.py")
    repository.good("commit", "-m", "in part", "README.md")
    assert repository.git("commit", "-a", "-m", "all of it").code == 1
    repository.good("commit", "-n", "-m", "unguarded")
    assert repository.commits == 4


def test_the_hook_fails_closed(quiet: Shell, repository: Repository) -> None:
    quiet.good("guard", "--install")
    repository.stage("a.py")
    done = repository.git("commit", "-m", "refused", **NOWHERE)
    assert done.code == 1
    assert "git commit --no-verify" in done.err
    # Where the command line is not on PATH:
    hook = repository.folder / ".git" / "hooks" / "pre-commit"
    alone = subprocess.run(
        ["/bin/sh", hook],
        env={"PATH": str(hook.parent)},
        capture_output=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert alone.returncode == 1
    assert b"git commit --no-verify" in alone.stderr
    assert repository.commits == 0


def test_the_hook_is_installed_once(quiet: Shell, repository: Repository) -> None:
    path = repository.folder / ".git" / "hooks" / "pre-commit"
    assert quiet.good("guard", "--install").out == f"{path}\n"
    assert path.read_text() == HOOK
    done = quiet.run("guard", "--install", "--json")
    assert (done.code, done.json) == (0, {"hook": str(path), "written": False})
    assert path.read_text() == HOOK
    path.chmod(0o644)
    done = quiet.run("guard", "--install")
    assert (done.code, "chmod +x" in done.err) == (4, True)


def test_another_hook_is_left_alone(quiet: Shell, repository: Repository) -> None:
    path = repository.folder / ".git" / "hooks" / "pre-commit"
    path.parent.mkdir(exist_ok=True)
    foreign = "#!/bin/sh\n# not yet: fabric guard --staged\nexit 0\n"
    path.write_text(foreign)
    path.chmod(0o755)
    done = quiet.run("guard", "--install")
    assert (done.code, done.out) == (4, "")
    assert HOOK_LINE in done.err
    assert path.read_text() == foreign
    path.write_text(f"#!/bin/sh\n{HOOK_LINE}\nexit 0\n")
    assert quiet.run("guard", "--install").code == 0
    path.unlink()
    path.symlink_to("nowhere")
    assert quiet.run("guard", "--install").code == 4
    assert path.is_symlink()


def test_the_hooks_folder_of_the_git_settings(quiet: Shell, repository: Repository) -> None:
    repository.good("config", "core.hooksPath", "tools/hooks")
    within = Shell(repository.folder / "src", quiet.variables)
    within.home.mkdir()
    within.good("guard", "--install")
    assert (repository.folder / "tools" / "hooks" / "pre-commit").read_text() == HOOK
    repository.stage("a.py")
    assert repository.git("commit", "-m", "refused", **NOWHERE).code == 1


def test_another_work_tree_has_the_same_hook(
    quiet: Shell, repository: Repository, hold: Hold
) -> None:
    quiet.good("guard", "--install")
    hold("B", 7, "src/**")
    repository.good("commit", "--allow-empty", "-m", "first")
    repository.good("worktree", "add", "-q", "-b", "second", "tree")
    repository.folder = repository.folder / "tree"
    repository.stage("src/a.py")
    done = repository.git("commit", "-m", "refused")
    assert done.code == 1
    assert "src/a.py is held by B" in done.err
