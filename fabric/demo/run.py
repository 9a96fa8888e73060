"""Runs the fleet, each member a process, and somebody who follows the session's log meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fabric.client.fabric import Fabric
from fabric.demo.board import Board
from fabric.demo.fleet import FLEET
from fabric.demo.report import Row

#: Longest time for a whole review, s: the largest tree that is taken needs some minutes.
REVIEW_S_MAX = 1_800

#: Time for an agent to end after SIGTERM, s.
END_S_MAX = 5

#: Bytes of an agent's error output that are shown when it fails.
ERROR_BYTES_MAX = 2_000

Show = Callable[[Board, list[Row]], None]


async def run(
    url: str, namespace: str, session: str, path: str, scratch: Path, show: Show
) -> Board:
    """Let the fleet review `path`; call `show` for every log entry; return what came of it.

    `scratch` is where the fleet puts its index and its copy of files. The URL reaches the agents by
    their environment only, as it may hold a password. Agents are ended when this is cancelled.
    """
    board = Board()
    environment = {
        **os.environ,
        "FABRIC_REDIS_URL": url,
        "FABRIC_NAMESPACE": namespace,
        "FABRIC_SESSION": session,
    }
    async with Fabric.connect(url, namespace=namespace, session=session) as fabric:
        agents = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", member.program, member.name, path, str(scratch),
                env=environment,
                stderr=asyncio.subprocess.PIPE,
            )
            for member in FLEET
        ]  # fmt: skip
        try:
            async with asyncio.timeout(REVIEW_S_MAX), asyncio.TaskGroup() as group:
                following = group.create_task(_follow(fabric, session, board, show))
                group.create_task(_reap(agents, following, board))
        finally:
            await asyncio.gather(*(_end(agent) for agent in agents))
    return board


async def _follow(fabric: Fabric, session: str, board: Board, show: Show) -> None:
    """Show the log as it grows, until every agent has ended."""
    async for entry in fabric.session(session).log(follow=True):
        show(board, board.take(entry))
        if board.is_over:
            return


async def _reap(
    agents: list[asyncio.subprocess.Process], following: asyncio.Task[None], board: Board
) -> None:
    """Wait for the processes; one that died without a word must not be waited for in the log."""
    failures = [error for error in await asyncio.gather(*map(_outcome, agents)) if error]
    if failures and not following.done():
        # What they said before they died is in the log already, or never will be.
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await asyncio.shield(following)
        following.cancel()
    for failure in failures:
        sys.stderr.write(failure)


async def _outcome(agent: asyncio.subprocess.Process) -> str:
    """Return what a failed agent wrote, or that it said nothing; "" for one that ended well."""
    assert agent.stderr is not None
    written = await agent.stderr.read()
    await agent.wait()
    if not agent.returncode:
        return ""
    said = written[-ERROR_BYTES_MAX:].decode("utf-8", "replace")
    return said or f"an agent ended without a word (exit code {agent.returncode})\n"


async def _end(agent: asyncio.subprocess.Process) -> None:
    if agent.returncode is not None:
        return
    with suppress(ProcessLookupError):
        agent.terminate()
        try:
            async with asyncio.timeout(END_S_MAX):
                await agent.wait()
        except TimeoutError:
            agent.kill()
            await agent.wait()
