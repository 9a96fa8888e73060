"""`fabric trust`, and a hostile checkout: nothing in it runs for whoever only says `fabric up`."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from fabric import devserver
from fabric.devserver.project import Project
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from tests.cli.up_process import up
from tests.devserver.test_takeover import commands
from tests.support.daemon import LEASE_MS
from tests.support.git import git, repository
from tests.support.servers import FLAVOUR_DEFAULT, binary
from tests.support.shell import Shell
from tests.support.waiting import until

pytestmark = pytest.mark.server

HOOK = """
[escalations]
hook = ["sh", "-c", "cat >> MARKER"]
"""


@pytest.fixture
def clone(lone: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A shell in a clone of a repository whose fabric.toml has a hook."""
    source = repository(lone.home / "source")
    marker = lone.home / "marker"
    (source / "fabric.toml").write_text(HOOK.replace("MARKER", str(marker)))
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "hook")
    folder = lone.home / "clone"
    git(lone.home, "clone", "-q", str(source), str(folder))
    shell = Shell(folder, {"FABRIC_LEASE_MS": str(LEASE_MS), "FABRIC_SESSION": "s"})
    server = lone.home / "bin" / "redis-server"
    server.parent.mkdir()
    server.write_text(f'#!/bin/sh\nexec "{binary(FLAVOUR_DEFAULT)}" "$@"\n')
    server.chmod(0o700)
    monkeypatch.setenv("PATH", str(server.parent), prepend=":")
    yield shell
    shell.close()
    devserver.stop(folder)


def ask(shell: Shell, question: str) -> None:
    """Ask a person something, and wait until the question stands."""
    shell.good("emit", "ESCALATE", f"question={question}", "--agent", "A")
    shown = lambda: question in shell.run("escalations", "--json").out  # noqa: E731 - a condition
    until(shown, "the question stands")


PARTITION = Namespace().partition(0)


def test_a_hook_runs_only_with_consent(clone: Shell) -> None:
    marker = clone.home.parent / "marker"
    with up(clone) as running:
        ask(clone, "first")
        with running.client() as client:  # both have read the rules before they take a lease
            leases = [PARTITION.lease(group) for group in (ORCHESTRATORS, SYNTHESIZERS)]
            until(lambda: all(client.hget(lease, "owner") for lease in leases), "both serve")
        done = running.stop()
    assert done.err.count("that you have not allowed (escalations.hook)") == 3, "up and two workers"
    assert not marker.exists()

    refused = clone.run("trust")
    assert (refused.code, refused.err) == (
        4,
        "fabric: nothing is allowed: say `fabric trust --yes` to allow it\n",
    )
    assert f"  escalations.hook: sh -c 'cat >> {marker}'" in refused.lines
    shown = clone.run("trust", "--json")
    assert (shown.code, shown.json["allowed"]) == (4, False)
    assert clone.run("trust", "--yes").code == 0
    again = clone.good("trust", "--json").json
    assert (again["allowed"], again["digest"]) == (True, shown.json["digest"])

    with up(clone) as running:
        ask(clone, "second")
        until(lambda: marker.exists() and "second" in marker.read_text(), "the hook has run")
        assert "have not allowed" not in running.stop().err
    told = [json.loads(line)["question"] for line in marker.read_text().splitlines()]
    assert "second" in told

    assert clone.run("trust", "--revoke").code == 0
    assert clone.run("trust").code == 4
    assert clone.run("trust", FABRIC_TRUST=again["digest"]).code == 0


def test_a_server_in_a_projects_file_is_not_called(clone: Shell) -> None:
    url = "redis://:topsecret@127.0.0.1:1/0"
    (clone.home / "fabric.toml").write_text(f'redis_url = "{url}"\n')
    for words in (("status",), ("up",), ("emit", "PROGRESS(1%)", "--agent", "A"), ("demo",)):
        done = clone.run(*words)
        assert (done.code, done.out) == (2, ""), words
        assert "fabric.toml:1 sets redis_url" in done.err
    done = clone.run("trust")
    assert "topsecret" not in done.out + done.err
    assert "  redis_url: redis://127.0.0.1:1/0" in done.lines
    kept = clone.run("trust", "--yes")
    assert kept.code == 0
    assert "topsecret" not in "".join(
        path.read_text() for path in Project(clone.home).trusted.iterdir()
    )
    assert clone.run("status").code == 6, "now it is"


