"""Agents of several sessions, and several processes of one name, in one worktree."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.git import git, repository
from tests.support.shell import Shell, end
from tests.support.waiting import until

pytestmark = pytest.mark.server


def test_a_second_session_in_one_worktree_is_refused(shell: Shell) -> None:
    repository(shell.home / "repo", "a.py")
    git(shell.home / "repo", "worktree", "add", "-q", str(shell.home / "other"))
    shell.home /= "repo"
    claim = ("emit", "INTENT", "writes=a.py")
    shell.good(*claim, FABRIC_SESSION="one", FABRIC_AGENT="A")
    done = shell.run(*claim, FABRIC_SESSION="two", FABRIC_AGENT="B")
    assert (done.code, done.out) == (5, "")
    assert "session one works in" in done.err
    shell.good(*claim, FABRIC_SESSION="one", FABRIC_AGENT="B")
    shell.home = shell.home.parent / Path("other")
    shell.good(*claim, FABRIC_SESSION="two", FABRIC_AGENT="B")


def test_a_second_process_under_one_name_is_refused_with_the_first_ones_instance(
    shell: Shell,
) -> None:
    shell.good("emit", "STARTED", "--confirm", FABRIC_AGENT="W", FABRIC_INSTANCE="p1")
    done = shell.run("emit", "STARTED", "--confirm", FABRIC_AGENT="W", FABRIC_INSTANCE="p2")
    assert done.code == 4
    assert "refused (NAME_TAKEN): W is the agent of p1, at work for 0 s" in done.err
    words = ("emit", "STARTED", "takes_over=p1", "--confirm")
    shell.good(*words, FABRIC_AGENT="W", FABRIC_INSTANCE="p2")
    done = shell.run("emit", "RELEASE", "--confirm", FABRIC_AGENT="W", FABRIC_INSTANCE="p1")
    assert "W is the agent of p2" in done.err


@pytest.fixture
def separate(quiet: Shell) -> Iterator[Shell]:
    """A shell in a repository with two worktrees; copies are kept apart."""
    rules = quiet.home / "rules.toml"
    rules.write_text('[locks]\nworktrees = "separate"\n')
    quiet.variables["FABRIC_CONFIG"] = str(rules)
    process = quiet.start("orchestrator")
    main = repository(quiet.home / "repo", "a.py", "b.py")
    for name in ("a.py", "b.py"):
        (main / name).write_text("".join(f"{number}\n" for number in range(20)))
    git(main, "commit", "-q", "-a", "-m", "lines")
    for name in ("one", "two"):
        git(main, "worktree", "add", "-q", "-b", name, str(quiet.home / name))
    yield quiet
    process.terminate()
    end(process)


def edit(folder: Path, name: str, number: int) -> None:
    lines = (folder / name).read_text().splitlines(keepends=True)
    lines[number] = f"{folder.name}\n"
    (folder / name).write_text("".join(lines))


def test_what_git_cannot_merge_is_named_when_it_is_given_back(separate: Shell) -> None:
    shell, top = separate, separate.home
    for name, agent in (("one", "A"), ("two", "B")):
        shell.home = top / name
        shell.good("emit", "INTENT", "writes=a.py,b.py", "--confirm", FABRIC_AGENT=agent)
        edit(top / name, "a.py", 5)
        edit(top / name, "b.py", 5 if agent == "A" else 15)
    status = shell.good("status").out
    assert status.count("not tried: A and B") == 2
    shell.good("emit", "RELEASE", "--confirm", FABRIC_AGENT="A")
    assert shell.good("status").out.count("not tried: A and B") == 2, "B is still at it"
    shell.good("emit", "COMPLETED", FABRIC_AGENT="B")
    until(lambda: "conflicts: A and B" in shell.good("status").out)
    status = shell.good("status").out
    assert re.search(r"a\.py +conflicts: A and B", status), status
    assert re.search(r"b\.py +merges cleanly", status), status
    assert '"copies":["' in shell.good("inbox", FABRIC_AGENT="A").out.replace(" ", "")
    assert "git cannot merge a.py" in shell.good("why", "A").out
    assert "git cannot merge a.py" in shell.good("tail").out


def test_a_command_that_ends_has_its_copy_tried(separate: Shell) -> None:
    shell, top = separate, separate.home
    fabric = f"{sys.executable} -m fabric.cli"
    program = f"{fabric} emit INTENT writes=a.py --confirm && sed -i s/^5$/$FABRIC_AGENT/ a.py"
    for name, agent in (("one", "A"), ("two", "B")):
        shell.home = top / name
        assert shell.run("run", "--agent", agent, "--", "sh", "-c", program).code == 0
    until(lambda: "conflicts: A and B" in shell.good("status").out)
