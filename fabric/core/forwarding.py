"""Signals that are passed on, or only recorded (seeds: Rule 1, all signals go through here)."""

from __future__ import annotations

from fabric.core.decision import ACCEPTED, ACCEPTED_TO_RESULTS, EVERYONE, Decision
from fabric.core.record import Agent
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Signal


def record(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Accept: the log has it, nobody else needs it yet."""
    return ACCEPTED


def refined(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Hand what a refiner has made to the synthesizer."""
    return ACCEPTED_TO_RESULTS


def along_routes(signal: Signal, rules: Rules, decision: Decision) -> Decision:
    """Give a copy to the agents that the rule file names for this type of signal."""
    names = rules.routes.get(signal.type)
    if not names:
        return decision
    decision = decision.own()
    told = {message.to for message in decision.messages if message.forwarded}
    if EVERYONE not in told:
        for name in names:
            if name not in told and name != signal.emitter:
                decision.forward(name, signal)
    return decision
