"""An agent in a worktree: `python -m tests.end_to_end.copies URL NAME RULE CHANGE…`.

The working directory is its worktree, on a branch of its name. A change is `LINE:FILE`,
`delete:FILE` or `rename:FILE`. It claims each file (both names of one that it renames), makes the
change, commits, and gives it back. With the rule `same` it takes over what the others have done
before it changes a file, and hands its own work on to all (branch `trunk`); with `separate` it does
not. When it is done it prints a line, and ends when its input does: so all can talk to the end.
"""

import subprocess
import sys
from pathlib import Path

from fabric.client.sync import SyncAgent, SyncFabric
from tests.support.git import git

HERE = Path()


def change(agent: SyncAgent, what: str, name: str, *, is_shared: bool) -> None:
    """Change a file under a claim; one that another agent has taken away is left alone."""
    target = f"{name}.{agent.name}"
    with agent.writing(name, *((target,) if what == "rename" else ()), timeout=300):
        if is_shared:
            git(HERE, "merge", "-q", "-m", "take over", "trunk")
        if not (HERE / name).exists():
            pass
        elif what == "rename":
            git(HERE, "mv", name, target)
        elif what == "delete":
            git(HERE, "rm", "-q", name)
        else:
            lines = (HERE / name).read_text().splitlines()
            lines[int(what)] = f"of {agent.name}"
            (HERE / name).write_text("\n".join(lines) + "\n")
        git(HERE, "commit", "-q", "--allow-empty", "-a", "-m", f"{agent.name}: {what} {name}")
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
    url, name, rule, *changes = sys.argv[1:]
    with (
        SyncFabric.connect(url, session="copies", heartbeat_ms=1_000) as fabric,
        fabric.agent(name) as agent,
    ):
        for one in changes:
            change(agent, *one.split(":"), is_shared=rule == "same")
        sys.stdout.write("done\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
