"""Eight agents in eight worktrees of one repository: real git, processes of their own.

What the fabric names as to be merged is compared with what git finds: `git merge-tree` of each two
branches. Agents edit lines that are close or far apart, delete and rename files. Early, when an
agent is granted a file, the fabric names what both may change; in the end, what git cannot merge.
`python -m pytest tests/end_to_end/test_worktrees.py --suite rest -s` prints the figures.
"""

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from random import Random

import msgspec
import pytest

from fabric.core.copies import to_merge
from fabric.core.record import WrittenRecord
from tests.support.daemon import StartDaemon, environment
from tests.support.git import git, repository
from tests.support.keyspace import records, rows, session
from tests.support.servers import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

NAMES = [f"W{number}" for number in range(1, 9)]
FILES = [f"src/{number}.txt" for number in range(16)]
#: Files that each agent changes, and the lines of each file.
CHANGES, LINES = 4, 40
#: What it does to each: it changes one of these lines, or the whole file.
KINDS = ("5", "5", "6", "20", "35", "35", "delete", "rename")

#: Two agents and a file that both changed.
Conflict = tuple[str, str, str]


def work(server: RunningServer, folder: Path, rule: str) -> Path:
    """Let all agents do their work at once, each in a worktree; return the repository."""
    main = repository(folder / "main")
    for name in FILES:
        (main / name).parent.mkdir(exist_ok=True)
        (main / name).write_text("".join(f"line {number} of {name}\n" for number in range(LINES)))
    git(main, "add", "-A")
    git(main, "commit", "-q", "-m", "files")
    git(main, "branch", "trunk")
    chosen, running = Random(16), []
    for name in NAMES:
        git(main, "worktree", "add", "-q", "-b", name, str(folder / name))
        changes = [f"{chosen.choice(KINDS)}:{file}" for file in chosen.sample(FILES, CHANGES)]
        words = [sys.executable, "-m", "tests.end_to_end.copies", server.url, name, rule, *changes]
        running.append(
            subprocess.Popen(
                words,
                cwd=folder / name,
                env={**environment(), "FABRIC_WORKSPACE": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
    for process in running:
        process.communicate()
        assert process.returncode == 0
    return main


def found_by_git(main: Path) -> set[Conflict]:
    """Return the conflicts between any two branches; a file that was renamed has its old name."""
    found: set[Conflict] = set()
    for one, other in combinations(NAMES, 2):
        words = ["git", "merge-tree", "--write-tree", "--name-only", "--no-messages", one, other]
        done = subprocess.run(words, cwd=main, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        names = done.stdout.splitlines()[1:] if done.returncode else []
        for name in names:
            found.add((one, other, name.partition(".W")[0]))
    return found


def changed_by_both(main: Path) -> set[Conflict]:
    """Return the files that both of any two branches have changed."""
    of = {
        name: set(git(main, "diff", "--name-only", "--no-renames", "trunk", name).splitlines())
        for name in NAMES
    }
    return {(one, two, name) for one, two in combinations(NAMES, 2) for name in of[one] & of[two]}


def in_the_end(server: RunningServer) -> dict[Conflict, bool | None]:
    """Return what the fabric names in the end: what git cannot merge, can, and nobody has tried."""
    found: dict[Conflict, bool | None] = {}
    stored = records(server, session("copies").written)
    known = {name: msgspec.convert(one, WrittenRecord) for name, one in stored.items()}
    for name, merged in to_merge(known).items():
        for pair in merged.pairs:
            one, two = sorted(merged.copies[where] for where in pair)
            found[one, two, name] = merged.found.get(pair)
    return found


def named(server: RunningServer) -> tuple[set[Conflict], set[tuple[str, Conflict]]]:
    """Return the conflicts that the fabric has named early, and who was told of each."""
    found: set[Conflict] = set()
    told: set[tuple[str, Conflict]] = set()
    for row in rows(server, session("copies").log, type="CONFLICT_DETECTED"):
        if row.payload["kind"] != "merge" or row.payload.get("copies"):
            continue
        first, *others = row.payload["agents"]
        for other in others:
            for name in row.payload["resources"]:
                one, two = sorted((first, other))
                found.add((one, two, name))
                told.add((row["to"], (one, two, name)))
    return found, told


def rules(folder: Path, rule: str) -> Path:
    path = folder / "fabric.toml"
    path.write_text(f'[locks]\nworktrees = "{rule}"\n')
    return path


def test_separate_names_what_git_will_find(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon(server.url, rules=rules(tmp_path, "separate"))
    main = work(server, tmp_path, "separate")
    said, told = named(server)
    real, both = found_by_git(main), changed_by_both(main)
    among = real & both
    last = in_the_end(server)
    cannot = {one for one, is_conflict in last.items() if is_conflict}
    for what, names in (("early", said), ("in the end", cannot)):
        right = names & real
        sys.stdout.write(
            f"{what}: {len(names)} named of {len(both)} files changed by two, {len(among)} of them "
            f"in conflict: precision {len(right) / len(names):.2f}, recall "
            f"{len(right & among) / len(among):.2f}\n"
        )
    assert said == both
    assert 0 < len(among) < len(both), "git can merge some of it, and not all"
    assert set(last) == both
    assert None not in last.values(), "all were tried"
    assert cannot == real
    # Both have heard of each, while they could still talk.
    assert {name for name, _ in told} == set(NAMES)
    assert all((one, it) in told and (two, it) in told for it in said for one, two, _ in [it])
    shown = records(server, session("copies").written)
    several = {name for name, one in shown.items() if len(one["copies"]) > 1}
    assert several == {name for _, _, name in both}


def test_same_leaves_nothing_to_be_merged(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon(server.url, rules=rules(tmp_path, "same"))
    main = work(server, tmp_path, "same")
    assert named(server) == (set(), set())
    for name in NAMES:  # each merges into the trunk that all have made, without a conflict
        git(main, "merge-tree", "--write-tree", "trunk", name)
        assert git(main, "log", "--oneline", f"trunk..{name}") == ""
    assert len(git(main, "log", "--oneline", "--no-merges", "trunk").splitlines()) == 34
