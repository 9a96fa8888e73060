"""Runs the fleet, each member a process, and shows the session meanwhile."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from fabric import Fabric
from fabric.demo.analysers import VOTE
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
    where = {"FABRIC_REDIS_URL": url, "FABRIC_NAMESPACE": namespace, "FABRIC_SESSION": session}
    started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    board = Board(session, ignored=[VOTE], in_full=True)
    async with Fabric.connect(url, namespace=namespace, session=session) as fabric:
        partition, keys = fabric.keys(session)
        # A synthesizer should publish findings while the fleet is still at work.
        lease = fabric.store.namespace.partition(partition).lease(SYNTHESIZERS)
        for _ in range(round(SERVED_S_MAX / LOOK_S)):
            if (await fabric.store.fields(lease, ["owner"]))[0]:
                break
            await asyncio.sleep(LOOK_S)
        programs = {True: "fabric.demo.reviewing", False: "fabric.demo.fixing"}
        agents = [
            await asyncio.create_subprocess_exec(
                # -P: the present folder may be the one under review; import nothing from it.
                *(sys.executable, "-P", "-m", programs[member.is_reviewer]),
                *(member.name, str(scratch), path),
                env={**os.environ, **where},
                stderr=asyncio.subprocess.PIPE,
            )
            for member in FLEET
        ]
        try:
            async with asyncio.timeout(REVIEW_S_MAX), asyncio.TaskGroup() as group:
                following = group.create_task(Follower(fabric.store, keys, board).until_ended(show))
                group.create_task(_reap(agents, following))
        finally:
            await asyncio.gather(*map(_end, agents))
        return await gather(fabric.session(session), board.growth, tree, scratch, path, started)


async def _reap(agents: list[asyncio.subprocess.Process], following: asyncio.Task[None]) -> None:
    """Wait for the processes. The log will never tell the end of one that died without a word, so
    do not follow it for ever.
    """
    failures = "".join(await asyncio.gather(*map(_outcome, agents)))
    if failures and not following.done():
        await asyncio.wait([following], timeout=END_S_MAX)
        following.cancel()
    sys.stderr.write(failures)


async def _outcome(agent: asyncio.subprocess.Process) -> str:
    """Return what a failed agent wrote, or that it wrote nothing; "" for one that ended well."""
    _, written = await agent.communicate()
    if not agent.returncode:
        return ""
    lines = written[-ERROR_BYTES_MAX:].decode("utf-8", "replace").splitlines()
    nothing = f"an agent ended without a word (exit code {agent.returncode})"
    return "".join(f"{printable(line)}\n" for line in lines or [nothing])


async def _end(agent: asyncio.subprocess.Process) -> None:
    for stop in (agent.terminate, agent.kill):
        with suppress(ProcessLookupError, TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                stop()
                await agent.wait()
