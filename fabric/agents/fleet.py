"""Many agents at a time: what `fabric run --fleet FILE` does.

The file says which commands run as which agents, how many at a time, and after which others. Each
can have a git worktree of its own, on the branch `fabric/<session>/<agent>`. At its end a worktree
without changes is removed; one with changes stays, and is named.
"""

from __future__ import annotations

import asyncio
import shlex
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from fabric.agents.child import Job
from fabric.agents.output import Document
from fabric.agents.run import AgentRun, Ended
from fabric.client.fabric import Fabric
from fabric.core.quota import PREFIX as QUOTA
from fabric.core.signal import SignalType
from fabric.devserver.project import state_home
from fabric.errors import ConfigError, FabricError

#: Agents of one file: all of them have a process, a connection's share and a line on the screen.
AGENTS_MAX = 1_000
#: Agents at a time if the file does not say it.
LIMIT = 4
#: Seconds between two looks whether a quota is available again.
LOOK_S = 1.0

_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class AgentEntry(Struct, forbid_unknown_fields=True):
    """One `[[agent]]` of a fleet file."""

    name: _Name
    #: Words, or one text that is cut into words as a shell does.
    command: list[str] | str
    stream: str = ""
    priority: int = 0
    task: str = ""
    #: So many of it, called NAME-1, NAME-2 and so on.
    count: Annotated[int, Meta(ge=1, le=AGENTS_MAX)] = 1
    #: Begins when these have completed.
    after: list[_Name] = []
    #: How often it is tried again after a failure that may pass, such as a quota that is used up.
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    folder: str = "."
    environment: dict[str, str] = {}
    worktree: bool | None = None


class FleetFile(Struct, forbid_unknown_fields=True):
    """A fleet file."""

    agent: Annotated[list[AgentEntry], Meta(min_length=1)]
    session: str = ""
    #: Agents at a time.
    limit: Annotated[int, Meta(ge=1, le=AGENTS_MAX)] = LIMIT
    #: A git worktree for each agent.
    worktrees: bool = False


@dataclass(frozen=True)
class Member:
    """One agent of a fleet."""

    job: Job
    after: tuple[str, ...]
    retries: int
    has_worktree: bool


def load(path: Path) -> tuple[FleetFile, list[Member]]:
    """Read a fleet file. Raises ConfigError, which names what is wrong."""
    try:
        with path.open("rb") as file:
            found = msgspec.convert(tomllib.load(file), FleetFile)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from None
    members = [member for entry in found.agent for member in _members(entry, path, found)]
    names = [member.job.name for member in members]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ConfigError(f"{path}: two agents are called {double[0]}")
    if len(members) > AGENTS_MAX:
        raise ConfigError(f"{path}: {len(members)} agents; at most {AGENTS_MAX}")
    _check_order(members, path)
    return found, members


def _members(entry: AgentEntry, path: Path, fleet: FleetFile) -> Iterator[Member]:
    try:
        words = shlex.split(entry.command) if isinstance(entry.command, str) else entry.command
    except ValueError as error:
        raise ConfigError(f"{path}: command of {entry.name}: {error}") from None
    if not words:
        raise ConfigError(f"{path}: {entry.name} has no command")
    for number in range(1, entry.count + 1):
        name = entry.name if entry.count == 1 else f"{entry.name}-{number}"
        job = Job(
            name,
            tuple(words),
            stream=entry.stream,
            priority=entry.priority,
            task=entry.task,
            folder=(path.parent / entry.folder).resolve(),
            environment=entry.environment,
        )
        wants = fleet.worktrees if entry.worktree is None else entry.worktree
        yield Member(job, tuple(entry.after), entry.retries, wants)


def _check_order(members: list[Member], path: Path) -> None:
    """Raise ConfigError if an agent would begin after one that is not there, or after itself."""
    after = {member.job.name: set(member.after) for member in members}
    for name, others in after.items():
        if missing := sorted(others - set(after)):
            raise ConfigError(f"{path}: {name} begins after {missing[0]}, which is not in it")
    while ready := [name for name, others in after.items() if not others]:
        for name in ready:
            del after[name]
        for others in after.values():
            others.difference_update(ready)
    if after:
        raise ConfigError(f"{path}: {', '.join(sorted(after))} begin after each other in a circle")


@dataclass
class Row:
    """How one agent of the fleet is doing, to be shown."""

    name: str
    state: str = "waits"
    percent: float | None = None
    seconds: float = 0.0
    detail: str = ""


