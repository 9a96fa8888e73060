"""Real git, with none of the settings of the person who runs the tests."""

import os
import subprocess
from pathlib import Path

#: A submodule may be a folder on this machine only if git is told so.
_OPTIONS = ("-c", "protocol.file.allow=always", "-c", "user.name=T", "-c", "user.email=t@example")


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; return what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    nothing = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        ["git", *_OPTIONS, *words],  # noqa: S607 - git from PATH, as users have it
        cwd=folder,
        env={**kept, **nothing},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.strip()


def repository(folder: Path, *files: str) -> Path:
    """Make a repository with a commit of some files."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    for name in files or ("README.md",):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "first")
    return folder
