"""Runs the fleet, each member a process, and somebody who follows the session's log and synthesis
meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fabric.client.fabric import Fabric
from fabric.client.session import PAGE
from fabric.client.synthesis import BLOCK_MS, decoded
from fabric.demo.board import Board
from fabric.demo.fleet import FLEET
from fabric.demo.harvest import harvest
from fabric.demo.report import Row
from fabric.store.keys import SYNTHESIZERS, SessionKeys
from fabric.store.port import BEGINNING, ClientStore

#: Longest time for a whole review, s: the largest tree that is taken needs some minutes.
REVIEW_S_MAX = 1_800

#: Time for an agent to end after SIGTERM, s.
END_S_MAX = 5

#: Bytes of an agent's error output that are shown when it fails.
ERROR_BYTES_MAX = 2_000

#: Longest wait for a synthesizer to be at work, s. It takes half a second to start.
SERVED_S_MAX = 15

#: The lease is looked at again after so long, s.
LOOK_S = 0.02

#: Longest wait for the synthesis to be final once every agent has ended, s: long enough for a
#: synthesizer that has died to be started again.
FINAL_S_MAX = 30

Show = Callable[[Board, list[Row]], None]


async def run(
    url: str, namespace: str, session: str, path: str, scratch: Path, show: Show
) -> Board:
    """Let the fleet review `path`; call `show` for all that is new; return what came of it.

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
        partition, keys = fabric.keys(session)
        await _until_served(fabric, partition)
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
                following = group.create_task(_follow(fabric.store, keys, board, show))
                group.create_task(_reap(agents, following, board))
        finally:
            await asyncio.gather(*(_end(agent) for agent in agents))
        await _gather(fabric, keys, board)
    return board


async def _until_served(fabric: Fabric, partition: int) -> None:
    """Wait for a synthesizer: what the fleet finds is to be there while it is still at work."""
    lease = fabric.store.namespace.partition(partition).lease(SYNTHESIZERS)
    loop = asyncio.get_running_loop()
    end = loop.time() + SERVED_S_MAX
    while True:
        (held,) = await fabric.store.hashes([lease])
        if held.get(b"owner") or loop.time() >= end:
            return
        await asyncio.sleep(LOOK_S)


async def _follow(store: ClientStore, keys: SessionKeys, board: Board, show: Show) -> None:
    """Show log and synthesis as they grow, until every agent has ended and all is in both.

    One request reads both streams: so what the log holds when a revision is seen was there before
    anybody could see that.
    """
    places = {keys.log: BEGINNING, keys.revisions: BEGINNING}
    #: Our clock at the session's first signal, ms: as early as any entry lets us think.
    opened = float("inf")
    over = float("inf")
    while not (board.is_over and board.growth.is_final):
        found = await store.read_streams(places, PAGE, BLOCK_MS)
        now = time.monotonic() * 1000
        rows = []
        entries = found.get(keys.log, [])
        for entry in entries:
            places[keys.log] = entry[0]
            rows += board.take(entry)
            opened = min(opened, now - board.at_ms)
        if len(entries) < PAGE:
            # Otherwise more of the log is there already, and comes first.
            revisions = found.get(keys.revisions, [])
            for revision in decoded(keys, revisions, len(board.growth.points)):
                board.growth.take(revision, round(now - opened), board.begun, board.ended)
                places[keys.revisions] = b"%d-0" % revision.number
        show(board, rows)
        if board.is_over:
            over = min(over, now)
            if now > over + FINAL_S_MAX * 1000:
                return


async def _gather(fabric: Fabric, keys: SessionKeys, board: Board) -> None:
    """Take what was found from the synthesis, final or not."""
    synthesis = await fabric.session(keys.name).synthesis()
    board.gather(harvest(synthesis, board.opened_ms))


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
