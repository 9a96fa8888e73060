"""From STARTED to COMPLETED or FAILED: what an agent is doing and how far it has come.

A task type names its checkpoints in order; an agent passes them one after the other, and may report
the one it is at again. A checkpoint out of order is noted (`observe`) or refused (`enforce`), and
so is one that the agent passes during a pause. An agent without a task type passes any checkpoint.

Fail-fast: the rest of a parallel group sees the failure of one of its agents at once. The rule file
says whether they are also cancelled, or a person is asked whether they go on.
"""

from __future__ import annotations

from fabric.core import (
    assignment,
    barriers,
    board,
    claims,
    deadlock,
    dependencies,
    escalation,
    identity,
    quota,
)
from fabric.core import signal as payloads
from fabric.core.agent_status import in_force
from fabric.core.directive import CONFIRMED, Cancel, Notice, Resume
from fabric.core.escalation import GROUP
from fabric.core.event import EVERYONE, Event, RefusedError, SignalEvent
from fabric.core.limits import CHECKPOINTS_KEPT_MAX, ETA_MS_MAX, PERCENT_STEP, listed
from fabric.core.policy import CheckpointMode, FailFast, InferencePolicy
from fabric.core.record import ENDED, AgentRecord, AgentStatus, EscalationRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Failed

#: Answers to the question whether a group goes on.
GO_ON, CANCEL = "go on", "cancel"


def started(event: SignalEvent, payload: payloads.Started) -> None:
    """Register what the agent works on, and what it declares to read, write and produce.

    A second STARTED of the same incarnation replaces the declarations; the agent's waits stand.
    """
    agent, rules = event.agent, event.rules
    produces = list(dict.fromkeys(payload.produces))
    claims.named([*payload.reads, *payload.writes])
    dependencies.check_limit(event, produces)
    board.check(event, payload.task or event.signal.task)
    board.take(event, payload.task or event.signal.task)
    if payload.resumes_from is not None:
        _resume_from(event, payload.resumes_from)
    identity.note_shared(event, payload)
    agent.workspace = payload.workspace or agent.workspace
    if payload.heartbeat_ms and 2 * payload.heartbeat_ms <= rules.silence_ms_min:
        agent.heartbeat_ms = payload.heartbeat_ms  # rarer ones tell nothing in time
    agent.task_type = payload.task_type or ""
    agent.priority = payload.priority or rules.priorities.get(event.name, 0)
    agent.parallel_group = payload.parallel_group or ""
    agent.reads = payload.reads
    agent.writes = payload.writes
    agent.next_checkpoint = rules.checkpoint_after(agent.task_type, agent.checkpoint)
    if produces or agent.produces:
        retracted = set(agent.produces) - set(produces)
        agent.produces = produces
        deadlock.check_all(event, dependencies.retract(event, retracted))
        dependencies.declare(event)
    if payload.quotas or agent.quotas:
        quota.join(event, payload.quotas)
    _confirm(event, payload)


def _resume_from(event: SignalEvent, checkpoint: str) -> None:
    """Go on from a checkpoint of the incarnation before: what that had found by then stands."""
    agent = event.agent
    if checkpoint not in agent.resumable:
        known = listed([*agent.resumable]) or "none"
        reason = (
            f"the incarnation before this one has not passed {checkpoint}, so nothing that it "
            f"found stands by this; it has passed: {known}"
        )
        event.direct(event.name, Notice("CHECKPOINT", reason))
        return
    last = agent.resumable[checkpoint]
    before = {name: log for name, log in agent.resumable.items() if log <= last}
    agent.passed = {**before, **agent.passed}
    agent.checkpoint = agent.checkpoint or checkpoint
    event.give_to_results()


def progress(event: SignalEvent, payload: payloads.Progress) -> None:
    """Keep percent, checkpoint and the expected end; a partial document goes to the results.

    So does a percentage now and then: readers of a synthesis see how complete it is.
    """
    agent = event.agent
    _pass(event, payload.checkpoint)
    to_results = payload.partial is not None
    if payload.percent is not None:
        before = agent.percent or 0
        to_results = to_results or payload.percent // PERCENT_STEP > before // PERCENT_STEP
        agent.percent = payload.percent
        agent.eta_ms = _expected_end(event)
    if payload.next_checkpoint is not None:
        agent.next_checkpoint = payload.next_checkpoint
    if payload.expect_ms is not None:
        _announce_silence(event, payload.expect_ms)
    if to_results:
        event.give_to_results()


