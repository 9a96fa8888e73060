"""Signals that are passed on, or only recorded (seeds: Rule 1, all signals go through here)."""

from __future__ import annotations

from fabric.core.decision import ACCEPTED, EVERYONE, Decision
from fabric.core.rules import Rules
from fabric.core.session import Agent, Session
from fabric.core.signal import CheckpointReached, Signal


def record(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Accept: the log has it, nobody else needs it yet."""
    return ACCEPTED


def to_everyone(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Pass the signal on to all agents of the session."""
    decision = Decision()
    decision.forward(EVERYONE, signal)
    return decision


def checkpoint_reached(
    session: Session, agent: Agent | None, signal: Signal, rules: Rules
) -> Decision:
    """Note where the agent is, and tell all parallel agents that it can be paused there."""
    assert agent is not None
    assert isinstance(signal.payload, CheckpointReached)
    if signal.payload.checkpoint is not None:
        agent.checkpoint = signal.payload.checkpoint
        agent.next_checkpoint = rules.checkpoint_after(agent.task_type, agent.checkpoint)
    return to_everyone(session, agent, signal, rules)