def test_nothing_to_allow(lone: Shell) -> None:
    done = lone.run("trust")
    assert (done.code, done.out) == (0, "")
    assert "asks for anything" in done.err


def test_an_append_only_file_in_a_clone_runs_nothing(clone: Shell) -> None:
    marker = "marker.rdb"
    lines = ("SELECT 0", f"CONFIG SET dbfilename {marker}", "SET a b", "SAVE", "MODULE LOAD ./m.so")
    source = clone.home.parent / "source"
    (source / ".fabric").mkdir()
    (source / ".fabric" / "appendonly.aof").write_bytes(commands(*lines))
    git(source, "add", "-A", "-f")
    git(source, "commit", "-q", "-m", "trap")
    git(clone.home, "pull", "-q")
    for mode in (0o755, 0o700):
        (clone.home / ".fabric").chmod(mode)
        done = clone.run("up")
        assert (done.code, done.out) == (4, "")
        assert f"{clone.home / '.fabric'} holds data for a server, and " in done.err
        assert "Remove appendonly.aof there to start with nothing" in done.err
    assert not list(clone.home.parent.rglob(marker))
    assert not list(Project(clone.home).state.rglob(marker))
    git(clone.home, "rm", "-q", "-r", ".fabric")
    with up(clone) as running:
        assert running.handle() == 1


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_worktree_shares_the_server(clone: Shell, where: str) -> None:
    path = clone.home / ".claude" / "wa" if where == "inside" else clone.home.parent / "wa"
    git(clone.home, "worktree", "add", "-q", str(path))
    (path / "deep").mkdir()
    with up(clone) as running:
        assert running.handle() == 1, "the workers serve"
        for folder in (path, path / "deep"):
            there = Shell(folder, clone.variables)
            assert there.run("status", "--json", FABRIC_SESSION="").code == 0
            there.good("emit", "PROGRESS(25%)", "--agent", "ME")
            told = there.run("doctor").out
            assert f"of {clone.home} (pid {running.server_pid})" in told
            assert "`fabric up`" not in told
        with up(Shell(path, clone.variables)) as second:
            assert second.server_pid == running.server_pid
            assert second.told["project"] == str(clone.home)
            assert second.stop().code == 0
        done = Shell(path, clone.variables).run("down")
        assert f"of {clone.home} (pid {running.server_pid})" in done.out
    done = Shell(path, clone.variables).run("down")
    assert done.err == f"fabric: no private server runs for {clone.home}\n"


def test_what_the_file_says_is_shown_allowed_or_not(clone: Shell) -> None:
    shown = clone.run("rules", "show", "--json")
    assert shown.json["rules"]["escalations"]["hook"][0] == "sh"
    assert shown.json["file"] == str(clone.home / "fabric.toml")
    assert "that you have not allowed (escalations.hook)" in clone.run("rules", "show").err


def test_the_guard_names_files_from_the_top_of_the_copy(clone: Shell) -> None:
    library = repository(clone.home.parent / "library", "lib.c")
    git(clone.home, "submodule", "-q", "add", str(library), "sub")
    git(clone.home, "commit", "-q", "-m", "submodule")
    path = clone.home.parent / "wa"
    git(clone.home, "worktree", "add", "-q", str(path))
    git(path, "submodule", "-q", "update", "--init")
    # A program that the checkout's own settings name.
    git(clone.home, "config", "core.fsmonitor", f"touch {clone.home.parent / 'ran'} #")
    for folder in (path, path / "sub"):
        (folder / "new.c").touch()
        subprocess.run(
            [*("git", "-c", "core.fsmonitor=false", "add", "new.c")],
            cwd=folder,
            check=True,
        )
    with up(clone):
        clone.good("emit", "STARTED", "--agent", "A")
        until(lambda: clone.run("guard", "x", "--agent", "A").code == 0, "the session is there")
        for folder, names in {
            path: ["new.c"],
            path / "sub": ["sub/new.c"],
        }.items():
            there = Shell(folder, clone.variables)
            staged = there.run("guard", "--staged", "--json", "--agent", "A").json_lines
            assert set(names) <= {one["path"] for one in staged}
            named = there.good("guard", str(folder / "b.c"), "--json", "--agent", "A").json
            assert named["path"] == names[0].replace("new.c", "b.c")
    assert not (clone.home.parent / "ran").exists()