def heartbeat(event: SignalEvent, payload: payloads.Heartbeat) -> None:
    """HEARTBEAT: the agent is alive, and may announce a silence."""
    if payload.expect_ms is not None:
        _announce_silence(event, payload.expect_ms)


def partial_result(event: SignalEvent, payload: payloads.PartialResult) -> None:
    """Pass early findings on to the synthesizer at once."""
    _pass(event, payload.checkpoint)
    event.give_to_results()


def reached(event: SignalEvent, payload: payloads.CheckpointReached) -> None:
    """CHECKPOINT_REACHED: all parallel agents hear of it; pauses and barriers take hold here."""
    _pass(event, payload.checkpoint)
    event.forward(EVERYONE)
    if event.rules.preemption and event.agent.claims:
        claims.yield_to_urgent(event)
    barriers.arrive_at_checkpoint(event, payload)


def completed(event: SignalEvent, payload: payloads.Completed) -> None:
    """End the incarnation well: what it was to produce counts as produced.

    Unless it was told to stop: then only what it has resolved is there.
    """
    session, agent = event.session, event.agent
    unresolved = dependencies.unresolved(session, agent)
    if _delivers(event, agent) and event.rules.inference is InferencePolicy.REFUSE and unresolved:
        raise RefusedError(
            "UNDELIVERED",
            f"{event.name} is to produce {listed(unresolved)} and has not said that it has: send "
            "DEPENDENCY_RESOLVED for each, or STARTED without what is not to come, or FAILED",
        )
    _note_unmet(event, agent)
    agent.status = AgentStatus.COMPLETED
    agent.percent = 100
    agent.silent_deaths = 0
    agent.next_checkpoint = ""
    event.give_to_results()
    # What it resolved before has set off its triggers then.
    has_task = board.task_of(session, event.name, agent) is not None
    delivered = unresolved if _delivers(event, agent) else []
    tags = [*delivered, *([agent.task] if has_task else [])]
    end(event, event.name, agent)
    barriers.trigger(event, tags, None)
    _confirm(event, payload)


def _delivers(event: Event, agent: AgentRecord) -> bool:
    """Whether the end of an agent says that what it was to produce is there."""
    return event.rules.cancelled_deliver or not agent.cancelled


def _note_unmet(event: SignalEvent, agent: AgentRecord) -> None:
    """Note what an agent still waits for that says it has completed."""
    claims_of = event.session.waiting_claims(agent)
    wanted = [resource for claim in claims_of for resource in claim.wanted]
    agent.unmet = [*agent.waits_for, *agent.asks, *wanted]
    if agent.unmet:
        reason = f"{event.name} has completed while it waited for {listed(agent.unmet)}"
        event.direct(event.name, Notice("BLOCKED", reason))


def failed(event: SignalEvent, payload: Failed) -> None:
    """End the incarnation badly: those that wait for what it was to produce are told at once."""
    agent = event.agent
    agent.status = AgentStatus.FAILED
    agent.error = payload.error or ""
    agent.silent_deaths = 0
    event.give_to_results()
    end(event, event.name, agent, payload)


def _confirm(event: SignalEvent, payload: payloads.Started | payloads.Completed) -> None:
    """Tell the agent that its start or end was accepted, if it wants to know."""
    if payload.confirm:
        signal = event.signal
        reason = f"{signal.type} was accepted"
        task = board.task_of(event.session, event.name, event.agent)
        number, token = event.agent.incarnation, task.token if task is not None else 0
        notice = Notice(CONFIRMED, reason, seq=signal.seq, incarnation=number, token=token)
        event.direct(event.name, notice)


