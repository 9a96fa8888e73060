"""The git repository that one works in: its root, what is staged, and its pre-commit hook."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from fabric.errors import ConfigError, NotAllowedError

#: What a hook calls; a hook of somebody else's that calls it guards as well.
HOOK_LINE = "fabric guard --staged || exit 1"
_CALL = "fabric guard --staged"

#: The hook. The test for the program is there to name the way out: without it the commit is refused
#: all the same.
HOOK = f"""\
#!/bin/sh
# Refuses a commit that touches a path held by another agent. From `fabric guard --install`.
if ! command -v fabric >/dev/null 2>&1; then
    echo "fabric is not on PATH, so nobody can say who holds what is staged:" >&2
    echo "put it there, or commit unguarded: git commit --no-verify" >&2
    exit 1
fi
{HOOK_LINE}
"""

#: What counts as touching a path: added, copied, deleted, modified, renamed, of another type; also
#: a submodule that a user's own settings leave out.
_STAGED = (
    "diff",
    "--cached",
    "--name-only",
    "-z",
    "--no-renames",
    "--ignore-submodules=none",
    "--diff-filter=ACDMRT",
)


def root(folder: Path) -> Path:
    """Return the root of the work tree that a folder lies in. Raises ConfigError without one."""
    return Path(_line(folder, "rev-parse", "--show-toplevel"))


def staged(folder: Path) -> list[str]:
    """Return the paths that a commit would touch, from the root. Raises ConfigError.

    A renamed file is both of its names. Bytes that are no UTF-8 are as `os.fsdecode` has them.
    """
    # From the root: with diff.relative git says nothing of what lies outside of the present folder.
    return [os.fsdecode(path) for path in _git(root(folder), *_STAGED).split(b"\0") if path]


def install_hook(folder: Path) -> tuple[Path, bool]:
    """Put the pre-commit hook where git looks for it; return its path, and whether it is new.

    One that guards already is left alone. Raises NotAllowedError when there is another one, or
    none can be written, and ConfigError outside of a repository.
    """
    top = root(folder)
    # From the root, because git runs hooks there: a relative core.hooksPath begins there too.
    path = top / _line(top, "rev-parse", "--git-path", "hooks") / "pre-commit"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777)
    except FileExistsError:
        _check_present(path)
        return path, False
    except OSError as error:
        raise NotAllowedError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(handle, "w") as file:
        file.write(HOOK)
    return path, True


def _check_present(path: Path) -> None:
    try:
        present = path.read_text(errors="replace")
    except OSError as error:
        raise NotAllowedError(f"cannot read {path}: {error.strerror}") from None
    lines = (line.strip() for line in present.splitlines())
    if not any(_CALL in line for line in lines if not line.startswith("#")):
        raise NotAllowedError(
            f"{path} is there already, and not ours: add this line near its top: {HOOK_LINE}"
        )
    if not os.access(path, os.X_OK):
        raise NotAllowedError(f"{path} is not executable, so git skips it: chmod +x it")


def _line(folder: Path, *words: str) -> str:
    return os.fsdecode(_git(folder, *words).removesuffix(b"\n"))


def _git(folder: Path, *words: str) -> bytes:
    # With the environment as it is: within a hook it names the index of this very commit.
    try:
        done = subprocess.run(  # noqa: S603 - an argument vector, all words ours
            ["git", *words],  # noqa: S607 - git from PATH, as the user has it
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise ConfigError(f"git does not run: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise ConfigError(f"git {words[0]} in {folder}: {said or f'exit {done.returncode}'}")
    return done.stdout
