"""BLOCKED and RELEASE: an agent begins to wait, or gives back, whatever that is (seeds: Rule 2)."""

from __future__ import annotations

from fabric.core import conflicts, dependencies, escalation, undeclared
from fabric.core.decision import Decision
from fabric.core.record import Agent
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Blocked, Release, Signal
from fabric.core.standing import restate


def blocked(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Wait for an open question, a resource that another holds, or else a dependency."""
    assert agent is not None
    assert isinstance(signal.payload, Blocked)
    name, on = signal.emitter, signal.payload.on
    decision = escalation.wait_on(session, name, agent, on)
    known = session.dependencies.get(on)
    if decision is None and (known is None or undeclared.producer(session, known) is None):
        decision = conflicts.blocked_on(session, agent, signal, on, rules)
    if decision is None:
        decision = dependencies.wait(session, name, agent, on, rules)
    return decision


def released(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """End the claims and waits that it names, or all of them when it names nothing."""
    assert agent is not None
    assert isinstance(signal.payload, Release)
    named, name = signal.payload.resources, signal.emitter
    decision = Decision()
    dependencies.withdraw(session, name, agent, named or agent.waits_for)
    escalation.withdraw(session, name, agent, named or agent.asks)
    conflicts.give_back(session, name, agent, named, rules, decision)
    restate(session, name, agent)
    return decision
