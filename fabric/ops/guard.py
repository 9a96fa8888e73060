"""Whether an agent may write a path now, and the git hook that checks it (`fabric guard`).

A claim that is held decides, a claim on a glob too; a claim that waits does not count. The answer
holds for this moment only: ask right before the write.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fabric.client.session import Session, confirm
from fabric.core.agent_status import integration
from fabric.core.copies import is_in_copy, is_related
from fabric.core.record import ClaimRecord, ClaimState
from fabric.core.resource import Index
from fabric.core.resource_name import ManyNamesError, literal, names_of, normalise
from fabric.devserver.path import Files, files_here
from fabric.devserver.project import locate
from fabric.errors import ConfigError, HeldError, NotAllowedError
from fabric.view.text import rfc3339

_AFTER_IT = "write after its RESUME"
_ASK_AGAIN = "ask again with INTENT, and write after PROCEED"


@dataclass(frozen=True, slots=True)
class Holding:
    """A held claim on a path: the resource as it was claimed, and since when, ms."""

    resource: str
    agent: str
    token: int
    since_ms: int

    def __str__(self) -> str:
        claim = f"claimed as {self.resource}, token {self.token}, since {rfc3339(self.since_ms)}"
        return f"held by {self.agent} ({claim})"


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether a path may be written. `refusal` says why not, and what to do; "" if it may."""

    path: str
    holdings: tuple[Holding, ...] = ()
    refusal: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the path may be written."""
        return not self.refusal

    def demand(self) -> None:
        """Raise HeldError with the refusal if the path may not be written."""
        if self.refusal:
            raise HeldError(self.refusal)


async def check(
    session: Session,
    path: str,
    *,
    token: int | None,
    agent: str | None,
    copy: str | None = None,
) -> Permission:
    """Return whether a path may be written now; see `judge`. Raises ServerError.

    `copy` is the caller's copy of the files, HOST:TOP: claims that the rules keep apart in others
    do not count.
    """
    (verdict,) = await check_all(session, [path], token=token, agent=agent, copy=copy)
    return verdict


async def check_all(
    session: Session,
    paths: Sequence[str],
    *,
    token: int | None,
    agent: str | None,
    copy: str | None = None,
) -> list[Permission]:
    """Return the same for several paths, all at one moment. Raises ServerError.

    UnavailableError too, with the setting `wait_replicas`, when too few replicas know the claims:
    another server may have taken over, and given them to another agent.
    """
    held = Held((await session.claims()).values(), copy)
    barrier, leader = integration(await session.barriers())
    found = []
    for path in paths:
        verdict = judge(path, held.on(path), token=token, agent=agent)
        caller = agent
        if token is not None:
            caller = next((one.agent for one in verdict.holdings if one.token == token), None)
        if barrier and caller != leader and verdict.allowed:
            reason = f"{path} must not change now: {leader} integrates ({barrier}): {_AFTER_IT}"
            verdict = Permission(path, verdict.holdings, reason)
        found.append(verdict)
    if any(one.allowed for one in found):
        await confirm(session)
    return found


class Held:
    """The claims that are held, by the resources that they write."""

    def __init__(self, claims: Iterable[ClaimRecord], copy: str | None = None) -> None:
        """`copy`: leave out claims that are kept apart in other copies of the files."""
        self._index = Index()
        self._claims: dict[str, list[ClaimRecord]] = {}
        for claim in claims:
            is_elsewhere = bool(copy and claim.copy and claim.copy != copy)
            if claim.state is ClaimState.HELD:
                for resource in claim.writes:
                    if is_elsewhere and is_in_copy(resource):
                        continue
                    self._index.add(resource)
                    self._claims.setdefault(resource, []).append(claim)

    def on(self, path: str) -> list[Holding]:
        """Return the claims on a path by token, each with the first resource that covers the path.

        The path is one file or folder: an `[x]` in its name is also taken literally.
        """
        spelling = normalise(path)
        found: dict[tuple[int, str], Holding] = {}
        # Its commas and braces may be a list to those who claimed it.
        names = [spelling, literal(spelling)]
        with suppress(ManyNamesError):
            names += names_of([spelling])
        for name in dict.fromkeys(names):
            for resource in self._index.overlapping(name):
                for claim in self._claims[resource]:
                    holding = Holding(resource, claim.agent, claim.token, claim.granted_ms)
                    found.setdefault((claim.token, claim.agent), holding)
        return [found[which] for which in sorted(found)]


def judge(
    path: str, held: Sequence[Holding], *, token: int | None, agent: str | None
) -> Permission:
    """Return whether a path may be written, given the claims that are held on it.

    With a token, one of the claims must have it, and must be the agent's if one is named; without,
    the claims must be the agent's. Either way all must belong to one agent. A path that nobody
    holds is free, but not for a token: the claim of that token has ended.
    """
    holdings = tuple(held)
    if not holdings:
        ended = f"{path}: nobody holds it now; your token {token} has ended: {_ASK_AGAIN}"
        return Permission(path, (), "" if token is None else ended)
    caller = agent
    if token is not None:
        caller = next((one.agent for one in holdings if one.token == token), None)
    if token is not None and caller and agent and not is_related(caller, agent):
        reason = f"{path}: token {token} is that of {caller}, and you are {agent}: {_ASK_AGAIN}"
        return Permission(path, holdings, reason)
    foreign = [one for one in holdings if caller is None or not is_related(one.agent, caller)]
    if not foreign:
        return Permission(path, holdings)
    if token is None or caller is not None:
        why, what = "", "ask with INTENT, and write after PROCEED"
    elif all(one.agent == agent for one in holdings):
        why = f"; your token {token} has ended"
        what = "look at it again, and write under the token of your last PROCEED"
    else:
        why, what = f"; your token {token} is not the current one", _ASK_AGAIN
    return Permission(path, holdings, f"{path} is {'; '.join(map(str, foreign))}{why}: {what}")


#: The call in the hook. Another hook that contains it guards as well.
HOOK_LINE = "fabric guard --staged || exit 1"
_CALL = "fabric guard --staged"

#: The hook. Without its first test, a missing program would refuse the commit too, but without
#: saying what to do.
HOOK = f"""\
#!/bin/sh
# Refuses a commit that touches a path held by another agent. From `fabric guard --install`.
if ! command -v fabric >/dev/null 2>&1; then
    echo "fabric is not on PATH, so the staged files cannot be checked:" >&2
    echo "put it there, or commit without the check: git commit --no-verify" >&2
    exit 1
