"""`fabric simulate-agents` keeps both edits, with a real server and real hooks."""

import pytest

from tests.support.shell import Shell


@pytest.mark.slow
def test_both_edits_are_left_and_the_refusal_says_why(lone: Shell) -> None:
    done = lone.run("simulate-agents")
    assert done.code == 0, done
    assert "1 of 2 edits is left" in done.out
    assert "2 of 2 edits are left" in done.out
    assert "config.py is held by claude-" in " ".join(done.out.split())
    assert not (lone.home / ".fabric").exists()
