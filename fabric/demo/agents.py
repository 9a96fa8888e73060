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

import msgspec

from fabric import Agent, BarrierError, Fabric, FabricError, WaitTimeoutError
from fabric.core.record import ENDED, BarrierState
from fabric.demo import analysers, fleet
from fabric.demo.analysers import Finding, Severity
from fabric.demo.fleet import VOTE
from fabric.demo.tree import Module, Tree, build_index, cycles, open_snapshot, read_index
from fabric.demo.workshop import Workshop, choose, resource

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
                task_type="Code Review" if member.is_reviewer else None,
                parallel_group="review" if member.is_reviewer else "fix",
                produces=member.produces,
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
) -> set[str]:
    """Wait until `seen` has yielded all of `names`; at the limit go on, with a remark on the rest,
    which is returned.
    """
    missing = set(names)
    try:
        async with asyncio.timeout(limit_s):
            async for some in seen:
                missing -= some
                if not missing:
                    break
    except TimeoutError:
        await _remark(agent, f"{', '.join(sorted(missing))} {late}")
    return missing


async def review(agent: Agent, scratch: Path) -> dict[str, int]:
    """Review the snapshot in `scratch` as one of the fleet. Raises FabricError, OSError."""
    tree = open_snapshot(scratch)
    await agent.progress(10, checkpoint=FILES_READ, next_checkpoint=ISSUES_FOUND)
    index = None
    if agent.name in ("DEAD_CODE", "IMPORTS"):
        location = await agent.wait_for(fleet.INDEX_DEPENDENCY, timeout=REVIEW_S_MAX)
        index = read_index(Path(location or ""))
    findings: list[Finding] = []
    safe = asyncio.Lock()
    # An analyser that reads a snapshot may go on while others integrate: only what this agent says
    # has to wait. So a barrier need not wait for the end of a long review.
    pausing = asyncio.create_task(_pause_for_barriers(agent, safe))
    async for done, found in _found(agent, tree, index, scratch):
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
    recommendations = {"recommendations": {agent.name: analysers.draft(findings)}}
    await agent.partial_result(recommendations, checkpoint=DRAFTED)
    await agent.progress(100, checkpoint=DRAFTED)
    return {"files": len(tree.files), "findings": len(findings)}


async def _pause_for_barriers(agent: Agent, safe: asyncio.Lock) -> None:
    """Reach a checkpoint whenever a barrier gathers, and hold the lock until it is over."""
    while True:
        barriers = await agent.session.barriers()
        if any(barrier.state is BarrierState.GATHERING for barrier in barriers.values()):
            async with safe:
                await agent.checkpoint(FILES_READ)
        await asyncio.sleep(LOOK_S)


async def _found(
    agent: Agent, tree: Tree, index: list[Module] | None, scratch: Path
) -> AsyncIterator[tuple[int, list[Finding]]]:
    """Yield how many files are done, and what was found in them."""
    files: Sequence[str] = tree.files
    if agent.name not in analysers.ANALYSERS:
        index = await asyncio.to_thread(build_index, tree)
        file = scratch / "index.json"
        file.write_bytes(msgspec.json.encode(index))
        await agent.resolve(fleet.INDEX_DEPENDENCY, location=str(file))
        yield len(files), [analysers.broken(tree, one) for one in index if one.problem]
        return
    if index is not None:
        files = [module.path for module in index if not module.problem]
        if agent.name == "IMPORTS":
            yield 0, [analysers.import_cycle(tree, one) for one in cycles(index)]
    async for done, found in analysers.examine(analysers.ANALYSERS[agent.name], tree, files):
        yield done, found


async def _agree(agent: Agent, findings: Sequence[Finding]) -> None:
    """Vote for the file to begin with; take the vote back if another reviewer has found worse.

    Severity is all that votes of different reviewers have in common: between equals a person
    decides. The reviewer stays until every other one has voted or ended, so that all who contradict
    each other can hear of it.
    """
    mine = analysers.vote(findings)
    if mine is None:
        return
    await agent.partial_result({"findings": [mine]})
    votes: dict[str, tuple[str, int]] = {}
    names = [member.name for member in fleet.REVIEWERS]
    await _until_all(agent, names, _voted(agent, votes), REVIEW_S_MAX, "did not vote in time.")
    path, rank = votes.get(agent.name, ("", 0))
    if any(other != path and worse < rank for other, worse in votes.values()):
        await agent.partial_result({"findings": [{"key": VOTE, "withdrawn": True}]})


async def _voted(agent: Agent, votes: dict[str, tuple[str, int]]) -> AsyncIterator[set[str]]:
    """Follow the synthesis: collect the file and the rank in each vote, and yield the reviewers
    that have voted or ended.
    """
    async for revision in agent.session.revisions():
        ended = set()
        for operation in revision.patch:
            path, value = str(operation["path"]), operation.get("value") or {}
            agents = value["agents"] if path == "" else {}
            if path.startswith("/agents/"):
                agents = {path.removeprefix("/agents/"): value}
            ended |= {name for name, one in agents.items() if one["status"] in ENDED}
            if path == f"/findings/{VOTE}":
                for name, said in value.get("said", {}).items():
                    # The first statement comes last. A value that all share is said once for all.
                    rank = Severity(said[-1]["evidence"]["severity"]).rank
                    votes[name] = said[-1].get("value", value.get("value")), rank
        yield ended | votes.keys()


async def integrate(agent: Agent, scratch: Path) -> dict[str, int]:
    """Make the copy, see that it is fixed in order, and check it; return the number of files.

    Raises FabricError, OSError, and ValueError when an edit was lost.
    """
    folder = scratch / fleet.COPY_FOLDER
    async with agent.writing(resource("**"), timeout=WAIT_S_MAX):
        tree = open_snapshot(scratch)
        workshop = Workshop.make(tree, await choose(tree), folder)
        await agent.resolve(fleet.COPY_DEPENDENCY, location=str(folder))
        # All files are kept until both fixers want the first, so that their priorities decide.
        await _until_asked(agent, _FIXERS, workshop)
    await agent.progress(50)
    if workshop.files:
        await _check(agent, workshop)
    else:
        await _remark(agent, "There is no file that can be edited safely.")
    await agent.resolve(fleet.CHECK_DEPENDENCY, consumers=sorted(_FIXERS))
    return {"files": len(workshop.files)}


async def fix(agent: Agent, _scratch: Path) -> dict[str, int]:
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
    return {"files": count}


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
    first = f"file 1 of {len(workshop.files)}"
    passed = ({m.sender} async for m in agent.messages() if m.payload.get("checkpoint") == first)
    late = f"did not get to {first} in time."
    missing = await _until_all(agent, _FIXERS, passed, OTHERS_S_MAX, late)
    try:
        async with agent.integrating("fixes", timeout=WAIT_S_MAX):
            made = workshop.made()
            lost = [path for path, edits in made.items() if edits is None]
            if not lost and not _FIXERS - missing <= set(made[workshop.files[0]] or ()):
                lost = workshop.files[:1]
            if lost:
                raise ValueError(f"an edit was overwritten in {', '.join(lost)}")
            await agent.partial_result({"edits at the barrier": made})
            if workshop.made() != made:
                raise ValueError("a file was written while all were to stand still")
    except (BarrierError, WaitTimeoutError) as error:
        await _remark(agent, f"The fixes were not checked: {error}")


if __name__ == "__main__":
    main()
