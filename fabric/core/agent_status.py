"""The status of an agent follows from what it waits for: only this module sets it between the ends.

An agent is *blocked* while it waits for a dependency, a claim or an answer. It is *paused* while a
barrier holds it and it waits for nothing else. Otherwise it is *active*. An agent that waits counts
as arrived at a barrier; when its wait ends, it still stays until the barrier is over, and is then
told to resume with all the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from fabric.core import record
from fabric.core.directive import Resume
from fabric.core.event import SILENCE_TIMER, Event
from fabric.core.session import SessionState

#: While a barrier is in one of these states, its leader waits for its turn to integrate.
LEADER_WAITS = frozenset({record.BarrierState.QUEUED, record.BarrierState.GATHERING})


def update_status(session: SessionState, name: str) -> None:
    """Set an agent's status from what it waits for; one that has ended, or is none, stays so."""
    agent = session.agents.get(name)
    if agent is None or agent.status in record.ENDED:
        return
    before = agent.status
    if is_waiting(session, agent):
        agent.status = record.AgentStatus.BLOCKED
    elif session.barriers.records and is_held(session, name):
        agent.status = record.AgentStatus.PAUSED
    else:
        agent.status = record.AgentStatus.ACTIVE
    if agent.status is not before:
        if agent.status is record.AgentStatus.ACTIVE:
            agent.resumed_ms = session.clock_ms
        session.agents.put(name, agent)


def resume(event: Event, name: str, agent: record.AgentRecord, directive: Resume) -> None:
    """End one wait of an agent, and tell it to go on when nothing else is in its way.

    One that sends heartbeats and has stopped is looked at as soon as it could count as dead.
    """
    was_active = agent.status is record.AgentStatus.ACTIVE
    update_status(event.session, name)
    event.session.agents.put(name, agent)
    if agent.status is record.AgentStatus.ACTIVE and not was_active:
        event.direct(name, directive)
        now_ms, least_ms = event.session.clock_ms, event.rules.silence_ms_min
        if agent.heartbeat_ms and now_ms - agent.seen_ms >= least_ms // 2:
            event.set_timer(f"{SILENCE_TIMER}:{name}", max(now_ms, agent.seen_ms + least_ms))


def is_waiting(session: SessionState, agent: record.AgentRecord) -> bool:
    """Whether an agent waits for a dependency, a claim or an answer."""
    return bool(agent.waits_for or agent.asks or session.waiting_claims(agent))


def is_at_work(session: SessionState, name: str) -> bool:
    """Whether an agent has begun and not ended."""
    agent = session.agents.get(name)
    return agent is not None and agent.status not in record.ENDED


def in_force(session: SessionState) -> tuple[str, record.BarrierRecord | None]:
    """Return the barrier that holds the session's agents now, and its name; "" and None without."""
    for name, barrier in session.barriers.records.items():
        if barrier.state in record.IN_FORCE:
            return name, barrier
    return "", None


def integration(barriers: Mapping[str, record.BarrierRecord]) -> tuple[str, str]:
    """Return the barrier whose leader integrates now, and the leader; "" and "" if there is none.

    All agents are to be still meanwhile, so nobody but the leader is granted anything.
    """
    for name, barrier in barriers.items():
        if barrier.state is record.BarrierState.INTEGRATING:
            return name, barrier.leader
    return "", ""


def is_held(session: SessionState, name: str) -> bool:
    """Whether a barrier keeps an agent from going on: as a member, a late comer or its leader.

    Nothing holds the leader that integrates, even if it has called the next barrier already.
    """
    found = False
    for barrier in session.barriers.records.values():
        if barrier.state is record.BarrierState.INTEGRATING and barrier.leader == name:
            return False
        if barrier.state in record.IN_FORCE and (name in barrier.arrived or name in barrier.held):
            found = True
        if barrier.leader == name and barrier.state in LEADER_WAITS:
            found = True
    return found


def waiting_leader(session: SessionState) -> str | None:
    """Name the leader of the barrier in force if it is blocked itself: all others wait for it."""
    _, barrier = in_force(session)
    leader = session.agents.get(barrier.leader) if barrier is not None else None
    is_blocked = leader is not None and leader.status is record.AgentStatus.BLOCKED
    return barrier.leader if barrier is not None and is_blocked else None


def missing(barrier: record.BarrierRecord) -> list[str]:
    """Name the members that have not arrived."""
    return [member for member in barrier.members if member not in barrier.arrived]
