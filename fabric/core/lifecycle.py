"""From STARTED to COMPLETED or FAILED: what an agent is doing and how far it has come."""

from __future__ import annotations

from fabric.core import barriers, claims, dependencies, escalation, group, task
from fabric.core.agent_status import in_force
from fabric.core.decision import ACCEPTED, ACCEPTED_TO_RESULTS, EVERYONE, Decision, Outcome, refuse
from fabric.core.directive import DirectiveType, Notice, Resume
from fabric.core.limits import ETA_MS_MAX, PERCENT_STEP
from fabric.core.record import ENDED, AgentRecord, AgentStatus, ClaimState
from fabric.core.rules import CheckpointMode, Rules
from fabric.core.session import SessionState
from fabric.core.signal import (
    CheckpointReached,
    Completed,
    Failed,
    PartialResult,
    Progress,
    Signal,
    Started,
)


def started(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Register what the agent works on, and what it declares to read, write and produce.

    A second STARTED of the same incarnation replaces the declarations; the agent's waits stand.
    """
    assert agent is not None
    assert isinstance(signal.payload, Started)
    payload, name = signal.payload, signal.emitter
    produces = list(dict.fromkeys(payload.produces))
    excess = dependencies.over_limit(session, produces, rules) or task.over_limit(
        session, payload.task or signal.task, rules
    )
    if excess is not None:
        return excess
    agent.task = payload.task or signal.task
    agent.task_type = payload.task_type or ""
    agent.priority = payload.priority or rules.priorities.get(name, 0)
    agent.parallel_group = payload.parallel_group or ""
    agent.reads = payload.reads
    agent.writes = payload.writes
    agent.next_checkpoint = rules.checkpoint_after(agent.task_type, agent.checkpoint)
    task.begin(session, name, agent)
    agent.offers = [offered for offered in agent.offers if offered != agent.task]
    if not produces and not agent.produces:
        return ACCEPTED
    decision = Decision()
    retracted = set(agent.produces) - set(produces)
    agent.produces = produces
    dependencies.retract(session, name, retracted, rules, decision)
    dependencies.declare(session, name, agent, decision)
    return decision


def progress(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Keep percent, checkpoint and the expected end; a partial document goes to the results.

    So does a percentage now and then, for who reads there how complete a synthesis is.
    """
    assert agent is not None
    assert isinstance(signal.payload, Progress)
    payload = signal.payload
    said = _pass(session, signal.emitter, agent, payload.checkpoint, rules)
    if said is not None and said.outcome is Outcome.REFUSED:
        return said
    to_results = payload.partial is not None
    if payload.percent is not None:
        to_results = to_results or _is_told(agent.percent or 0, payload.percent)
        agent.percent = payload.percent
        agent.eta_ms = _expected_end(agent, session.clock_ms)
    if payload.next_checkpoint is not None:
        agent.next_checkpoint = payload.next_checkpoint
    if said is not None:
        said.to_results = to_results
        return said
    return ACCEPTED_TO_RESULTS if to_results else ACCEPTED


def partial_result(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Hand early findings to the synthesizer at once."""
    assert agent is not None
    assert isinstance(signal.payload, PartialResult)
    said = _pass(session, signal.emitter, agent, signal.payload.checkpoint, rules)
    if said is None:
        return ACCEPTED_TO_RESULTS
    said.to_results = said.outcome is Outcome.ACCEPTED
    return said


def reached(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """CHECKPOINT_REACHED: all parallel agents hear of it; pauses and barriers take hold here."""
    assert agent is not None
    assert isinstance(signal.payload, CheckpointReached)
    name = signal.emitter
    said = _pass(session, name, agent, signal.payload.checkpoint, rules)
    if said is not None and said.outcome is Outcome.REFUSED:
        return said
    decision = said or Decision()
    decision.forward(EVERYONE, signal)
    if rules.preemption and agent.claims:
        claims.yield_to_urgent(session, name, agent, rules, decision)
    barriers.reached(session, name, agent, signal, decision)
    return decision


def completed(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """End the incarnation well: what it was to produce counts as produced (seeds: Level 2)."""
    assert agent is not None
    assert isinstance(signal.payload, Completed)
    agent.status = AgentStatus.COMPLETED
    agent.percent = 100
    agent.silent_deaths = 0
    agent.next_checkpoint = ""
    decision = Decision(to_results=True)
    # What it had resolved before has set off its triggers then.
    tags = [*dependencies.unresolved(session, agent), *([agent.task] if agent.task else [])]
    end(session, signal.emitter, agent, rules, decision)
    barriers.pull_triggers(session, tags, None, rules, decision)
    return decision


def failed(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """End the incarnation badly: those who wait for what it was to produce are told at once."""
    assert agent is not None
    assert isinstance(signal.payload, Failed)
    agent.status = AgentStatus.FAILED
    agent.error = signal.payload.error or ""
    agent.silent_deaths = 0
    decision = Decision(to_results=True)
    end(session, signal.emitter, agent, rules, decision, signal.payload)
    return decision


def end(
    session: SessionState,
    name: str,
    agent: AgentRecord,
    rules: Rules,
    decision: Decision,
    error: Failed | None = None,
) -> tuple[list[str], list[str]]:
    """Take an incarnation out of everything it is part of; with an error, it has failed.

    Returns what it held and what it waited for: its successor is told.
    """
    waited = [*agent.waits_for, *agent.asks]
    agent.eta_ms = None
    agent.capacity = 0
    dependencies.withdraw(session, name, agent, agent.waits_for)
    escalation.withdraw(session, name, agent, agent.asks)
    if error is not None:
        dependencies.fail_all(session, name, agent, error, rules, decision)
        group.failed(session, name, agent, error, rules, decision)
    elif agent.status is AgentStatus.COMPLETED:
        dependencies.resolve_all(session, name, agent, decision)
    if agent.status in ENDED:
        escalation.unanswered(session, name, rules, decision)
    held = claims.drop_all(session, agent, rules, decision)
    barriers.leave(session, name, decision, is_failure=error is not None)
    task.declined(session, name, agent, decision)
    if error is not None and error.retryable:
        task.orphaned(session, agent, name, decision)
    return held, waited


def succeed(
    session: SessionState, name: str, agent: AgentRecord, incarnation: int, rules: Rules
) -> Decision:
    """Begin a new incarnation: it waits for nothing, holds nothing, and counts anew.

    It is told where the last one was, if that had not ended by its own word.
    """
    decision = Decision()
    is_cut_off = agent.status not in (AgentStatus.COMPLETED, AgentStatus.FAILED)
    held, waited = end(session, name, agent, rules, decision)
    lost = held or agent.lost
    if is_cut_off and (agent.task or agent.checkpoint or lost or waited):
        told = Resume(
            f"started again as incarnation {incarnation}",
            task=agent.task,
            checkpoint=agent.checkpoint,
            percent=agent.percent,
            held=lost,
            waited=waited,
        )
        decision.direct(name, DirectiveType.RESUME, told)
    agent.status = AgentStatus.ACTIVE
    agent.incarnation = incarnation
    agent.started_ms = agent.seen_ms = session.clock_ms
    agent.seq = 0
    agent.percent = None
    agent.checkpoint = agent.next_checkpoint = agent.error = ""
    agent.lost = []
    agent.cancelled = False
    agent.intervals = []
    return decision


def _pass(
    session: SessionState, name: str, agent: AgentRecord, checkpoint: str | None, rules: Rules
) -> Decision | None:
    """Note a checkpoint; return what is said about it, or the refusal; None for nothing."""
    if checkpoint is None:
        return None
    refused, notices = advance_checkpoint(session, name, agent, checkpoint, rules)
    if refused is not None or not notices:
        return refused
    current = in_force(session)
    decision = Decision()
    tell_notices(decision, name, notices, current[1].leader if current is not None else "")
    return decision


def _is_told(before: float, after: float) -> bool:
    """Whether a percentage has come so far that the synthesizer is to know."""
    return after // PERCENT_STEP > before // PERCENT_STEP


def _expected_end(agent: AgentRecord, now_ms: int) -> int | None:
    """Extrapolate the end from the share done and the time taken (seeds: load balancing)."""
    taken_ms = now_ms - agent.started_ms
    if not taken_ms or not agent.percent or agent.percent >= 100:
        return None
    left_ms = taken_ms * (100 - agent.percent) / agent.percent
    return now_ms + int(left_ms) if left_ms <= ETA_MS_MAX else None


def advance_checkpoint(
    session: SessionState, name: str, agent: AgentRecord, checkpoint: str, rules: Rules
) -> tuple[Decision | None, list[Notice]]:
    """Note where an agent is; return the refusal, or what is to be said about it."""
    notices = []
    disorder = out_of_order(agent, checkpoint, rules)
    ignored = ignores_pause(session, name, agent, checkpoint)
    if rules.checkpoints is CheckpointMode.ENFORCE and (disorder or ignored):
        return refuse("CHECKPOINT", disorder or ignored), []
    if disorder:
        notices.append(Notice("CHECKPOINT", disorder))
    if ignored:
        notices.append(Notice("PAUSED", ignored))
    agent.checkpoint = checkpoint
    agent.next_checkpoint = rules.checkpoint_after(agent.task_type, checkpoint)
    return None, notices


def out_of_order(agent: AgentRecord, checkpoint: str, rules: Rules) -> str:
    """Say what is wrong with passing a checkpoint now; "" when nothing is."""
    order = rules.task_types.get(agent.task_type)
    if order is None or checkpoint == agent.checkpoint:
        return ""
    known = " → ".join(order)
    if checkpoint not in order:
        return f"{checkpoint} is no checkpoint of {agent.task_type}: {known}"
    at = order.index(agent.checkpoint) if agent.checkpoint in order else -1
    if order.index(checkpoint) == at + 1:
        return ""
    last = agent.checkpoint or "the start"
    return f"{checkpoint} does not follow {last} in {agent.task_type}: {known}"


def ignores_pause(session: SessionState, name: str, agent: AgentRecord, checkpoint: str) -> str:
    """Say which pause an agent ignores by passing a checkpoint; "" when it ignores none."""
    if checkpoint == agent.checkpoint:
        return ""
    if agent.status is AgentStatus.PAUSED:
        current = in_force(session)
        if current is not None and name != current[1].leader:
            return f"{name} passes {checkpoint} while {current[0]} holds it"
    for claim_id in agent.claims:
        claim = session.claims.records[claim_id]
        if claim.state is ClaimState.WAITING and claim.contended:
            wanted = ", ".join([*claim.writes, *claim.reads][:3])
            return f"{name} passes {checkpoint} while it is to wait for {wanted}"
    return ""


def tell_notices(decision: Decision, name: str, notices: list[Notice], leader: str = "") -> None:
    """Tell an agent, and the leader of the barrier it ignores, what was noted."""
    for notice in notices:
        decision.direct(name, DirectiveType.NOTICE, notice)
        if leader and notice.code == "PAUSED":
            decision.direct(leader, DirectiveType.NOTICE, notice)
