"""Who holds what, who waits for what, who has arrived where: the tables of `fabric status`."""

from __future__ import annotations

from collections.abc import Mapping

from fabric.core.limits import listed
from fabric.core.record import (
    IN_FORCE,
    AgentRecord,
    BarrierRecord,
    BarrierState,
    ClaimRecord,
    ClaimState,
)
from fabric.view.text import table

#: Names of agents in one cell; how many more there are is said after them.
NAMES_MAX = 8


def waits(
    agents: Mapping[str, AgentRecord],
    claims: Mapping[str, ClaimRecord],
    barriers: Mapping[str, BarrierRecord],
) -> dict[str, list[str]]:
    """Return, for each agent, what it waits for: dependencies, resources, answers, barriers."""
    found = {name: [*agent.waits_for, *agent.asks] for name, agent in agents.items()}
    for claim in claims.values():
        if claim.state is ClaimState.WAITING and claim.agent in found:
            found[claim.agent] += [*claim.writes, *claim.reads]
    for name, barrier in barriers.items():
        for agent in [*barrier.arrived, *barrier.held] if barrier.state in IN_FORCE else ():
            if agent in found:
                found[agent].append(name)
    return found


def resources(claims: Mapping[str, ClaimRecord]) -> list[str]:
    """Return a row for each resource: holder, token, and who waits, the next one first."""
    holders: dict[str, list[ClaimRecord]] = {}
    queues: dict[str, list[ClaimRecord]] = {}
    for claim in claims.values():
        side = holders if claim.state is ClaimState.HELD else queues
        for resource in [*claim.writes, *claim.reads]:
            side.setdefault(resource, []).append(claim)
    rows = []
    for resource in sorted({*holders, *queues}):
        held = sorted(holders.get(resource, []), key=lambda claim: claim.token)
        waiting = sorted(
            queues.get(resource, []), key=lambda c: (c.rank_ms, c.asked, c.place, c.agent)
        )
        rows.append(
            [
                resource,
                listed([claim.agent for claim in held]),
                str(held[-1].token) if held else "",
                listed([claim.agent for claim in waiting]),
            ]
        )
    return table(("RESOURCE", "HELD BY", "TOKEN", "AWAITED BY"), rows, "  ")


def barriers(found: Mapping[str, BarrierRecord]) -> list[str]:
    """Return a row for each barrier that is not over: state, leader, who is missing."""
    rows = []
    for name, barrier in found.items():
        if barrier.state is BarrierState.OVER:
            continue
        missing = [member for member in barrier.members if member not in barrier.arrived]
        count = f"{len(barrier.arrived)} of {len(barrier.members)}"
        rows.append([name, barrier.state.value, barrier.leader, count, listed(missing, NAMES_MAX)])
    return table(("BARRIER", "STATE", "LEADER", "ARRIVED", "MISSING"), rows, "  ")
