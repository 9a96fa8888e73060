"""The agents of the demo: what each does, how it runs as a process, and how all run together.

Six review a snapshot of the files. Three work on a scratch copy of some of them: INTEGRATOR makes
it, FORMATTER and FIXER both want the same file of it first, and then all the others.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from fabric import Fabric
from fabric.store.keys import SYNTHESIZERS
from fabric.watch.board import Board, Growth
from fabric.watch.follow import Follower, Show

#: Longest time for a whole review: the largest tree that is taken needs some minutes; and for an
#: agent to end after SIGTERM; s.
REVIEW_S_MAX, END_S_MAX = 1_800, 5

#: Longest wait for a synthesizer to be at work, s, and the time between two looks.
SERVED_S_MAX, LOOK_S = 15, 0.02

#: The key of the question that all reviewers answer, each by its own findings: they contradict each
#: other.
VOTE = "where-to-begin"

#: Dependencies. INDEXER resolves the index, at a file that lists the files analysers can read;
#: INTEGRATOR the copy, at a folder, and the check of the fixes: fixers stay until then.
INDEX_DEPENDENCY, COPY_DEPENDENCY, CHECK_DEPENDENCY = "index", "copy", "check-of-fixes"

#: Within the folder that the fleet shares: the copy that is fixed.
COPY_FOLDER = "copy"

#: Fields of a partial result that hold what an agent has to say: `{"remarks": {NAME: [text]}}`.
REMARKS, RECOMMENDATIONS = "remarks", "recommendations"


class Member(msgspec.Struct, frozen=True):
    """One agent. Where two want the same file, the one with the higher `priority` goes first."""

    name: str
    stream: str
    priority: int
    task: str = "{work} review of {path}"
    produces: tuple[str, ...] = ()
    is_reviewer: bool = True


REVIEWERS: tuple[Member, ...] = (
    Member("INDEXER", "A", 9, produces=(INDEX_DEPENDENCY,)),
    Member("STYLE", "B", 3),
    Member("COMPLEXITY", "B", 5),
    Member("SAFETY", "C", 8),
    Member("DEAD_CODE", "D", 4),
    Member("IMPORTS", "D", 6),
)

_MADE = COPY_DEPENDENCY, CHECK_DEPENDENCY
INTEGRATOR = Member("INTEGRATOR", "E", 5, "a scratch copy of {path}", _MADE, is_reviewer=False)
FORMATTER = Member("FORMATTER", "F", 2, "edits by FORMATTER", is_reviewer=False)
FIXER = Member("FIXER", "F", 7, "edits by FIXER", is_reviewer=False)

#: In the order in which they ask for the first file; their priorities say otherwise.
FIXERS: tuple[Member, ...] = (FORMATTER, FIXER)

FLEET: tuple[Member, ...] = (*REVIEWERS, INTEGRATOR, *FIXERS)


async def run(
    fabric: Fabric, where: Mapping[str, str], path: str, scratch: Path, show: Show, log: int
) -> tuple[Growth, list[str]]:
    """Let the fleet review the snapshot in `scratch`; return how the synthesis grew, and failures.

    `show` is called whenever something has changed. `where` is added to the agents' environment: it
    names server, namespace and session, and the URL may hold a password. Their error output goes to
    the file descriptor `log`. Agents are ended when this is cancelled.
    """
    board = Board(where["FABRIC_SESSION"], ignored=[VOTE], in_full=True)
    partition, keys = fabric.keys(board.session)
    # A synthesizer should publish findings while the fleet is still at work.
    lease = fabric.store.namespace.partition(partition).lease(SYNTHESIZERS)
    for _ in range(round(SERVED_S_MAX / LOOK_S)):
        if (await fabric.store.fields(lease, ["owner"]))[0]:
            break
        await asyncio.sleep(LOOK_S)

    await fabric.expect(*(member.name for member in FLEET), session=board.session)

    async def ended(member: Member) -> int:
        process = await asyncio.create_subprocess_exec(
            # -P: the present folder may be the one under review; import nothing from it.
            *(sys.executable, "-P", "-m", "fabric.demo.agents", member.name, str(scratch), path),
            env={**os.environ, **where},
            stderr=log,
        )
        try:
            return await process.wait()
        finally:
            for stop in (process.terminate, process.kill):
                with suppress(ProcessLookupError, TimeoutError):
                    async with asyncio.timeout(END_S_MAX):
                        stop()
                        await process.wait()

    async with asyncio.timeout(REVIEW_S_MAX), asyncio.TaskGroup() as group:
        following = group.create_task(Follower(fabric.store, keys, board).until_ended(show))
        codes = await asyncio.gather(*map(ended, FLEET))
        if any(codes):
            # The log will never tell the end of an agent that died without a word.
            await asyncio.wait([following], timeout=END_S_MAX)
            following.cancel()
    ends = zip(FLEET, codes, strict=True)
    failures = [f"{member.name} ended with exit code {code}" for member, code in ends if code]
    return board.growth, failures
