"""`fabric run --fleet`: many commands as agents, with real processes and real worktrees."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.git import git, repository
from tests.support.shell import Shell, end
from tests.support.waiting import until


def write(shell: Shell, text: str) -> None:
    (shell.home / "fleet.toml").write_text(text)


def run(shell: Shell, text: str, code: int = 0) -> dict[str, Any]:
    write(shell, text)
    done = shell.run("run", "--fleet", "fleet.toml", "--json")
    assert done.code == code, done
    return {one["name"]: one for one in done.json_lines}


def test_agents_run_after_those_that_they_need(shell: Shell) -> None:
    found = run(
        shell,
        """
        [[agent]]
        name = "B"
        command = ["cat", "made"]
        after = ["A"]
        [[agent]]
        name = "A"
        command = "sh -c 'sleep 0.2; echo \\"PROGRESS(50%)\\" >made'"
        stream = "X"
        """,
    )
    assert {name: one["kind"] for name, one in found.items()} == {
        "A": "COMPLETED",
        "B": "COMPLETED",
    }
    until(lambda: shell.records("agents")["A"]["status"] == "completed")
    assert shell.records("agents")["A"]["stream"] == "X"
    assert Path(found["B"]["kept"]).read_text() == "PROGRESS(50%)\n"


def test_what_failed_keeps_others_from_beginning(shell: Shell) -> None:
    write(
        shell,
        """
        limit = 1
        [[agent]]
        name = "A"
        command = ["false"]
        [[agent]]
        name = "B"
        command = ["true"]
        after = ["A"]
        [[agent]]
        name = "C"
        command = ["true"]
        count = 2
        """,
    )
    done = shell.run("run", "--fleet", "fleet.toml")
    assert done.code == 1
    assert "2 of 4 agents completed" in done.err
    lines = [line.split() for line in done.lines]
    assert ["B", "skipped"] in [line[:2] for line in lines]
    assert {"C-1", "C-2"} <= {line[0] for line in lines if line[1] == "completed"}
    assert set(shell.records("agents")) == {"A", "C-1", "C-2"}


def test_at_most_so_many_run_at_a_time(shell: Shell) -> None:
    write(
        shell,
        """
        limit = 2
        [[agent]]
        name = "A"
        count = 5
        command = "sh -c 'mkdir run-$$; set -- run-*; echo $#; sleep 0.1; rmdir run-$$'"
        """,
    )
    done = shell.run("run", "--fleet", "fleet.toml", "--json")
    counts = [int(Path(one["kept"]).read_text()) for one in done.json_lines]
    assert (len(counts), max(counts) <= 2) == (5, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "agent"),
        ("[[agent]]", "name"),
        ('[[agent]]\nname = "A"\ncommand = []', "no command"),
        ('[[agent]]\nname = "A"\ncommand = "a \'"', "quotation"),
        ('[[agent]]\nname = "A"\ncommand = "x"\ncolour = 1', "colour"),
        ('limit = 0\n[[agent]]\nname = "A"\ncommand = "x"', "limit"),
        ('[[agent]]\nname = "A"\ncommand = "x"\nafter = ["Z"]', "Z, which is not in it"),
        ('[[agent]]\nname = "A"\ncommand = "x"\nafter = ["A"]', "in a circle"),
        ('[[agent]]\nname = "A"\ncommand = "x"\n' * 2, "two agents are called A"),
        ("= 1", "fleet.toml"),
    ],
)
def test_a_file_with_a_fault_is_refused_before_anything_runs(
    shell: Shell, text: str, words: str
) -> None:
    write(shell, text)
    done = shell.run("run", "--fleet", "fleet.toml")
    assert (done.code, words in done.err) == (2, True), done


def test_each_works_in_a_worktree_of_its_own(shell: Shell) -> None:
    repository(shell.home, "a.py")
    found = run(
        shell,
        """
        worktrees = true
        [[agent]]
        name = "A"
        command = "sh -c 'pwd; echo changed >a.py'"
        [[agent]]
        name = "B"
        command = ["pwd"]
        """,
    )
    changed, same = (Path(Path(found[name]["kept"]).read_text().strip()) for name in "AB")
    assert (shell.home / "a.py").read_text() == ""
    assert (changed / "a.py").read_text() == "changed\n"
    assert not same.exists()
    session = shell.variables["FABRIC_SESSION"]
    log = shell.good("tail", "--json", "--all").json_lines
    started = [one["payload"] for one in log if one.get("type") == "STARTED"]
    workspaces = [one["workspace"] for one in started]
    assert {name.rpartition(":")[2] for name in workspaces} == {str(changed), str(same)}
    assert git(changed, "branch", "--show-current") == f"fabric/{session}/A"
    assert git(shell.home, "branch", "--list", "fabric/*").split() == ["+", f"fabric/{session}/A"]
    write(shell, (shell.home / "fleet.toml").read_text())
    again = shell.run("run", "--fleet", "fleet.toml")
    assert str(changed) in again.out


def test_no_hook_of_the_repository_runs_for_a_worktree(shell: Shell) -> None:
    repository(shell.home, "a.py")
    hook = shell.home / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {shell.home}/ran\n")
    hook.chmod(0o755)
    run(shell, 'worktrees = true\n[[agent]]\nname = "A"\ncommand = "true"\n')
    assert not (shell.home / "ran").exists()


def test_all_of_it_stops_when_it_is_stopped(shell: Shell) -> None:
    said = "touch ready-$$; exec sleep 600"
    write(shell, f'[[agent]]\nname = "A"\ncount = 3\ncommand = ["sh", "-c", {json.dumps(said)}]\n')
    process = shell.start("run", "--fleet", "fleet.toml")
    until(lambda: len([*shell.home.glob("ready-*")]) == 3)
    process.terminate()
    assert end(process).code == 143
    until(lambda: {one["status"] for one in shell.records("agents").values()} == {"failed"})
