"""Where an agent stands, from what it waits for: the one place that sets `status` between the ends.

An agent is *blocked* while it waits for a dependency, a claim or an answer; *paused* while a
barrier holds it and it waits for nothing else; *active* otherwise. An agent that waits counts as
arrived at a barrier (design, section 6), and what ends its wait does not let it go on before the
barrier is over: it is then told to resume with all the others.
"""

from __future__ import annotations

from fabric.core.decision import Decision
from fabric.core.directive import DirectiveType, Resume
from fabric.core.record import (
    ENDED,
    IN_FORCE,
    AgentRecord,
    AgentStatus,
    BarrierRecord,
    BarrierState,
    ClaimState,
)
from fabric.core.session import SessionState

#: While a barrier is in one of these, its leader waits for its turn to integrate.
LEADER_WAITS = frozenset({BarrierState.QUEUED, BarrierState.GATHERING})


def restate(session: SessionState, name: str, agent: AgentRecord) -> AgentStatus:
    """Set an agent's status from what it waits for, and return it. Ends are left alone."""
    if agent.status in ENDED:
        return agent.status
    before = agent.status
    if is_waiting(session, agent):
        agent.status = AgentStatus.BLOCKED
    elif session.barriers.records and is_held(session, name):
        agent.status = AgentStatus.PAUSED
    else:
        agent.status = AgentStatus.ACTIVE
    if agent.status is not before:
        if agent.status is AgentStatus.ACTIVE:
            agent.resumed_ms = session.clock_ms
        session.agents.put(name, agent)
    return agent.status


def resume(
    session: SessionState, name: str, agent: AgentRecord, decision: Decision, directive: Resume
) -> None:
    """One wait of an agent is over: with nothing else in its way, it is told to go on."""
    before = agent.status
    after = restate(session, name, agent)
    session.agents.put(name, agent)
    if after is AgentStatus.ACTIVE and before is not AgentStatus.ACTIVE:
        decision.direct(name, DirectiveType.RESUME, directive)


def is_waiting(session: SessionState, agent: AgentRecord) -> bool:
    """Whether an agent waits for a dependency, a claim or an answer."""
    if agent.waits_for or agent.asks:
        return True
    return any(session.claims.records[c].state is ClaimState.WAITING for c in agent.claims)


def is_at_work(session: SessionState, name: str) -> bool:
    """Whether an agent has begun and not ended."""
    agent = session.agents.get(name)
    return agent is not None and agent.status not in ENDED


def in_force(session: SessionState) -> tuple[str, BarrierRecord] | None:
    """Return the barrier that holds the session's agents now, if there is one."""
    for name, barrier in session.barriers.records.items():
        if barrier.state in IN_FORCE:
            return name, barrier
    return None


def is_held(session: SessionState, name: str) -> bool:
    """Whether a barrier keeps an agent from going on: as a member, a late comer or its leader.

    Who integrates is held by nothing, even if it has called the next one already.
    """
    found = False
    for barrier in session.barriers.records.values():
        if barrier.state is BarrierState.INTEGRATING and barrier.leader == name:
            return False
        if barrier.state in IN_FORCE and (name in barrier.arrived or name in barrier.held):
            found = True
        if barrier.leader == name and barrier.state in LEADER_WAITS:
            found = True
    return found


def waiting_leader(session: SessionState) -> str | None:
    """Name the leader that itself waits for something: whoever the barrier holds waits on it."""
    current = in_force(session)
    leader = session.agents.get(current[1].leader) if current is not None else None
    is_blocked = leader is not None and leader.status is AgentStatus.BLOCKED
    return current[1].leader if current is not None and is_blocked else None


def missing(barrier: BarrierRecord) -> list[str]:
    """Name the members that have not arrived."""
    return [member for member in barrier.members if member not in barrier.arrived]
