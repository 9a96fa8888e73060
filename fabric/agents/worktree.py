"""What a shell command has changed, as git sees it: clients do not say what a command writes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

#: Seconds for git: in a repository in which it takes longer, the check is left out.
GIT_S = 5.0

#: Changed files that are looked at: a command that changes more has checked out another branch.
FILES_MAX = 1_000

#: A file in the worktree: size, time of change in ns, inode; None if it is not there.
Mark = tuple[int, int, int] | None

#: Changed or untracked file, from the top → its mark.
Snapshot = dict[str, Mark]


def mark(path: str) -> Mark:
    """Return what tells one content of a file from another, without reading it."""
    try:
        found = os.stat(path)  # noqa: PTH116 - many paths, and no Path for each
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


async def snapshot(top: str) -> Snapshot | None:
    """Return the changed and untracked files of a worktree; None if git cannot say."""
    try:
        process = await asyncio.create_subprocess_exec(
            # The hook of fsmonitor is a program that the checkout's own settings name.
            *("git", "-c", "core.fsmonitor=false", "--no-optional-locks", "status"),
            *("--porcelain", "-z", "--untracked-files=all", "--no-renames"),
            cwd=top,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        out, _ = await asyncio.wait_for(process.communicate(), GIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    names = [os.fsdecode(entry[3:]) for entry in out.split(b"\0") if len(entry) > 3]
    if process.returncode or len(names) > FILES_MAX:
        return None
    return {name: mark(str(Path(top, name))) for name in names}


def changed(top: str, before: Snapshot, after: Snapshot) -> list[str]:
    """Return the files whose content may differ between two snapshots, the later one of now.

    A file that is clean again may have been committed as it was: that changes nothing.
    """
    found = [name for name, now in after.items() if name not in before or before[name] != now]
    found += [
        name for name in before.keys() - after.keys() if mark(str(Path(top, name))) != before[name]
    ]
    return sorted(found)
