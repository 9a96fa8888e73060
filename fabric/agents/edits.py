"""The files that one agent has seen and changed, and what others have changed since.

Two things follow: a whole file is not written over what its agent has not seen, and what a command
wrote without a claim becomes known.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fabric.agents.claim import Claims
from fabric.agents.event import WRITES, Event
from fabric.agents.worktree import Mark, Snapshot, changed, mark, snapshot
from fabric.client.agent import Agent
from fabric.core.record import ClaimState
from fabric.core.resource import Index
from fabric.core.signal import SignalType
from fabric.devserver.path import Files
from fabric.errors import DeadlockError

#: Seconds to claim what a command has written: it is written already.
DECLARE_S = 0.5

#: Top of a worktree and name of a file in it → the agent that wrote it last, and when.
Writers = dict[tuple[str, str], tuple[str, float]]


class Edits:
    """What one agent has seen of each file, and the commands that it runs."""

    def __init__(self, agent: str, writers: Writers) -> None:
        """`writers` is shared by all agents of the host."""
        self._agent, self._writers = agent, writers
        self._seen: dict[str, Mark] = {}
        self._before: dict[str, tuple[Snapshot, float]] = {}

    def note(self, event: Event, files: Files) -> None:
        """Note what a tool has read or written."""
        now = time.time()
        for path in event.paths:
            self._seen[path] = mark(path)
            if event.action in WRITES:
                self._writers[files.top, files.file(path)] = self._agent, now

    def stale(
        self, files: Files, paths: Iterable[str], *, has_waited: bool
    ) -> tuple[tuple[str, str], ...]:
        """Return the files that are not what this agent has seen of them last.

        A whole file is written over whatever is in it: an edit made meanwhile would be lost.
        """
        found = []
        for path in paths:
            now, name = mark(path), files.file(path)
            writer, _ = self._writers.get((files.top, name), ("", 0.0))
            if path in self._seen:
                is_stale = now != self._seen[path]
            else:
                is_stale = has_waited and now is not None and writer not in ("", self._agent)
            if is_stale and now is not None:
                found.append((name, writer if writer != self._agent else ""))
        return tuple(found)

    async def before_command(self, call: str, files: Files) -> None:
        """Look at the worktree before a command runs."""
        taken = await snapshot(files.top)
        if taken is not None:
            self._before[call] = taken, time.time()

    async def after_command(self, call: str, files: Files) -> list[str]:
        """Return the paths that a command has changed; those of other agents are not its own."""
        before = self._before.pop(call, None)
        after = await snapshot(files.top) if before else None
        if before is None or after is None:
            return []
        names = changed(files.top, before[0], after)
        mine = [one for one in names if not self._is_of_other(files.top, one, before[1])]
        for name in mine:
            self._seen[str(Path(files.top, name))] = after.get(name)
        return [str(Path(files.top, name)) for name in mine]

    def _is_of_other(self, top: str, name: str, since: float) -> bool:
        """Whether another agent of this host has written a file, as its own, since a time."""
        writer, at = self._writers.get((top, name), ("", 0.0))
        return writer not in ("", self._agent) and at >= since


async def declare(
    agent: Agent, claims: Claims, files: Files, paths: Iterable[str]
) -> tuple[str, ...]:
    """Make files that were written without a claim known; return what the model should know.

    What nobody has becomes an INTENT; what another agent has, a conflict.
    """
    names = [files.file(path) for path in paths]
    unclaimed = [name for name in dict.fromkeys(names) if name not in claims.held]
    if not unclaimed:
        return ()
    held = Index()
    holders: dict[str, str] = {}
    for claim in (await agent.session.claims()).values():
        if claim.state is ClaimState.HELD and claim.agent != agent.name:
            for resource in claim.writes:
                held.add(resource)
                holders[resource] = claim.agent
    news, free = [], []
    for name in unclaimed:
        others = sorted({holders[one] for one in held.overlapping(name)})
        if not others:
            free.append(name)
            continue
        await agent.emit(
            SignalType.CONFLICT_DETECTED,
            {"resources": [name], "agents": [agent.name, *others], "kind": "undeclared_write"},
        )
        news.append(
            f"Your command changed {name}, which {', '.join(others)} holds: the conflict was "
            "reported. Do not change it further before it is yours."
        )
    if free:
        with suppress(DeadlockError):
            await claims.obtain(free, f"declared {free[0]}", DECLARE_S)
    return tuple(news)