def end(
    event: Event, name: str, agent: AgentRecord, error: Failed | None = None
) -> tuple[list[str], list[str]]:
    """Take an incarnation out of everything it is part of; with an error, it has failed.

    Returns what it held and what it waited for: its successor is told.
    """
    session = event.session
    waited = [*agent.waits_for, *agent.asks]
    agent.eta_ms = None
    if agent.wedged:
        escalation.close_own(event, agent.wedged, f"{name} has ended")
        agent.wedged = ""
    if agent.unread:
        escalation.close_own(event, agent.unread, f"{name} has ended")
        agent.unread = ""
    agent.orders = []
    dependencies.withdraw(event, name, agent, agent.waits_for)
    escalation.withdraw(session, name, agent, agent.asks)
    if error is not None:
        deadlock.check_all(event, dependencies.fail_all(event, name, agent, error))
        _fail_group(event, name, agent, error)
    elif agent.status is AgentStatus.COMPLETED and _delivers(event, agent):
        dependencies.resolve_all(event, name, agent)
    elif agent.status is AgentStatus.COMPLETED:
        stopped = Failed(f"{name} was told to stop, and has completed without resolving it")
        deadlock.check_all(event, dependencies.fail_all(event, name, agent, stopped))
    if agent.status in ENDED:
        escalation.ask_person_instead(event, name)
    held = claims.drop_all(event, name, agent)
    barriers.leave(event, name, is_failure=error is not None)
    assignment.end(session, name, agent)
    why = error.error or "" if error is not None else f"incarnation {agent.incarnation} has ended"
    board.leave(event, name, agent, why, may_help=error is None or error.retryable)
    if agent.status in ENDED:
        identity.end_children(event, name)
    return held, waited


def begin_incarnation(event: SignalEvent, agent: AgentRecord, incarnation: int) -> None:
    """Begin a new incarnation: it waits for nothing, holds nothing, and counts anew.

    It is told where the last one was, unless that one ended by its own signal.
    """
    is_cut_off = agent.status not in (AgentStatus.COMPLETED, AgentStatus.FAILED)
    if agent.status not in ENDED:
        reason = (
            f"incarnation {incarnation} of {event.name} has replaced incarnation "
            f"{agent.incarnation}, which is not heard any more"
        )
        event.direct(event.name, Notice("REPLACED", reason, incarnation=agent.incarnation))
    held, waited = end(event, event.name, agent)
    lost = held or agent.lost
    if is_cut_off and (agent.task or agent.checkpoint or lost or waited):
        reason = f"started again as incarnation {incarnation}"
        if taken := board.taken_meanwhile(event.session, event.name, agent):
            told = Resume(f"{reason}; {taken}", held=lost, waited=waited)
        else:
            told = Resume(
                reason,
                task=agent.task,
                checkpoint=agent.checkpoint,
                percent=agent.percent,
                held=lost,
                waited=waited,
            )
        event.direct(event.name, told)
    agent.status = AgentStatus.ACTIVE
    agent.incarnation = incarnation
    agent.started_ms = agent.seen_ms = event.session.clock_ms
    agent.seq = agent.mark = 0
    agent.skipped = []
    agent.percent = None
    agent.task = agent.checkpoint = agent.next_checkpoint = agent.error = ""
    agent.resumable, agent.passed = agent.passed, {}
    agent.lost = []
    agent.instance = agent.workspace = ""
    agent.unmet = []
    agent.cancelled = False
    agent.intervals = []
    agent.quiet_until_ms = agent.idle_since_ms = agent.nudged_ms = agent.heartbeat_ms = 0


def apply_group_answer(event: Event, asked: EscalationRecord) -> None:
    """Cancel the rest of a group, if a person has decided that."""
    if asked.decision == CANCEL:
        _cancel_group(event, asked.about, f"{asked.by} has decided to cancel")


def _announce_silence(event: SignalEvent, expect_ms: int) -> None:
    """Note for how long nothing need be heard of the agent; a longer time than allowed is cut."""
    longest_ms = event.rules.expect_ms_max
    if expect_ms > longest_ms:
        reason = f"expect_ms of {expect_ms} counts as {longest_ms}, the most that the rules allow"
        event.direct(event.name, Notice("LIMIT", reason))
    event.agent.quiet_until_ms = event.session.clock_ms + min(expect_ms, longest_ms)


def _pass(event: SignalEvent, checkpoint: str | None) -> None:
    """Note a checkpoint; refuse or report one that is out of order, or passed during a pause."""
    if checkpoint is None:
        return
    session, name, agent, rules = event.session, event.name, event.agent, event.rules
    disorder = _disorder(agent, checkpoint, rules)
    ignored = _ignored_pause(session, name, agent, checkpoint)
    if rules.checkpoints is CheckpointMode.ENFORCE and (disorder or ignored):
        raise RefusedError("CHECKPOINT", disorder or ignored)
    if checkpoint != agent.checkpoint:
        agent.passed = {name: log for name, log in agent.passed.items() if name != checkpoint}
        agent.passed[checkpoint] = session.log
        if len(agent.passed) > CHECKPOINTS_KEPT_MAX:
            del agent.passed[next(iter(agent.passed))]
    agent.checkpoint = checkpoint
    agent.next_checkpoint = rules.checkpoint_after(agent.task_type, checkpoint)
    if disorder:
        event.direct(name, Notice("CHECKPOINT", disorder))
    if ignored:
        notice = Notice("PAUSED", ignored)
        event.direct(name, notice)
        _, barrier = in_force(session)
        if barrier is not None and barrier.leader:
            event.direct(barrier.leader, notice)


