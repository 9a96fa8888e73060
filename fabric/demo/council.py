"""The reviewers hear each other out on where to begin, while all of them are still at work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from fabric.client.agent import Agent
from fabric.core.record import BarrierState
from fabric.core.signal import SignalType
from fabric.core.synthesis.part import Part, State
from fabric.core.synthesis.state import AGENTS, Contributor
from fabric.demo.finding import Finding
from fabric.demo.fleet import REVIEWERS
from fabric.demo.opinion import KEY, PART, Opinion, from_partial, opinion, to_partial, yields
from fabric.demo.remark import remark
from fabric.store.port import ClientStore

#: The synthesis is looked at again after so long, s.
LOOK_S = 0.05

#: Longest wait for the others to have their say, s. Above what the largest tree takes.
OTHERS_S_MAX = 300

#: Longest wait for one's own word to be in the synthesis, s: who waits longer waits for a
#: synthesizer that is not at work.
FOLDED_S_MAX = 20

#: Longest wait for a contradiction that is in the synthesis to be in the inbox, s.
TOLD_S_MAX = 10

_decode_part = msgspec.json.Decoder(Part).decode
_decode_agent = msgspec.json.Decoder(Contributor).decode


async def agree(
    agent: Agent, store: ClientStore, findings: Iterable[Finding], checkpoint: str
) -> None:
    """Say which file to begin with, and take it back when another reviewer has found worse.

    Stays at work until every reviewer has said something or ended, so that all who contradict each
    other can hear of it. Meanwhile an integration is met at `checkpoint`. Raises FabricError.
    """
    mine = opinion(findings)
    if mine is None:
        return
    await agent.partial_result({"findings": [to_partial(mine)]})
    part = await _until_all_have_spoken(agent, store, checkpoint)
    if part.state is not State.CONTRADICTED:
        return
    try:
        async with asyncio.timeout(TOLD_S_MAX):
            gives_way = await _hear(agent, mine, set(part.said))
    except TimeoutError:
        await remark(agent, "Nobody told me who contradicts me on where to begin.")
        return
    if gives_way:
        await agent.partial_result({"findings": [{"key": KEY, "withdrawn": True}]})


async def _until_all_have_spoken(agent: Agent, store: ClientStore, checkpoint: str) -> Part:
    """Watch the synthesis until it has a word of every reviewer that is still at work."""
    fields = [PART, *(f"{AGENTS}:{member.name}" for member in REVIEWERS)]
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while True:
        part_raw, *agents_raw = await store.fields(agent.session.keys.synthesis, fields)
        part = _decode_part(part_raw) if part_raw else Part(State.WITHDRAWN)
        missing = [
            member.name
            for member, raw in zip(REVIEWERS, agents_raw, strict=True)
            if member.name not in part.said and not (raw and _decode_agent(raw).has_ended)
        ]
        limit_s = OTHERS_S_MAX if agent.name in part.said else FOLDED_S_MAX
        if not missing or loop.time() >= begun + limit_s:
            return part
        barriers = await agent.session.barriers()
        if any(barrier.state is BarrierState.GATHERING for barrier in barriers.values()):
            await agent.checkpoint(checkpoint)
        await asyncio.sleep(LOOK_S)


async def _hear(agent: Agent, mine: Opinion, speakers: set[str]) -> bool:
    """Read the inbox until one that has found worse contradicts, or all have been heard."""
    heard: set[str] = set()
    async for message in agent.messages():
        payload = message.payload
        if message.type != SignalType.CONFLICT_DETECTED or payload.get("part") != PART:
            continue
        rivals = [from_partial(one["value"], one["evidence"]) for one in payload["values"]]
        if yields(mine, rivals):
            return True
        heard.update(payload["agents"])
        if heard >= speakers:
            return False
    return False
