"""INTEGRATOR, as a process: `python -m fabric.demo.integration NAME PATH SCRATCH`.

It has all files to itself while it makes the scratch copy. When both fixers have edited the first
file it calls for an integration: everybody runs to the next checkpoint and stops, so that it can
look at files that nobody is writing.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.demo.fleet import (
    CHECK_DEPENDENCY,
    COPY_DEPENDENCY,
    COPY_FOLDER,
    FIXERS,
    FIXES_BARRIER,
    Member,
    passed,
)
from fabric.demo.program import member_of, run
from fabric.demo.remark import remark
from fabric.demo.watching import until_asked
from fabric.demo.workshop import ALL, Workshop, resource
from fabric.errors import BarrierError, WaitTimeoutError

#: Longest wait to have all files alone, s: the orchestrator may have only just been started.
ALONE_S_MAX = 60

#: Longest wait for both fixers to ask for the first file, s.
ASKED_S_MAX = 20

#: Longest wait for both fixers to have edited the first file, s.
EDITED_S_MAX = 30

#: Longest wait for all to arrive at the barrier, s.
ARRIVED_S_MAX = 30


async def integrate(member: Member, path: str, folder: Path) -> None:
    """Make the copy, see that it is fixed in order, and look it through.

    Raises FabricError, OSError, and ValueError when an edit was lost.
    """
    async with (
        Fabric.connect() as fabric,
        fabric.agent(
            member.name,
            stream=member.stream,
            priority=member.priority,
            task=f"a scratch copy of {path}",
            parallel_group="fix",
            produces=member.produces,
        ) as agent,
    ):
        async with agent.writing(ALL, timeout=ALONE_S_MAX):
            workshop = await asyncio.to_thread(Workshop.make, path, folder)
            await agent.resolve(COPY_DEPENDENCY, location=str(folder))
            if workshop.files:
                await _let_fixers_ask(agent, resource(workshop.files[0]))
        await agent.progress(50)
        if workshop.files:
            edited = await _until_edited(agent, passed(1, len(workshop.files)))
            await _look_through(agent, workshop, edited)
        else:
            await remark(agent, "There is no file that can be edited safely.")
        await agent.resolve(CHECK_DEPENDENCY, consumers=[fixer.name for fixer in FIXERS])
        await agent.complete({"files": len(workshop.files)})


async def _let_fixers_ask(agent: Agent, wanted: str) -> None:
    """Keep all files until both fixers want the first, so that their priorities decide."""
    late = await until_asked(agent.session, [fixer.name for fixer in FIXERS], wanted, ASKED_S_MAX)
    if late:
        await remark(agent, f"{', '.join(late)} had not asked for {wanted} in time.")


async def _until_edited(agent: Agent, checkpoint: str) -> set[str]:
    """Listen until each fixer has said that it is past the first file; return those that have."""
    fixers = {fixer.name for fixer in FIXERS}
    missing = set(fixers)
    try:
        async with asyncio.timeout(EDITED_S_MAX):
            async for message in agent.messages():
                if message.payload.get("checkpoint") == checkpoint:
                    missing.discard(message.sender)
                if not missing:
                    break
    except TimeoutError:
        await remark(agent, f"{', '.join(sorted(missing))} did not get to {checkpoint} in time.")
    return fixers - missing


async def _look_through(agent: Agent, workshop: Workshop, edited: set[str]) -> None:
    """Meet with all at a barrier, and report which edits are in which file then; `edited` are those
    that have said they are past the first one.
    """
    try:
        async with agent.integrating(FIXES_BARRIER, timeout=ARRIVED_S_MAX):
            made = await asyncio.to_thread(workshop.made)
            lost = [path for path, edits in made.items() if edits is None]
            if edited - set(made[workshop.files[0]] or ()):
                lost.append(workshop.files[0])
            if lost:
                raise ValueError(f"an edit was overwritten in {', '.join(lost)}")
            await agent.partial_result({"edits at the barrier": made})
            if await asyncio.to_thread(workshop.made) != made:
                raise ValueError("somebody wrote while all were to stand still")
    except (BarrierError, WaitTimeoutError) as error:
        await remark(agent, f"The fixes were not looked through: {error}")


if __name__ == "__main__":
    name, path, scratch = sys.argv[1:4]
    sys.exit(run(name, integrate(member_of(name), path, Path(scratch) / COPY_FOLDER)))