fi
{HOOK_LINE}
"""

#: Changes that touch a path: added, copied, deleted, modified, renamed, another type; also in a
#: submodule that the user's settings ignore.
_STAGED = "diff --cached --name-only -z --no-renames --ignore-submodules=none --diff-filter=ACDMRT"


def repository_root(folder: Path) -> Path:
    """Return the root of the git work tree around a folder. Raises ConfigError without one."""
    return Path(_line(folder, "rev-parse", "--show-toplevel"))


def staged_paths(folder: Path) -> list[str]:
    """Return the names of what a commit would touch, as in claims. Raises ConfigError.

    In a submodule that is the top of the worktree around it. A renamed file counts under both
    names. Bytes that are not UTF-8 are decoded by `os.fsdecode`.
    """
    # From the root: with diff.relative, git leaves out what is not below the present folder.
    root = repository_root(folder)
    staged = _git(root, *_STAGED.split())
    top = locate(folder).top
    within = root.relative_to(top) if root.is_relative_to(top) else Path()
    files = Files(top)
    paths = [str(within / os.fsdecode(path)) for path in staged.split(b"\0") if path]
    return list(dict.fromkeys(name for path in paths for name in files.staged(path)))


def resource_name(path: str) -> str:
    """Return the name by which agents claim a path: from the top of the project's copy here."""
    return files_here().name(path)


def hook_path(folder: Path) -> Path:
    """Return where git looks for the pre-commit hook. Raises ConfigError without a repository."""
    top = repository_root(folder)
    # From the root: git runs hooks there, so a relative core.hooksPath begins there too.
    return top / _line(top, "rev-parse", "--git-path", "hooks") / "pre-commit"


def install_hook(folder: Path) -> tuple[Path, bool]:
    """Install the pre-commit hook; return its path, and whether it is new.

    A hook that already calls the guard is kept. Raises NotAllowedError when there is another hook
    or none can be written, and ConfigError outside of a repository.
    """
    path = hook_path(folder)
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
        raise NotAllowedError(f"{path} is another hook: add this line near its top: {HOOK_LINE}")
    if not os.access(path, os.X_OK):
        raise NotAllowedError(f"{path} is not executable, so git skips it: chmod +x it")


def _line(folder: Path, *words: str) -> str:
    return os.fsdecode(_git(folder, *words).removesuffix(b"\n"))


def _git(folder: Path, *words: str) -> bytes:
    # Pass the environment on: inside a hook it names the index of this commit.
    try:
        done = subprocess.run(  # noqa: S603 - an argument vector of our own words
            # The hook of fsmonitor is a program that the checkout's own settings name.
            ["git", "-c", "core.fsmonitor=false", *words],  # noqa: S607 - git from PATH, as the user has it
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
