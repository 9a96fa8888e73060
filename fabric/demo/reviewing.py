"""One reviewer, as a process: `python -m fabric.demo.reviewing NAME SCRATCH PATH`.

This is an ordinary agent, written as a user would write one: STARTED, checkpoints, progress, early
findings, a dependency produced or waited for, COMPLETED.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fabric import Agent, SignalType
from fabric.core.record import BarrierState
from fabric.demo import analysers, fleet
from fabric.demo.analysers import Finding, Severity
from fabric.demo.fleet import VOTE
from fabric.demo.tree import Module, Tree, build_index, cycles, open_snapshot, read_index

#: The checkpoints of a review, in order.
FILES_READ, ISSUES_FOUND, DRAFTED = "files_read", "issues_found", "recommendations_drafted"

#: Longest wait for the index and for the other reviewers' votes; for a contradiction that is in the
#: synthesis to be in the inbox; and how long until a reviewer looks again whether a barrier waits
#: for it; s.
OTHERS_S_MAX, TOLD_S_MAX, LOOK_S = 300, 10, 0.1

#: Findings handed over in one partial result: well within a payload's limit.
FINDINGS_MAX = 200


async def review(agent: Agent, scratch: Path) -> dict[str, int]:
    """Review the snapshot in `scratch` as one of the fleet. Raises FabricError, OSError."""
    tree = open_snapshot(scratch)
    await agent.progress(10, checkpoint=FILES_READ, next_checkpoint=ISSUES_FOUND)
    index = None
    if agent.name in ("DEAD_CODE", "IMPORTS"):
        location = await agent.wait_for(fleet.INDEX_DEPENDENCY, timeout=OTHERS_S_MAX)
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
        yield len(files), [analysers.with_evidence(tree, one) for one in _broken(index)]
        return
    if index is not None:
        files = [module.path for module in index if not module.problem]
        if agent.name == "IMPORTS":
            yield 0, [analysers.with_evidence(tree, one) for one in _import_cycles(index)]
    async for done, found in analysers.examine(analysers.ANALYSERS[agent.name], tree, files):
        yield done, found


def _broken(index: list[Module]) -> Iterator[Finding]:
    """Yield a finding for each file that has no syntax tree, or too deep a one."""
    advice = "Repair the file: Python or an analyser cannot read it."
    for one in index:
        if one.problem:
            yield Finding(one.path, one.line, one.rule, one.problem, Severity.HIGH, advice)


def _import_cycles(index: list[Module]) -> Iterator[Finding]:
    """Yield a finding for each cycle of imports, at the import where it begins."""
    advice = "Move what both need into a module of its own."
    for cycle in cycles(index):
        names = " → ".join(module.name for module in (*cycle, cycle[0]))
        where = cycle[0].path, cycle[0].imports[cycle[1].path], "import-cycle"
        what = f"imports in a circle: {names}", Severity.MEDIUM, advice
        yield Finding(*where, *what, measure=len(cycle))


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
    votes = await _until_all_have_voted(agent)
    if len(set(votes.values())) < 2:
        return
    heard: set[str] = set()
    untold = "was not told that its vote on where to begin is contradicted."
    async with fleet.at_most(TOLD_S_MAX, agent, {agent.name}, untold):
        async for message in agent.messages():
            payload = message.payload
            is_vote = payload.get("part") == f"findings:{VOTE}"
            if message.type != SignalType.CONFLICT_DETECTED or not is_vote:
                continue
            rivals = [Severity(one["evidence"]["severity"]) for one in payload["values"]]
            if any(one.rank < Severity(mine["evidence"]["severity"]).rank for one in rivals):
                await agent.partial_result({"findings": [{"key": VOTE, "withdrawn": True}]})
                return
            heard.update(payload["agents"])
            if heard >= set(votes):
                return


async def _until_all_have_voted(agent: Agent) -> dict[str, Any]:
    """Follow the synthesis until every reviewer has voted or ended; return voter → file."""
    votes: dict[str, Any] = {}
    missing = {member.name for member in fleet.REVIEWERS}
    async with fleet.at_most(OTHERS_S_MAX, agent, missing, "did not vote in time."):
        async for revision in agent.session.revisions():
            for operation in revision.patch:
                path, value = str(operation["path"]), operation.get("value") or {}
                agents = value["agents"] if path == "" else {}
                if path.startswith("/agents/"):
                    agents = {path.removeprefix("/agents/"): value}
                missing -= {name for name, one in agents.items() if one["status"] != "active"}
                if path == f"/findings/{VOTE}" and value:
                    for name, said in value["said"].items():
                        # A value that all share is said once for all.
                        votes[name] = said[-1].get("value", value.get("value"))
            missing -= set(votes)
            if not missing:
                break
    return votes


if __name__ == "__main__":
    fleet.main({member.name: review for member in fleet.REVIEWERS})