class Fleet:
    """Runs the agents of a file; `run` returns when all have ended, or could not begin.

    `changed` is called with the row of an agent each time that it has changed.
    """

    def __init__(
        self,
        fabric: Fabric,
        session: str,
        members: list[Member],
        *,
        limit: int,
        changed: Callable[[Row], None],
        tell: Callable[[str], None],
    ) -> None:
        self._fabric, self._session, self._members = fabric, session, members
        self._turn, self._changed, self._tell = asyncio.Semaphore(limit), changed, tell
        self.rows = {member.job.name: Row(member.job.name) for member in members}
        self._ends: dict[str, asyncio.Future[bool]] = {}

    async def run(self) -> list[Ended]:
        """Run all of them; being cancelled stops all of them. Return those that began, in order."""
        loop = asyncio.get_running_loop()
        self._ends = {name: loop.create_future() for name in self.rows}
        tasks = [asyncio.create_task(self._member(member)) for member in self._members]
        try:
            found = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return [ended for ended in found if ended is not None]

    async def _member(self, member: Member) -> Ended | None:
        name, ended = member.job.name, None
        try:
            for other in member.after:
                if not await asyncio.shield(self._ends[other]):
                    self._show(name, "skipped", f"{other} did not complete")
                    return None
            async with self._turn:
                ended = await self._tried(member)
        except FabricError as error:
            self._show(name, "failed", str(error))
        finally:
            is_good = ended is not None and ended.kind is SignalType.COMPLETED
            if not self._ends[name].done():
                self._ends[name].set_result(is_good)
        return ended

    async def _tried(self, member: Member) -> Ended:
        """Run an agent, again after failures that may pass, in its worktree if it has one."""
        name, folder = member.job.name, member.job.folder or Path.cwd()
        tree = await Worktree.add(folder, self._session, name) if member.has_worktree else None
        job = replace(member.job, folder=tree.inside if tree else folder)
        try:
            for left in range(member.retries, -1, -1):
                self._show(name, "runs", "")
                run = AgentRun(
                    self._fabric,
                    self._session,
                    job,
                    tell=self._tell,
                    echo=False,
                    seen=lambda document: self._note(name, document),
                )
                ended = await run.run()
                if ended.kind is SignalType.COMPLETED or not left or not ended.is_limited:
                    break
                self._show(name, "waits", "its quota is used up")
                await self._until_quota()
        finally:
            kept = await tree.leave() if tree is not None else ""
        state = "completed" if ended.kind is SignalType.COMPLETED else "failed"
        self.rows[name].seconds = ended.seconds
        more = f"output {ended.kept}" if not ended.error else ended.error
        self._show(name, state, f"{more}; changes in {kept}" if kept else more)
        return ended

    async def _until_quota(self) -> None:
        """Return when no quota of the vendors is in force that the agent could share."""
        session = self._fabric.session(self._session)
        while True:
            known = await session.dependencies()
            if not any(on.startswith(QUOTA) and one.until_ms for on, one in known.items()):
                return
            await asyncio.sleep(LOOK_S)

    def _note(self, name: str, document: Document) -> None:
        percent = document.get("percent")
        if isinstance(percent, int | float):
            self.rows[name].percent = percent
            self._changed(self.rows[name])

    def _show(self, name: str, state: str, detail: str) -> None:
        row = self.rows[name]
        row.state, row.detail = state, detail
        self._changed(row)


@dataclass(frozen=True)
class Worktree:
    """A git worktree of one agent."""

    repository: Path
    top: Path
    branch: str
    #: The commit that it began at.
    base: str
    #: Where the agent works: the folder of the fleet file's, within the worktree.
    inside: Path

    @classmethod
    async def add(cls, folder: Path, session: str, agent: str) -> Worktree:
        """Make a worktree of the repository around a folder, or go on with the one of before.

        Raises ConfigError if git refuses.
        """
        repository = Path(await _git(folder, "rev-parse", "--show-toplevel"))
        base = await _git(repository, "rev-parse", "HEAD")
        names = [quote(one, safe="") for one in (session, agent)]
        top = state_home() / "worktrees" / quote(str(repository), safe="")[-100:] / "-".join(names)
        branch = f"fabric/{names[0]}/{names[1]}"
        if not top.exists():
            top.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = await _git(repository, "branch", "--list", "--format=%(refname)", branch)
            new = [] if known else ["-b", branch]
            await _git(
                repository, "worktree", "add", "-q", *new, str(top), branch if known else base
            )
        base = await _git(top, "rev-parse", "HEAD")
        return cls(repository, top, branch, base, top / folder.relative_to(repository))

    async def leave(self) -> str:
        """Remove it if nothing was changed; else return where the changes are."""
        with suppress(ConfigError):
            is_same = await _git(self.top, "rev-parse", "HEAD") == self.base
            if is_same and not await _git(self.top, "status", "--porcelain"):
                await _git(self.repository, "worktree", "remove", str(self.top))
                await _git(self.repository, "branch", "-d", self.branch)
                return ""
        return f"{self.top} (branch {self.branch})"


async def _git(folder: Path, *words: str) -> str:
    """Run git without the hooks that the repository names. Raises ConfigError if it fails."""
    safe = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", *safe, *words),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise ConfigError(f"git does not run in {folder}: {error.strerror}") from None
    out, said = await process.communicate()
    if process.returncode:
        words_said = said.decode(errors="replace").strip()
        raise ConfigError(f"git {words[0]} in {folder}: {words_said or process.returncode}")
    return out.decode(errors="surrogateescape").strip()
