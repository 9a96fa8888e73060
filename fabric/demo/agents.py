"""The agents of the demo, written as a user would write them, each a process of its own.

Reviewers report checkpoints, progress and early findings, and produce the index or wait for it.

INTEGRATOR has all files to itself while it makes the copy. FORMATTER and FIXER edit the same files
in the same order and do not know of each other: each asks for a file, edits it when it is its turn,
gives it back, and is at a safe place before the next one. When both have edited the first file,
INTEGRATOR calls for an integration: all run to their next checkpoint and stop, so that it can check
files that nobody is writing.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec

from fabric import Agent, BarrierError, Fabric, FabricError, WaitTimeoutError
from fabric.core.record import ENDED, BarrierState
from fabric.demo import analysers, fleet
from fabric.demo.analysers import SEVERITIES, Finding, unreadable
from fabric.demo.fleet import VOTE
from fabric.demo.tree import Tree, open_snapshot
from fabric.demo.workshop import Workshop, choose, resource
from fabric.wire.document import Source, sources

#: The checkpoints of a review, in order.
FILES_READ, ISSUES_FOUND, DRAFTED = "files_read", "issues_found", "recommendations_drafted"

#: Longest wait for the index and for all votes; for the copy, a turn, the check; for others to ask
#: for a file and to edit it; s.
REVIEW_S_MAX, WAIT_S_MAX, OTHERS_S_MAX = 300, 120, 20

#: Time between two looks at barriers or claims; between reading a file and writing it, where an
#: editor or a model would think; s.
LOOK_S, EDIT_S = 0.1, 0.3

#: Findings handed over in one partial result: well within a payload's limit.
FINDINGS_MAX = 200

_FIXERS = frozenset(fixer.name for fixer in fleet.FIXERS)


def main() -> None:
    """Run one agent, `python -m fabric.demo.agents NAME SCRATCH PATH`: start, work, complete.

    Session and server come from the environment; SCRATCH is the folder that the fleet shares.
    SIGTERM cancels the work, which ends the agent as FAILED. The exit code is 1, after a message on
    stderr, if the work failed.
    """
    name, scratch, path = sys.argv[1:4]
    member = next(member for member in fleet.FLEET if member.name == name)
    work = review if member.is_reviewer else fix if name in _FIXERS else integrate

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
                parallel_group="review" if member.is_reviewer else "fix",
                produces=member.produces,
                workspace="none",  # what they edit is a copy of the demonstration's own
            ) as agent,
        ):
            await agent.complete(await work(agent, Path(scratch)))

    try:
        asyncio.run(run())
    except asyncio.CancelledError:
        sys.exit(1)
    except (FabricError, msgspec.MsgspecError, OSError, ValueError) as error:
        sys.exit(f"{name}: {error}")


async def _remark(agent: Agent, text: str) -> None:
    """Report that something went wrong although the work goes on: the report shows it."""
    await agent.partial_result({fleet.REMARKS: {agent.name: [text]}})


async def _until_all(
    agent: Agent, names: Iterable[str], seen: AsyncIterator[set[str]], limit_s: float, late: str
) -> None:
    """Wait until `seen` has yielded all of `names`; at the limit go on, with a remark."""
    missing = set(names)
    try:
        async with asyncio.timeout(limit_s):
            async for some in seen:
                missing -= some
                if not missing:
                    break
    except TimeoutError:
        await _remark(agent, f"{', '.join(sorted(missing))} {late}")


def total(count: int) -> dict[str, int]:
    """Return an agent's number, for the synthesis to add to those of the others."""
    return {"$total": count}


