"""An agent in a worktree: `python -m tests.end_to_end.copies URL NAME RULE FILE…`.

The working directory is its worktree, on a branch of its name. It claims each file, changes its
only line, commits, and gives it back. With the rule `same` it takes over what the others have done
before it changes a file, and hands its own work on to all (branch `trunk`); with `separate` it does
not. When it is done it prints a line, and ends when its input does: so all can talk to the end.
"""

import subprocess
import sys
from pathlib import Path

from fabric.client.sync import SyncAgent, SyncFabric
from tests.support.git import git

HERE = Path()


def change(agent: SyncAgent, name: str, *, is_shared: bool) -> None:
    """Change a file under a claim."""
    with agent.writing(name, timeout=300):
        if is_shared:
            git(HERE, "merge", "-q", "-m", "take over", "trunk")
        (HERE / name).write_text(f"of {agent.name}\n")
        git(HERE, "commit", "-q", "-a", "-m", f"{agent.name} changes {name}")
        while is_shared and not handed_on():
            git(HERE, "merge", "-q", "-m", "take over", "trunk")


def handed_on() -> bool:
    """Move `trunk` to this commit, unless somebody has moved it on since it was taken over."""
    before, mine = git(HERE, "rev-parse", "trunk"), git(HERE, "rev-parse", "HEAD")
    if git(HERE, "merge-base", before, mine) != before:
        return False
    try:
        git(HERE, "update-ref", "refs/heads/trunk", mine, before)
    except subprocess.CalledProcessError:
        return False
    return True


def main() -> None:
    url, name, rule, *files = sys.argv[1:]
    with (
        SyncFabric.connect(url, session="copies", heartbeat_ms=1_000) as fabric,
        fabric.agent(name) as agent,
    ):
        for file in files:
            change(agent, file, is_shared=rule == "same")
        sys.stdout.write("done\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