def _disorder(agent: AgentRecord, checkpoint: str, rules: Rules) -> str:
    """Say what is wrong with passing a checkpoint now; "" when nothing is."""
    order = rules.task_types.get(agent.task_type)
    if order is None or checkpoint == agent.checkpoint:
        return ""
    known = " → ".join(order)
    if checkpoint not in order:
        return f"{checkpoint} is not a checkpoint of {agent.task_type}: {known}"
    at = order.index(agent.checkpoint) if agent.checkpoint in order else -1
    if order.index(checkpoint) == at + 1:
        return ""
    last = agent.checkpoint or "the start"
    return f"{checkpoint} does not follow {last} in {agent.task_type}: {known}"


def _ignored_pause(session: SessionState, name: str, agent: AgentRecord, checkpoint: str) -> str:
    """Say which pause an agent ignores by passing a checkpoint; "" when it ignores none."""
    if checkpoint == agent.checkpoint:
        return ""
    if agent.status is AgentStatus.PAUSED:
        called, barrier = in_force(session)
        if barrier is not None and name != barrier.leader:
            return f"{name} passes {checkpoint} while barrier {called} holds it"
    for claim in session.waiting_claims(agent):
        if claim.contended:
            wanted = ", ".join(claim.wanted[:3])
            return f"{name} passes {checkpoint} while it must wait for {wanted}"
    return ""


def _expected_end(event: SignalEvent) -> int | None:
    """Extrapolate the end from the share done and the time taken for the task, or else in all."""
    agent, now_ms = event.agent, event.session.clock_ms
    task = board.task_of(event.session, event.name, agent)
    taken_ms = now_ms - (task.started_ms if task is not None else agent.started_ms)
    if not taken_ms or not agent.percent or agent.percent >= 100:
        return None
    left_ms = taken_ms * (100 - agent.percent) / agent.percent
    return now_ms + int(left_ms) if left_ms <= ETA_MS_MAX else None


def _fail_group(event: Event, name: str, agent: AgentRecord, error: Failed) -> None:
    """Tell the group that one of its agents has failed, and apply its policy."""
    session, rules, group = event.session, event.rules, agent.parallel_group
    if not group or agent.cancelled:
        return  # it has stopped because it was told to: the group knows why
    others = _group_at_work(session, group)
    for other in others:
        event.derive(other, error, sender=name, stream=agent.stream)
    policy = rules.fail_fast_groups.get(group, rules.fail_fast)
    reason = f"{name}, of group {group}, has failed: {error.error or 'no reason given'}"
    if policy is FailFast.CANCEL:
        _cancel_group(event, group, reason)
    elif policy is FailFast.ESCALATE and others and not _is_asked(session, group):
        text = f"{reason}. Does the rest of the group go on?"
        question = escalation.new_question(session, GROUP, text, [GO_ON, CANCEL], about=group)
        escalation.ask(event, question, told=[])


def _cancel_group(event: Event, group: str, reason: str) -> None:
    """Tell all agents of a group that are still at work to stop."""
    for other in _group_at_work(event.session, group):
        agent = event.session.agents.records[other]
        if not agent.cancelled:
            agent.cancelled = True
            event.session.agents.put(other, agent)
            event.direct(other, Cancel(reason, "FAIL_FAST"))
            dependencies.tell_cancelled(event, other, agent, reason)


def _is_asked(session: SessionState, group: str) -> bool:
    questions = session.escalations.records.values()
    return any(
        asked.is_open and (asked.subject, asked.about) == (GROUP, group) for asked in questions
    )


def _group_at_work(session: SessionState, group: str) -> list[str]:
    """Name the agents of a group that are at work, sorted."""
    return sorted(
        name
        for name, agent in session.agents.records.items()
        if agent.parallel_group == group and agent.status not in ENDED
    )
