"""All agents meet before an integration goes on (seeds: Rule 4; design, section 6 "Barriers").

Members are a set, not a counter: those at work when the barrier begins. Each generation of a name
has its own, so what belongs to an earlier one changes nothing.

    event                          gathering                      integrating
    CHECKPOINT_REACHED             the member has arrived         reported: it was to pause
    a member begins to wait        it has arrived                 -
    a member ends, or is dead      it leaves                      it leaves
    an agent starts                it is held                     it is held
    all have arrived               PROCEED to the leader          -
    INTEGRATED by the leader       refused                        RESUME to all; the next barrier
    the leader ends                called off                     over, as if it had integrated
    the deadline                   the missing named; policy      -

One barrier is in force at a time, others queue in the order of their calls. One without a leader,
which the rule file may call, is over as soon as all have arrived.
"""

from __future__ import annotations

from fabric.core import agent_status
from fabric.core.agent_status import in_force, is_waiting, missing, restate
from fabric.core.decision import ACCEPTED, EVERYONE, ORCHESTRATOR, Decision, refuse
from fabric.core.directive import Cancel, DirectiveType, Notice, Pause, Proceed, Resume
from fabric.core.escalation import BARRIER, close, note, pose
from fabric.core.limits import SESSION_BARRIERS_MAX, listed
from fabric.core.record import (
    ENDED,
    AgentRecord,
    AgentStatus,
    BarrierRecord,
    BarrierState,
    EscalationState,
)
from fabric.core.resource import normalise, overlap
from fabric.core.rules import BarrierPolicy, Rules, Trigger
from fabric.core.session import SessionState
from fabric.core.signal import (
    CheckpointReached,
    Integrated,
    IntegrationRequired,
    Signal,
    SignalType,
)

#: The deadline's timer is `barrier:<generation>:<name>`.
TIMER = "barrier"

#: Name of a barrier whose call gives none.
UNNAMED = "integration"


