"""One fixer, as a process: `python -m fabric.demo.fixing NAME PATH SCRATCH`.

FORMATTER and ANNOTATOR edit the same files in the same order. Neither knows of the other: each asks
for a file, edits it when it is its turn, gives it back, and is at a safe place before the next one.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.demo.edits import EDITS
from fabric.demo.fleet import CHECK_DEPENDENCY, COPY_DEPENDENCY, FIXERS, Member, passed
from fabric.demo.program import member_of, run
from fabric.demo.remark import remark
from fabric.demo.watching import until_asked
from fabric.demo.workshop import Workshop, resource

#: Time between reading a file and writing it, s: where an editor or a model would think.
EDIT_S = 0.3

#: Longest wait for the copy, for a turn and for the check, s.
WAIT_S_MAX = 120

#: Longest wait until who is to ask for the first file earlier has done so, s.
EARLIER_S_MAX = 15


async def fix(member: Member) -> None:
    """Edit every file of the copy as one of the fixers. Raises FabricError, OSError, ValueError."""
    async with (
        Fabric.connect() as fabric,
        fabric.agent(
            member.name,
            stream=member.stream,
            priority=member.priority,
            task=f"edits by {member.name}",
            parallel_group="fix",
        ) as agent,
    ):
        folder = await agent.wait_for(COPY_DEPENDENCY, timeout=WAIT_S_MAX)
        workshop = Workshop.open(Path(folder or ""))
        if workshop.files:
            await _let_others_ask(agent, member, resource(workshop.files[0]))
        for number, path in enumerate(workshop.files, 1):
            await _edit(agent, workshop, path)
            await agent.progress(100 * number // len(workshop.files))
            await agent.checkpoint(passed(number, len(workshop.files)))
        await agent.wait_for(CHECK_DEPENDENCY, timeout=WAIT_S_MAX)
        await agent.complete({"files": len(workshop.files)})


async def _edit(agent: Agent, workshop: Workshop, path: str) -> None:
    """Read, think, write: what somebody else wrote meanwhile would be lost, if anybody could."""
    async with agent.writing(resource(path), timeout=WAIT_S_MAX):
        data = workshop.now(path)
        await asyncio.sleep(EDIT_S)
        edited = await asyncio.to_thread(EDITS[agent.name], path, data)
        workshop.write(path, edited)


async def _let_others_ask(agent: Agent, member: Member, wanted: str) -> None:
    """Ask after those that come earlier in FIXERS, so that who asked first is known."""
    earlier = [other.name for other in FIXERS[: FIXERS.index(member)]]
    late = await until_asked(agent.session, earlier, wanted, EARLIER_S_MAX)
    if late:
        await remark(agent, f"{', '.join(late)} had not asked for {wanted} in time.")


if __name__ == "__main__":
    name = sys.argv[1]
    sys.exit(run(name, fix(member_of(name))))
