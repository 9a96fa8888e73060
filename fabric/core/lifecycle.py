"""From STARTED to COMPLETED or FAILED: what an agent is doing and how far it has come."""

from __future__ import annotations

from fabric.core import dependencies, task
from fabric.core.decision import ACCEPTED, ACCEPTED_TO_RESULTS, Decision
from fabric.core.limits import ETA_MS_MAX
from fabric.core.rules import Rules
from fabric.core.session import Agent, AgentStatus, Session
from fabric.core.signal import Completed, Failed, PartialResult, Progress, Signal, Started


def started(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Register what the agent works on, and what it declares to read, write and produce.

    A second STARTED of the same incarnation replaces the declarations; the agent's waits stand.
    """
    assert agent is not None
    assert isinstance(signal.payload, Started)
    payload = signal.payload
    produces = list(dict.fromkeys(payload.produces))
    excess = dependencies.over_limit(session, produces, rules) or task.over_limit(
        session, payload.task or signal.task, rules
    )
    if excess is not None:
        return excess
    agent.task = payload.task or signal.task
    agent.task_type = payload.task_type or ""
    agent.priority = payload.priority
    agent.parallel_group = payload.parallel_group or ""
    agent.reads = payload.reads
    agent.writes = payload.writes
    agent.next_checkpoint = rules.checkpoint_after(agent.task_type, agent.checkpoint)
    task.begin(session, signal.emitter, agent)
    if not produces and not agent.produces:
        return ACCEPTED
    decision = Decision()
    retracted = set(agent.produces) - set(produces)
    agent.produces = produces
    dependencies.retract(session, signal.emitter, retracted, rules, decision)
    dependencies.declare(session, signal.emitter, agent, decision)
    return decision


def progress(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Keep percent, checkpoint and the expected end; a partial document goes to the results."""
    assert agent is not None
    assert isinstance(signal.payload, Progress)
    payload = signal.payload
    if payload.percent is not None:
        agent.percent = payload.percent
        agent.eta_ms = _expected_end(agent, session.clock_ms)
    if payload.checkpoint is not None:
        agent.checkpoint = payload.checkpoint
        agent.next_checkpoint = rules.checkpoint_after(agent.task_type, payload.checkpoint)
    if payload.next_checkpoint is not None:
        agent.next_checkpoint = payload.next_checkpoint
    return ACCEPTED if payload.partial is None else ACCEPTED_TO_RESULTS


def partial_result(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Hand early findings to the synthesizer at once."""
    assert agent is not None
    assert isinstance(signal.payload, PartialResult)
    if signal.payload.checkpoint is not None:
        agent.checkpoint = signal.payload.checkpoint
        agent.next_checkpoint = rules.checkpoint_after(agent.task_type, agent.checkpoint)
    return ACCEPTED_TO_RESULTS


def completed(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """End the incarnation well: what it was to produce counts as produced (seeds: Level 2)."""
    assert agent is not None
    assert isinstance(signal.payload, Completed)
    agent.status = AgentStatus.COMPLETED
    agent.percent = 100
    agent.eta_ms = None
    agent.next_checkpoint = ""
    decision = Decision(to_results=True)
    dependencies.withdraw_all(session, signal.emitter, agent)
    dependencies.resolve_all(session, signal.emitter, agent, decision)
    return decision


def failed(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """End the incarnation badly: those who wait for what it was to produce are told at once."""
    assert agent is not None
    assert isinstance(signal.payload, Failed)
    agent.status = AgentStatus.FAILED
    agent.eta_ms = None
    agent.error = signal.payload.error or ""
    decision = Decision(to_results=True)
    dependencies.withdraw_all(session, signal.emitter, agent)
    dependencies.fail_all(session, signal, agent, decision)
    return decision


def _expected_end(agent: Agent, now_ms: int) -> int | None:
    """Extrapolate the end from the share done and the time taken (seeds: load balancing)."""
    taken_ms = now_ms - agent.started_ms
    if not taken_ms or not agent.percent or agent.percent >= 100:
        return None
    left_ms = taken_ms * (100 - agent.percent) / agent.percent
    return now_ms + int(left_ms) if left_ms <= ETA_MS_MAX else None
