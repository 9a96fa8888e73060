"""What an agent is told of the others: who has what it waits for, and who works on what."""

from __future__ import annotations

import time
from collections.abc import Iterable

from fabric.agents.decision import Obstacle
from fabric.client.agent import Agent
from fabric.client.session import read_record
from fabric.core.order import Order
from fabric.core.record import ENDED, AgentRecord, ClaimRecord, ClaimState
from fabric.core.resource import Index
from fabric.store.port import ClientStore

#: Agents, and files of each, in a briefing.
BRIEF_AGENTS_MAX = 8
BRIEF_FILES_MAX = 4


async def obstacles(
    agent: Agent, store: ClientStore, missing: Iterable[str]
) -> tuple[Obstacle, ...]:
    """Say who has what an agent waits for."""
    claims = await agent.session.claims()
    order, now_ms = Order(claims), time.time() * 1000
    waiting = [
        one
        for one in claims.values()
        if one.agent == agent.name and one.state is ClaimState.WAITING
    ]
    found = []
    for name in sorted(missing):
        mine = next((one for one in waiting if name in one.writes), None)
        if mine is None:
            continue
        ahead = [place for place in order.ahead(mine) if place.agent != agent.name]
        holders = {one.id: one for one in order.blockers(mine)}.values()
        holder = next((one for one in holders if _overlaps(name, one)), None)
        if holder is None:
            first = ahead[0].agent if ahead else "an integration"
            found.append(Obstacle(name, first, ahead=len(ahead)))
            continue
        held_s = max(0.0, (now_ms - holder.granted_ms) / 1000)
        host = await _host_of(agent, store, holder.agent)
        found.append(Obstacle(name, holder.agent, host, held_s, len({one.id for one in ahead})))
    return tuple(found) or (Obstacle(", ".join(sorted(missing)), "another agent"),)


async def _host_of(agent: Agent, store: ClientStore, other: str) -> str:
    """Return the host of an agent: of its files, or of its process; "" if it said neither."""
    record = await read_record(store, agent.session.keys.agents, other, AgentRecord)
    if record is None:
        return ""
    return record.workspace.partition(":")[0] or record.instance.partition("/")[0]


def _overlaps(name: str, claim: ClaimRecord) -> bool:
    index = Index()
    for resource in claim.writes:
        index.add(resource)
    return bool(list(index.overlapping(name)))


async def briefing(agent: Agent) -> tuple[str, ...]:
    """Say who works on what, and what is held."""
    agents, claims = await agent.session.agents(), await agent.session.claims()
    held: dict[str, list[str]] = {}
    for claim in claims.values():
        if claim.state is ClaimState.HELD and claim.agent != agent.name:
            held.setdefault(claim.agent, []).extend(claim.writes)
    others = [n for n, one in agents.items() if one.status not in ENDED and n != agent.name]
    lines = [
        "Before you write a file it is claimed for you, and released when your turn ends. If "
        "another agent has it, the write waits, and then is refused with the holder's name."
    ]
    for name in sorted(others)[:BRIEF_AGENTS_MAX]:
        one, files = agents[name], held.get(name, [])
        task = f" on {one.task}" if one.task else ""
        has = f", has {', '.join(files[:BRIEF_FILES_MAX])}" if files else ""
        lines.append(f"{name} is {one.status.value}{task}{has}")
    if len(others) > BRIEF_AGENTS_MAX:
        lines.append(f"{len(others) - BRIEF_AGENTS_MAX} more agents: `fabric status`")
    return tuple(lines)
