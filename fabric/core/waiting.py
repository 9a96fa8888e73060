"""BLOCKED and RELEASE: an agent begins to wait, or gives back, whatever that is (seeds: Rule 2)."""

from __future__ import annotations

from fabric.core import conflicts, dependencies, escalation, undeclared
from fabric.core.decision import Decision
from fabric.core.record import Agent, DependencyStatus
from fabric.core.resource import normalise
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
    if decision is None and not _is_dependency(session, on):
        decision = conflicts.blocked_on(session, name, agent, on, rules)
    if decision is None:
        decision = dependencies.wait(session, name, agent, on, rules)
    return decision


def _is_dependency(session: Session, on: str) -> bool:
    """Whether a name is that of an output, whatever resources there are.

    It is when somebody at work is to produce it or it is there already. A name that nobody has
    spoken of is an output too, unless it is that of a held resource, or a path within one.
    """
    known = session.dependencies.get(on)
    if known is not None and (
        known.status is DependencyStatus.RESOLVED or undeclared.producer(session, known) is not None
    ):
        return True
    return not (session.order.holders(normalise(on)) or "/" in on or "." in on)


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
