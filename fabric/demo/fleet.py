"""The agents of the demo: what each does, in which stream, and which of them wait for each other.

Six review a snapshot of the files. Three work on a scratch copy of some of them: INTEGRATOR makes
it, FORMATTER and FIXER both want the same file of it first, and then all the others.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from fabric import Agent, Fabric, FabricError

#: Dependencies. INDEXER resolves the index, at a file (see fabric.demo.tree). INTEGRATOR resolves
#: the copy, at a folder, and the check when it has checked the fixes: fixers stay until then.
INDEX_DEPENDENCY, COPY_DEPENDENCY, CHECK_DEPENDENCY = "index", "copy", "check-of-fixes"

#: Within the folder that the fleet shares: the copy that is fixed.
COPY_FOLDER = "copy"

#: The field of a partial result that holds an agent's remarks: `{"remarks": {NAME: [text]}}`.
REMARKS = "remarks"


class Member(msgspec.Struct, frozen=True):
    """One agent. Where two want the same file, the one with the higher `priority` goes first."""

    name: str
    stream: str
    priority: int
    task: str = "{work} review of {path}"
    produces: tuple[str, ...] = ()
    needs_index: bool = False
    is_reviewer: bool = True


REVIEWERS: tuple[Member, ...] = (
    Member("INDEXER", "A", 9, produces=(INDEX_DEPENDENCY,)),
    Member("STYLE", "B", 3),
    Member("COMPLEXITY", "B", 5),
    Member("SAFETY", "C", 8),
    Member("DEAD_CODE", "D", 4, needs_index=True),
    Member("IMPORTS", "D", 6, needs_index=True),
)

INTEGRATOR = Member(
    name="INTEGRATOR",
    stream="E",
    priority=5,
    task="a scratch copy of {path}",
    produces=(COPY_DEPENDENCY, CHECK_DEPENDENCY),
    is_reviewer=False,
)
FORMATTER = Member("FORMATTER", "F", 2, "edits by FORMATTER", is_reviewer=False)
FIXER = Member("FIXER", "F", 7, "edits by FIXER", is_reviewer=False)

#: In the order in which they ask for the first file; their priorities say otherwise.
FIXERS: tuple[Member, ...] = (FORMATTER, FIXER)

FLEET: tuple[Member, ...] = (*REVIEWERS, INTEGRATOR, *FIXERS)


def main(work: Callable[[Agent, Member, Path], Awaitable[dict[str, int]]]) -> None:
    """Run one agent as a process, `python -m MODULE NAME SCRATCH PATH`: start, work, complete.

    Session and server come from the environment; SCRATCH is the folder that the fleet shares.
    SIGTERM cancels the work, which ends the agent as FAILED. The exit code is 1, after a message on
    stderr, if the work failed.
    """
    name, scratch, path = sys.argv[1:4]
    member = next(member for member in FLEET if member.name == name)

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with (
            Fabric.connect() as fabric,
            fabric.agent(
                name,
                stream=member.stream,
                priority=member.priority,
                task=member.task.format(work=name.lower().replace("_", " "), path=path),
                task_type="Code Review" if member.is_reviewer else None,
                parallel_group="review" if member.is_reviewer else "fix",
                produces=member.produces,
            ) as agent,
        ):
            await agent.complete(await work(agent, member, Path(scratch)))

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        sys.exit(1)
    except (FabricError, msgspec.MsgspecError, OSError, ValueError) as error:
        sys.exit(f"{name}: {error}")


async def remark(agent: Agent, text: str) -> None:
    """Report that something went wrong although the work goes on: the report shows it."""
    await agent.partial_result({REMARKS: {agent.name: [text]}})


@asynccontextmanager
async def at_most(
    limit_s: float, agent: Agent, missing: set[str], text: str
) -> AsyncIterator[None]:
    """Let the block wait so long for the agents in `missing`; then go on, with a remark on them."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        await remark(agent, f"{', '.join(sorted(missing))} {text}")