def required(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """INTEGRATION_REQUIRED: its emitter leads; all active agents run to their next checkpoint."""
    assert agent is not None
    assert isinstance(signal.payload, IntegrationRequired)
    payload = signal.payload
    name = payload.name or UNNAMED
    reason = fault(session, name)
    if reason is not None:
        refused = refuse("BARRIER", reason)
        told = Cancel(reason, "BARRIER", barrier=name)
        refused.direct(signal.emitter, DirectiveType.CANCEL, told)
        return refused
    decision = Decision()
    decision.forward(EVERYONE, signal)
    limit_ms = rules.barrier_deadline_ms if payload.deadline_ms is None else payload.deadline_ms
    call(session, name, signal.emitter, limit_ms, decision, level=payload.level)
    return decision


def fault(session: SessionState, name: str) -> str | None:
    """Say why a barrier cannot be called now; None when it can."""
    known = session.barriers.get(name)
    if known is not None and known.state is not BarrierState.OVER:
        return f"{known.leader or 'the rule file'} has called {name} already; it is {known.state}"
    if known is None and len(session.barriers) >= SESSION_BARRIERS_MAX:
        return f"session {session.name} has {SESSION_BARRIERS_MAX} barriers, the most allowed"
    return None


def call(
    session: SessionState,
    name: str,
    leader: str,
    limit_ms: int,
    decision: Decision,
    *,
    level: int | None = None,
) -> None:
    """Begin a barrier, or queue it behind the one in force."""
    known = session.barriers.get(name)
    barrier = BarrierRecord(
        BarrierState.QUEUED,
        known.generation + 1 if known is not None else 1,
        leader,
        called_ms=session.clock_ms,
        called=session.log,
        level=level,
        limit_ms=limit_ms,
    )
    session.barriers.put(name, barrier)
    current = in_force(session)
    if current is None:
        _begin(session, name, barrier, decision)
        return
    if leader in current[1].members:
        # Who waits for its turn to lead has reached a safe point.
        _arrive(session, leader, *current, decision)
    _restate_one(session, leader)
    if leader in session.agents:
        queued = Notice("QUEUED", f"{name} begins when {current[0]} is over")
        decision.direct(leader, DirectiveType.NOTICE, queued)


def reached(
    session: SessionState, name: str, agent: AgentRecord, signal: Signal, decision: Decision
) -> None:
    """CHECKPOINT_REACHED: the place where a barrier takes hold of an agent."""
    assert isinstance(signal.payload, CheckpointReached)
    current = in_force(session)
    if current is None:
        return
    called, barrier = current
    given = signal.payload
    if given.barrier is not None and given.barrier != called:
        return
    if given.generation is not None and given.generation != barrier.generation:
        return
    if barrier.state is BarrierState.GATHERING and name in barrier.members:
        _arrive(session, name, called, barrier, decision)
    elif barrier.state is BarrierState.INTEGRATING:
        # One that was not waited for: it may not go on either while the leader integrates.
        join(session, name, agent, decision)


def rest(session: SessionState, name: str, agent: AgentRecord, decision: Decision) -> None:
    """An agent has begun to wait for something: at a barrier that counts as having arrived."""
    current = in_force(session)
    if current is None or agent.status is not AgentStatus.BLOCKED:
        return
    called, barrier = current
    if barrier.state is BarrierState.GATHERING and name in barrier.members:
        _arrive(session, name, called, barrier, decision)


def join(session: SessionState, name: str, agent: AgentRecord, decision: Decision) -> None:
    """An agent starts: while a barrier is in force it is held until that is over."""
    current = in_force(session)
    if current is None:
        return
    called, barrier = current
    if name == barrier.leader:
        restate(session, name, agent)
        return
    if name in barrier.members or name in barrier.held:
        return
    barrier.held = [*barrier.held, name]
    session.barriers.put(called, barrier)
    restate(session, name, agent)
    held = Pause("integration", barrier=called, generation=barrier.generation)
    decision.direct(name, DirectiveType.PAUSE, held)


def leave(session: SessionState, name: str, decision: Decision, *, is_failure: bool) -> None:
    """An agent has ended, or is another incarnation now: it has no seat any more."""
    if not session.barriers.records:
        return
    for queued, barrier in session.barriers.records.items():
        if barrier.state is BarrierState.QUEUED and barrier.leader == name:
            barrier.state = BarrierState.OVER
            session.barriers.put(queued, barrier)
    current = in_force(session)
    if current is None:
        return
    called, barrier = current
    if name == barrier.leader:
        how = "has failed" if is_failure else "has ended"
        over(session, called, barrier, f"{name}, who led it, {how}", decision)
        return
    if name not in barrier.members and name not in barrier.held:
        return
    barrier.members = [member for member in barrier.members if member != name]
    barrier.held = [other for other in barrier.held if other != name]
    barrier.arrived.pop(name, None)
    session.barriers.put(called, barrier)
    open_if_complete(session, called, barrier, decision)


def _begin(session: SessionState, name: str, barrier: BarrierRecord, decision: Decision) -> None:
    barrier.state = BarrierState.GATHERING
    leads_later = {
        other.leader
        for other in session.barriers.records.values()
        if other.state is BarrierState.QUEUED
    }
    for member in sorted(session.agents.records):
        agent = session.agents.records[member]
        if agent.status in ENDED or member == barrier.leader:
            continue
        barrier.members.append(member)
        if member in leads_later or is_waiting(session, agent):
            barrier.arrived[member] = session.clock_ms
    if barrier.limit_ms:
        barrier.deadline_ms = session.clock_ms + barrier.limit_ms
        decision.timers[f"{TIMER}:{barrier.generation}:{name}"] = barrier.deadline_ms
    session.barriers.put(name, barrier)
    told = Pause(
        "integration",
        barrier=name,
        generation=barrier.generation,
        members=barrier.members,
        deadline_ms=barrier.deadline_ms or None,
    )
    decision.direct(EVERYONE, DirectiveType.PAUSE, told)
    _restate_one(session, barrier.leader)
    open_if_complete(session, name, barrier, decision)


def _arrive(
    session: SessionState, member: str, name: str, barrier: BarrierRecord, decision: Decision
) -> None:
    if member in barrier.arrived:
        return
    barrier.arrived[member] = session.clock_ms
    session.barriers.put(name, barrier)
    _restate_one(session, member)
    open_if_complete(session, name, barrier, decision)


def open_if_complete(
    session: SessionState, name: str, barrier: BarrierRecord, decision: Decision
) -> None:
    """Let the leader integrate, when all have arrived."""
    if barrier.state is not BarrierState.GATHERING or len(barrier.arrived) < len(barrier.members):
        return
    barrier.state = BarrierState.INTEGRATING
    _close_question(session, barrier, "all have arrived", decision)
    session.barriers.put(name, barrier)
    leader = session.agents.get(barrier.leader)
    if leader is None or leader.status in ENDED:
        over(session, name, barrier, "all have arrived", decision)
        return
    restate(session, barrier.leader, leader)
    decision.direct(barrier.leader, DirectiveType.PROCEED, Proceed([], barrier=name))


def over(
    session: SessionState, name: str, barrier: BarrierRecord, reason: str, decision: Decision
) -> None:
    """End a barrier: all go on, and the next one that is queued begins."""
    if barrier.deadline_ms:
        decision.timers[f"{TIMER}:{barrier.generation}:{name}"] = None
    barrier.state = BarrierState.OVER
    _close_question(session, barrier, "it is over", decision)
    freed = [*barrier.arrived, *barrier.held, barrier.leader]
    session.barriers.put(name, barrier)
    decision.direct(EVERYONE, DirectiveType.RESUME, Resume(reason, barrier=name))
    for member in freed:
        _restate_one(session, member)
    queued = [
        (other.called, waiting)
        for waiting, other in session.barriers.records.items()
        if other.state is BarrierState.QUEUED
    ]
    if queued:
        following = min(queued)[1]
        _begin(session, following, session.barriers.records[following], decision)


def _close_question(
    session: SessionState, barrier: BarrierRecord, answer: str, decision: Decision
) -> None:
    """What to do about the missing is no question any more: a later barrier has its own."""
    asked = session.escalations.get(barrier.question) if barrier.question else None
    if asked is not None and asked.state is EscalationState.OPEN:
        close(session, barrier.question, asked, answer, ORCHESTRATOR, decision)
    barrier.question = ""


def _restate_one(session: SessionState, name: str) -> None:
    agent = session.agents.get(name)
    if agent is not None:
        restate(session, name, agent)


def integrated(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
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
        over(session, called, barrier, f"{barrier.leader} has called it off", decision)
        return decision
    if barrier.state is BarrierState.GATHERING:
        return refuse(
            "BARRIER", f"not all have arrived at {called}: {', '.join(missing(barrier)[:10])}"
        )
    over(session, called, barrier, "integrated", decision)
    return decision


def release(session: SessionState, name: str, barrier: BarrierRecord, decision: Decision) -> None:
    """Go on without those who are missing."""
    barrier.members = list(barrier.arrived)
    session.barriers.put(name, barrier)
    open_if_complete(session, name, barrier, decision)


def call_off(
    session: SessionState, name: str, barrier: BarrierRecord, reason: str, decision: Decision
) -> None:
    """Give a barrier up: its leader is told why, and all go on."""
    if barrier.leader in session.agents:
        told = Cancel(reason, "BARRIER", barrier=name)
        decision.direct(barrier.leader, DirectiveType.CANCEL, told)
    over(session, name, barrier, reason, decision)


def deadline_passed(session: SessionState, subject: str, rules: Rules) -> Decision | None:
    """Name the missing and apply the policy; None for a barrier that is over, or another one now.

    `subject` is `<generation>:<name>`.
    """
    generation, _, name = subject.partition(":")
    barrier = session.barriers.get(name)
    if (
        barrier is None
        or barrier.state is not BarrierState.GATHERING
        or str(barrier.generation) != generation
    ):
        return None
    missing = agent_status.missing(barrier)
    text = f"At the deadline of {name} these are missing: {listed(missing)}."
    decision = Decision()
    leader = [barrier.leader] if barrier.leader in session.agents else []
    question = pose(session, BARRIER, text, [], about=name, waiting=leader)
    if rules.barrier_policy is BarrierPolicy.WAIT:
        question.question += " Wait for them, release the others, or call it off?"
        question.options = [policy.value for policy in BarrierPolicy]
        barrier.question = note(session, decision, question, rules, told=question.waiting)
        session.barriers.put(name, barrier)
        return decision
    released = rules.barrier_policy is BarrierPolicy.RELEASE
    question.question += " Going on without them." if released else " It is called off."
    question.state = EscalationState.DECIDED
    question.decision, question.by = rules.barrier_policy.value, "the rules"
    question.decided_ms = session.clock_ms
    told, question.waiting = question.waiting, []
    note(session, decision, question, rules, told=told)
    if released:
        release(session, name, barrier, decision)
    else:
        call_off(session, name, barrier, text, decision)
    return decision


#: The level of integration at which all agents meet.
TRIGGER_LEVEL = 3


def pull_triggers(
    session: SessionState, tags: list[str], location: str | None, rules: Rules, decision: Decision
) -> None:
    """Call the barriers of all triggers that these tags, or this location, set off."""
    for trigger in rules.triggers:
        if not _is_met(trigger, tags, location):
            continue
        reason = fault(session, trigger.name)
        if reason is not None:
            notice = Notice("BARRIER", reason)
            decision.direct("", DirectiveType.NOTICE, notice)
            continue
        limit_ms = trigger.deadline_ms
        called = IntegrationRequired(trigger.name, TRIGGER_LEVEL, limit_ms)
        decision.derive(EVERYONE, SignalType.INTEGRATION_REQUIRED, ORCHESTRATOR, "", called)
        call(
            session,
            trigger.name,
            trigger.leader,
            rules.barrier_deadline_ms if limit_ms is None else limit_ms,
            decision,
            level=TRIGGER_LEVEL,
        )


def _is_met(trigger: Trigger, tags: list[str], location: str | None) -> bool:
    if any(overlap(pattern, tag) for pattern in trigger.tags for tag in tags):
        return True
    if location is None:
        return False
    place = normalise(location)
    return any(overlap(normalise(path), place) for path in trigger.paths)
