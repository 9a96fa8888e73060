"""One agent of the review fleet, as a process: `python -m fabric.demo.reviewing NAME PATH
INDEX_FILE`.

This is an ordinary agent, written as a user would write one: STARTED, checkpoints, progress,
partial results file by file, a dependency produced or waited for, COMPLETED. Session and server
come from the environment.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.demo.finding import Finding, to_partial
from fabric.demo.fleet import CHECKPOINTS, FLEET, INDEX_DEPENDENCY, Member
from fabric.demo.listing import Listing, find
from fabric.demo.recommend import draft
from fabric.demo.reviews import Indexer, Review, examine, reviewer
from fabric.demo.source import Source, read
from fabric.demo.symbols import read_index, write_index
from fabric.errors import FabricError

#: Progress is reported after each so many percent of the files, so that a large tree does not
#: fill the log.
STEP_PERCENT = 10

#: Longest wait for the index, s. Above what the largest tree takes.
INDEX_S_MAX = 300

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
    return findings


def main(name: str, path: str, index_file: str) -> int:
    """Run one member until it is done; return the exit code. SIGTERM ends it as FAILED."""
    member = next(member for member in FLEET if member.name == name)

    async def until_terminated() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await review(member, path, Path(index_file))

    try:
        asyncio.run(until_terminated())
    except asyncio.CancelledError:
        return 1
    except (FabricError, OSError, ValueError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