async def review(agent: Agent, scratch: Path) -> dict[str, Any]:
    """Review the snapshot in `scratch` as one of the fleet. Raises FabricError, OSError."""
    tree = open_snapshot(scratch)
    await agent.progress(10, checkpoint=FILES_READ, next_checkpoint=ISSUES_FOUND)
    findings: list[Finding] = []
    safe = asyncio.Lock()
    # An analyser that reads a snapshot may go on while others integrate: only what this agent says
    # has to wait. So a barrier need not wait for the end of a long review.
    pausing = asyncio.create_task(_pause_for_barriers(agent, safe))
    async for done, found in _found(agent, tree, scratch / "index.json"):
        findings += found
        async with safe:
            for start in range(0, len(found), FINDINGS_MAX):
                part = [analysers.to_partial(one) for one in found[start : start + FINDINGS_MAX]]
                await agent.partial_result({"findings": part})
            percent = 10 + 80 * done // len(tree.files)
            await agent.progress(percent, next_checkpoint=ISSUES_FOUND)
    await _agree(agent, findings)
    async with safe:
        pausing.cancel()
    await agent.checkpoint(ISSUES_FOUND)
    recommendations = {fleet.RECOMMENDATIONS: {agent.name: analysers.draft(findings)}}
    await agent.partial_result(recommendations, checkpoint=DRAFTED)
    await agent.progress(100, checkpoint=DRAFTED)
    return {"files": total(len(tree.files)), "findings": total(len(findings))}


async def _pause_for_barriers(agent: Agent, safe: asyncio.Lock) -> None:
    """Reach a checkpoint whenever a barrier gathers, and hold the lock until it is over."""
    while True:
        barriers = await agent.session.barriers()
        if any(barrier.state is BarrierState.GATHERING for barrier in barriers.values()):
            async with safe:
                await agent.checkpoint(FILES_READ)
        await asyncio.sleep(LOOK_S)


async def _found(agent: Agent, tree: Tree, file: Path) -> AsyncIterator[tuple[int, list[Finding]]]:
    """Yield how many files are done, and what was found in them."""
    files: Sequence[str] = tree.files
    if agent.name == "INDEXER":
        found = await asyncio.to_thread(_write_index, tree, file)
        await agent.resolve(fleet.INDEX_DEPENDENCY, location=str(file))
        yield len(files), analysers.completed(tree, found, agent.name)
        return
    if agent.name in ("DEAD_CODE", "IMPORTS"):
        index = Path(await agent.wait_for(fleet.INDEX_DEPENDENCY, timeout=REVIEW_S_MAX) or "")
        files = msgspec.json.decode(await asyncio.to_thread(index.read_bytes), type=list[str])
    if agent.name == "IMPORTS":
        yield 0, await analysers.ANALYSERS["CYCLES"].run(tree, files)
    async for done, found in analysers.ANALYSERS[agent.name].examine(tree, files):
        yield done, found


def _write_index(tree: Tree, file: Path) -> list[Finding]:
    """Write the list of the files that analysers can read; return a finding for each other one."""
    found = {path: unreadable(tree, path) for path in tree.files}
    file.write_bytes(msgspec.json.encode([path for path, one in found.items() if one is None]))
    return [one for one in found.values() if one is not None]


async def _agree(agent: Agent, findings: Sequence[Finding]) -> None:
    """Vote for the file to begin with; take the vote back if another reviewer has found worse.

    Severity is all that votes of different reviewers have in common: between equals a person
    decides. The reviewer stays until every other one has voted or ended, so that all who contradict
    each other can hear of it.
    """
    vote = analysers.vote(findings)
    if vote is None:
        return
    await agent.partial_result({"findings": [vote]})
    votes: dict[str, Source] = {}
    names = [member.name for member in fleet.REVIEWERS]
    await _until_all(agent, names, _voted(agent, votes), REVIEW_S_MAX, "did not vote in time.")

    def rank(one: Source) -> int:
        return SEVERITIES.index(one.evidence["severity"])

    mine = votes.get(agent.name)
    if mine and any(one.value != mine.value and rank(one) < rank(mine) for one in votes.values()):
        await agent.partial_result({"findings": [{"key": VOTE, "withdrawn": True}]})


