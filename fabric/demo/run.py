"""Runs the fleet, each member a process, and shows the session meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from fabric import Fabric
from fabric.demo.finding import VOTE
from fabric.demo.fleet import FLEET
from fabric.demo.report import Document, gather
from fabric.demo.tree import Tree
from fabric.store.keys import SYNTHESIZERS
from fabric.watch.board import Board
from fabric.watch.follow import Follower, Show
from fabric.wire.printable import printable

#: Longest time for a whole review, s: the largest tree that is taken needs some minutes.
REVIEW_S_MAX = 1_800

#: Time for an agent to end after SIGTERM, s.
END_S_MAX = 5

#: Bytes of an agent's error output that are shown when it fails.
ERROR_BYTES_MAX = 2_000

#: Longest wait for a synthesizer to be at work, s, and the time between two looks.
SERVED_S_MAX, LOOK_S = 15, 0.02


async def run(
    url: str, namespace: str, session: str, path: str, tree: Tree, scratch: Path, show: Show
) -> Document:
    """Let the fleet review the snapshot in `scratch`; return the report.

    `show` is called whenever something has changed. The URL reaches the agents by their environment
    only, as it may hold a password. Agents are ended when this is cancelled.
    """
    environment = {
        **os.environ,
        "FABRIC_REDIS_URL": url,
        "FABRIC_NAMESPACE": namespace,
        "FABRIC_SESSION": session,
    }
    started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    board = Board(session, ignored=[VOTE], in_full=True)
    async with Fabric.connect(url, namespace=namespace, session=session) as fabric:
        await _until_served(fabric, session)
        agents = [
            await asyncio.create_subprocess_exec(
                # -P: the present folder may be the one under review; import nothing from it.
                *(sys.executable, "-P", "-m", member.program, member.name, str(scratch), path),
                env=environment,
                stderr=asyncio.subprocess.PIPE,
            )
            for member in FLEET
        ]
        follower = Follower(fabric.store, fabric.keys(session)[1], board)
        try:
            async with asyncio.timeout(REVIEW_S_MAX), asyncio.TaskGroup() as group:
                following = group.create_task(follower.until_ended(show))
                group.create_task(_reap(agents, following))
        finally:
            await asyncio.gather(*(_end(agent) for agent in agents))
        return await gather(fabric.session(session), board.growth, tree, scratch, path, started)


async def _until_served(fabric: Fabric, session: str) -> None:
    """Wait for a synthesizer: it should publish findings while the fleet is still at work."""
    partition, _ = fabric.keys(session)
    lease = fabric.store.namespace.partition(partition).lease(SYNTHESIZERS)
    for _ in range(round(SERVED_S_MAX / LOOK_S)):
        if (await fabric.store.fields(lease, ["owner"]))[0]:
            return
        await asyncio.sleep(LOOK_S)


async def _reap(agents: list[asyncio.subprocess.Process], following: asyncio.Task[None]) -> None:
    """Wait for the processes. The log will never tell the end of one that died without a word, so
    do not follow it for ever.
    """
    failures = [error for error in await asyncio.gather(*map(_outcome, agents)) if error]
    if failures and not following.done():
        await asyncio.wait([following], timeout=END_S_MAX)
        following.cancel()
    for failure in failures:
        sys.stderr.write(failure)


async def _outcome(agent: asyncio.subprocess.Process) -> str:
    """Return what a failed agent wrote, or that it wrote nothing; "" for one that ended well."""
    assert agent.stderr is not None
    written = await agent.stderr.read()
    await agent.wait()
    if not agent.returncode:
        return ""
    lines = written[-ERROR_BYTES_MAX:].decode("utf-8", "replace").splitlines()
    nothing = f"an agent ended without a word (exit code {agent.returncode})"
    return "".join(f"{printable(line)}\n" for line in lines or [nothing])


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
