"""One reviewer of the fleet, as a process: `python -m fabric.demo.reviewing NAME PATH SCRATCH`.

This is an ordinary agent, written as a user would write one: STARTED, checkpoints, progress,
partial results file by file, a dependency produced or waited for, COMPLETED. Session and server
come from the environment; SCRATCH is the folder that the fleet shares.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.demo.council import agree
from fabric.demo.finding import Finding, to_partial
from fabric.demo.fleet import CHECKPOINTS, INDEX_DEPENDENCY, Member
from fabric.demo.listing import Listing, find
from fabric.demo.program import member_of, run
from fabric.demo.recommend import draft
from fabric.demo.reviews import Indexer, Review, examine, reviewer
from fabric.demo.source import Source, read
from fabric.demo.symbols import read_index, write_index

#: Progress is reported after each so many percent of the files, so that a large tree does not
#: fill the log.
STEP_PERCENT = 10

#: Longest wait for the index, s. Above what the largest tree takes.
INDEX_S_MAX = 300

#: The index, within the folder that the fleet shares.
INDEX_FILE = "index.json"

#: After so long a reviewer says that it is at a safe place, s: an integration must not have to wait
#: for the end of the review of a large tree.
SAFE_S = 5

#: Findings handed over in one partial result: well within a payload's limit.
FINDINGS_MAX = 200

FILES_READ, ISSUES_FOUND, RECOMMENDATIONS_DRAFTED = CHECKPOINTS


async def review(member: Member, path: str, index_file: Path) -> None:
    """Review the tree under `path` as one member of the fleet. Raises FabricError, OSError."""
    async with (
        Fabric.connect() as fabric,
        fabric.agent(
            member.name,
            stream=member.stream,
            priority=member.priority,
            task=f"{member.review.replace('_', ' ')} review of {path}",
            task_type="Code Review",
            parallel_group="review",
            produces=member.produces,
        ) as agent,
    ):
        listing = await asyncio.to_thread(find, path)
        sources = await _read(agent, listing)
        for dependency in member.waits_for:
            await agent.wait_for(dependency, timeout=INDEX_S_MAX)
        index = read_index(index_file) if INDEX_DEPENDENCY in member.waits_for else None
        judge = reviewer(member.review, index=index, package=listing.package)
        findings = await _examine(agent, judge, sources)
        if isinstance(judge, Indexer):
            await asyncio.to_thread(write_index, judge.index(), index_file)
            await agent.resolve(INDEX_DEPENDENCY, location=str(index_file))
        await agree(agent, fabric.store, findings, FILES_READ)
        await agent.checkpoint(ISSUES_FOUND)
        drafted = draft(findings)
        await agent.partial_result(
            {"recommendations": {member.name: msgspec.to_builtins(drafted)}},
            checkpoint=RECOMMENDATIONS_DRAFTED,
        )
        await agent.progress(100, checkpoint=RECOMMENDATIONS_DRAFTED)
        await agent.complete({"files": len(sources), "findings": len(findings)})


async def _read(agent: Agent, listing: Listing) -> list[Source]:
    """Read every file: a quarter of the work, as progress has it."""
    sources = [await asyncio.to_thread(read, located) for located in listing.files]
    await agent.progress(25, checkpoint=FILES_READ, next_checkpoint=ISSUES_FOUND)
    return sources


async def _examine(agent: Agent, judge: Review, sources: list[Source]) -> list[Finding]:
    """Examine file by file, handing findings over as they are made."""
    findings: list[Finding] = []
    reported = 0
    clock = asyncio.get_running_loop().time
    safe_at = clock()
    for number, source in enumerate(sources, 1):
        found = await asyncio.to_thread(examine, judge, source)
        findings += found
        for start in range(0, len(found), FINDINGS_MAX):
            part = found[start : start + FINDINGS_MAX]
            await agent.partial_result({"findings": [to_partial(finding) for finding in part]})
        percent = 25 + 65 * number // len(sources)
        if percent >= reported + STEP_PERCENT:
            reported = percent
            await agent.progress(percent, next_checkpoint=ISSUES_FOUND)
        if clock() >= safe_at + SAFE_S:
            await agent.checkpoint(FILES_READ)
            safe_at = clock()
    return findings


if __name__ == "__main__":
    name, path, scratch = sys.argv[1:4]
    sys.exit(run(name, review(member_of(name), path, Path(scratch) / INDEX_FILE)))