async def _voted(agent: Agent, votes: dict[str, Source]) -> AsyncIterator[set[str]]:
    """Follow the synthesis: collect the votes, and yield who has voted or ended."""
    ended: set[str] = set()
    async for revision in agent.session.revisions():
        for operation in revision.patch:
            path, value = str(operation["path"]), operation.get("value")
            if value and path.startswith("/agents/") and value["status"] in ENDED:
                ended.add(path.removeprefix("/agents/"))
            elif value and path == f"/findings/{VOTE}":
                votes |= {one.agent: one for one in sources(value) if one.value is not None}
        yield ended | votes.keys()


async def integrate(agent: Agent, scratch: Path) -> dict[str, Any]:
    """Make the copy, see that it is fixed in order, and check it; return the number of files.

    Raises FabricError, OSError, and ValueError when an edit was lost.
    """
    folder = scratch / fleet.COPY_FOLDER
    async with agent.writing(resource("**"), timeout=WAIT_S_MAX):
        tree = open_snapshot(scratch)
        workshop = Workshop.make(tree, choose(tree), folder)
        await agent.resolve(fleet.COPY_DEPENDENCY, location=str(folder))
        # All files are kept until both fixers want the first, so that their priorities decide.
        await _until_asked(agent, _FIXERS, workshop)
    await agent.progress(50)
    await _check(agent, workshop)
    await agent.resolve(fleet.CHECK_DEPENDENCY, consumers=sorted(_FIXERS))
    return {"files": total(len(workshop.files))}


async def fix(agent: Agent, _scratch: Path) -> dict[str, Any]:
    """Edit every file of the copy as one of the fixers; return their number.

    Raises FabricError, OSError.
    """
    folder = await agent.wait_for(fleet.COPY_DEPENDENCY, timeout=WAIT_S_MAX)
    workshop = Workshop(Path(folder or ""))
    count = len(workshop.files)
    # FIXER asks after FORMATTER, so that it is known who asked first.
    await _until_asked(agent, {fleet.FORMATTER.name} - {agent.name}, workshop)
    for number, path in enumerate(workshop.files, 1):
        async with agent.writing(resource(path), timeout=WAIT_S_MAX):
            # What another agent wrote between reading and writing would be lost, if any could.
            data = workshop.read(path)
            await asyncio.sleep(EDIT_S)
            workshop.write(agent.name, path, data, await workshop.edited(agent.name, path, data))
        await agent.progress(100 * number // count)
        await agent.checkpoint(f"file {number} of {count}")
    await agent.wait_for(fleet.CHECK_DEPENDENCY, timeout=WAIT_S_MAX)
    return {"files": total(count)}


async def _until_asked(agent: Agent, names: Set[str], workshop: Workshop) -> None:
    """Wait until each of these agents has the first file or waits for it."""

    async def asked(wanted: str) -> AsyncIterator[set[str]]:
        while True:
            claims = (await agent.session.claims()).values()
            yield {claim.agent for claim in claims if wanted in claim.writes}
            await asyncio.sleep(LOOK_S)

    for first in map(resource, workshop.files[:1]):
        late = f"had not asked for {first} in time."
        await _until_all(agent, names, asked(first), OTHERS_S_MAX, late)


async def _check(agent: Agent, workshop: Workshop) -> None:
    """Wait for the fixers to be past the first file, meet all at a barrier, and report which edits
    are in which file then.
    """
    if not workshop.files:
        return await _remark(agent, "There is no file that can be edited safely.")
    first = f"file 1 of {len(workshop.files)}"
    passed = ({m.sender} async for m in agent.messages() if m.payload.get("checkpoint") == first)
    late = f"did not get to {first} in time."
    await _until_all(agent, _FIXERS, passed, OTHERS_S_MAX, late)
    try:
        async with agent.integrating("fixes", timeout=WAIT_S_MAX):
            made = workshop.made()
            lost = [path for path, edits in made.items() if edits is None]
            if lost:
                raise ValueError(f"an edit was overwritten in {', '.join(lost)}")
            await agent.partial_result({"edits at the barrier": made})
            if workshop.made() != made:
                raise ValueError("a file was written while all were to stand still")
    except (BarrierError, WaitTimeoutError) as error:
        await _remark(agent, f"The fixes were not checked: {error}")


if __name__ == "__main__":
    main()
