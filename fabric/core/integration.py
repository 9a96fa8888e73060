"""How an integration ends: done, called off, or without those who are missing (seeds: Rule 4)."""

from __future__ import annotations

from fabric.core import barriers
from fabric.core.decision import ACCEPTED, Decision, refuse
from fabric.core.directive import Cancel, DirectiveType
from fabric.core.record import Agent, Barrier, BarrierState
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Integrated, Signal
from fabric.core.standing import in_force, missing, restate


def integrated(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """INTEGRATED: the leader is done, and all go on; or it calls the barrier off, at any stage."""
    assert agent is not None
    assert isinstance(signal.payload, Integrated)
    current = in_force(session)
    name = signal.payload.name
    queued = session.barriers.get(name) if name is not None and not signal.payload.ok else None
    is_queued = queued is not None and queued.state is BarrierState.QUEUED
    if name is not None and queued is not None and is_queued and queued.leader == signal.emitter:
        queued.state = BarrierState.OVER
        session.barriers.put(name, queued)
        restate(session, signal.emitter, agent)
        return ACCEPTED
    if current is None or (name is not None and name != current[0]):
        return refuse("BARRIER", f"no barrier {name or ''} is in force".replace("  ", " "))
    called, barrier = current
    if barrier.leader != signal.emitter:
        reason = f"{barrier.leader or 'nobody'} leads {called}, not {signal.emitter}"
        return refuse("BARRIER", reason)
    decision = Decision()
    if not signal.payload.ok:
        barriers.over(session, called, barrier, f"{barrier.leader} has called it off", decision)
        return decision
    if barrier.state is BarrierState.GATHERING:
        return refuse(
            "BARRIER", f"not all have arrived at {called}: {', '.join(missing(barrier)[:10])}"
        )
    barriers.over(session, called, barrier, "integrated", decision)
    return decision


def release(session: Session, name: str, barrier: Barrier, decision: Decision) -> None:
    """Go on without those who are missing."""
    barrier.members = list(barrier.arrived)
    session.barriers.put(name, barrier)
    barriers.open_if_complete(session, name, barrier, decision)


def call_off(
    session: Session, name: str, barrier: Barrier, reason: str, decision: Decision
) -> None:
    """Give a barrier up: its leader is told why, and all go on."""
    if barrier.leader in session.agents:
        told = Cancel(reason, "BARRIER", barrier=name)
        decision.direct(barrier.leader, DirectiveType.CANCEL, told)
    barriers.over(session, name, barrier, reason, decision)
