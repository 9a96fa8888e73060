"""Agents of several sessions, and several processes of one name, in one worktree."""

from pathlib import Path

import pytest

from tests.support.git import git, repository
from tests.support.shell import Shell

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
