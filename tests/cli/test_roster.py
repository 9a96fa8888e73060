"""`fabric open --expect`: `wait --all` waits for those that have not come, and names them."""

from pathlib import Path

from tests.support.shell import Shell, end


def work(shell: Shell, *names: str) -> None:
    for name in names:
        shell.good("emit", "STARTED", FABRIC_AGENT=name)
        shell.good("emit", "COMPLETED", "--confirm", FABRIC_AGENT=name)


def test_all_have_ended_when_the_expected_agents_have_come_and_ended(
    shell: Shell, session: str
) -> None:
    opened = shell.good("open", "--expect", "A,B", "--by", "eva")
    assert opened.out == f"run 1 of {session} is open; A, B expected\n"
    work(shell, "A")
    early = shell.run("wait", "--all", "--timeout", "0.1")
    assert early.code == 7
    assert "B expected, and not heard of yet" in early.err
    status = shell.good("status").out.splitlines()
    at = status.index("Expected")
    assert status[at + 2].split() == ["B", "awaited", "it", "comes"]
    assert "B is expected and has not come yet" in shell.good("why", "B").out

    waiting = shell.start("wait", "--all")
    work(shell, "B")
    done = end(waiting)
    assert (done.code, done.out) == (0, "A completed\nB completed\n")
    assert shell.good("replay").code == 0


def test_who_has_not_come_by_the_deadline_is_named(shell: Shell, tmp_path: Path) -> None:
    plan = tmp_path / "tasks.toml"
    plan.write_text('[[tasks]]\nid = "t1"\nowner = "A"\n[[tasks]]\nid = "t2"\nowner = "C"\n')
    shell.good("open", "--plan", str(plan), "--until", "1s", "--by", "eva")
    shell.good("open", "--expect", "D", "--until", "1s", "--by", "eva")
    work(shell, "A")
    done = end(shell.start("wait", "--all"))
    assert (done.code, done.out) == (1, "A completed\n")
    assert [line for line in done.err.splitlines() if "expected" in line] == [
        "fabric: C was expected, and has not come",
        "fabric: D was expected, and has not come",
    ]
    assert shell.run("wait", "--agent", "C").code == 1
    assert "C was expected until" in shell.good("why", "C").out
    assert [one[:2] for one in absent(shell)] == [["C", "absent"], ["D", "absent"]]


def absent(shell: Shell) -> list[list[str]]:
    """Return the rows of the table of expected agents."""
    lines = shell.good("status").out.splitlines()
    at = lines.index("Expected") + 2
    return [line.split() for line in lines[at : at + 2]]


def test_a_roster_needs_names(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("open", "--until", "5m", "--by", "eva").code == 2
    plan = tmp_path / "tasks.toml"
    plan.write_text('[[tasks]]\nid = "t1"\n')
    assert shell.run("open", "--plan", str(plan), "--by", "eva").code == 2
    refused = shell.run("open", "--expect", "ORCHESTRATOR", "--by", "eva")
    assert (refused.code, "(NAME)" in refused.err) == (4, True)


def test_a_run_without_a_roster_settles_before_it_is_over(shell: Shell) -> None:
    """The next agent, which a script starts at once, belongs to the run."""
    work(shell, "A")
    waiting = shell.start("wait", "--all")
    shell.good("emit", "STARTED", FABRIC_AGENT="B")
    assert shell.run("wait", "--all", "--timeout", "0.1").code == 7
    shell.good("emit", "COMPLETED", FABRIC_AGENT="B")
    assert end(waiting).code == 0
