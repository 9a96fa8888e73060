"""All agents meet before an integration goes on.

Members are a set, not a counter: the agents at work when the barrier begins, and those that are
expected and have not come (`roster.py`). A name can be called again; each generation has members of
its own, so an arrival for an earlier one changes nothing.

    event                          gathering                      integrating
    CHECKPOINT_REACHED             the member has arrived         reported: it was to pause
    a member begins to wait        it has arrived                 -
    a member ends, or is dead      it leaves                      it leaves
    a member is given up, absent   it leaves                      -
    an expected member starts      it is told                     -
    an agent starts                it is held                     it is held
    all have arrived               PROCEED to the leader          -
    INTEGRATED by the leader       refused                        RESUME to all; the next barrier
    the leader ends                called off                     over, as if it had integrated
    the deadline                   the missing named; policy      -

One barrier is in force at a time; others queue in the order of their calls. The rule file can call
a barrier too (`trigger`): when an output is resolved, by its id or its location, or when a task is
completed. Such a barrier without a leader is over as soon as all have arrived.
"""

from __future__ import annotations

from fabric.core import claims, divergence
from fabric.core.agent_status import in_force, is_waiting, missing, update_status
from fabric.core.directive import Cancel, Notice, Pause, Proceed, Resume
from fabric.core.escalation import BARRIER, ask, close_own, new_question, settle
from fabric.core.event import EVERYONE, Event, RefusedError, SignalEvent
from fabric.core.limits import (
    AGENT_BARRIERS_MAX,
    FIELD_BYTES_MAX,
    SESSION_BARRIERS_MAX,
    SIGNAL_STEPS_MAX,
    listed,
)
from fabric.core.policy import BarrierPolicy
from fabric.core.record import ENDED, AgentStatus, BarrierRecord, BarrierState, EscalationRecord
from fabric.core.resource import CostlyError, Meter, matches, overlap
from fabric.core.resource_name import normalise
from fabric.core.rule_table import Trigger
from fabric.core.session import SessionState, is_reserved, reserved
from fabric.core.signal import CheckpointReached, Integrated, IntegrationRequired

#: The deadline's timer is `barrier:<generation>:<name>`.
TIMER = "barrier"

#: Name of a barrier whose call gives none.
UNNAMED = "integration"

#: The level of integration at which all agents meet.
TRIGGER_LEVEL = 3


def required(event: SignalEvent, payload: IntegrationRequired) -> None:
    """INTEGRATION_REQUIRED: its emitter leads; all active agents run to their next checkpoint."""
    name = payload.name or UNNAMED
    fault = _fault(event.session, name, event.name)
    if fault:
        raise RefusedError("BARRIER", fault, Cancel(fault, "BARRIER", barrier=name))
    event.forward(EVERYONE)
    _call(event, name, event.name, payload.deadline_ms, payload.level)


def integrated(event: SignalEvent, payload: Integrated) -> None:
    """INTEGRATED: the leader is done, and all go on; or it calls the barrier off, at any stage."""
    session, name = event.session, payload.name or ""
    queued = None if payload.ok else session.barriers.get(name)
    if queued is not None and (queued.state, queued.leader) == (BarrierState.QUEUED, event.name):
        queued.state = BarrierState.OVER
        session.barriers.put(name, queued)
        update_status(session, event.name)
        return
    called, barrier = in_force(session)
    if barrier is None or name not in ("", called):
        reason = f"barrier {name} is not in force" if name else "no barrier is in force"
        raise RefusedError("BARRIER", reason)
    if barrier.leader != event.name:
        reason = f"{barrier.leader or 'no agent'} leads {called}, not {event.name}"
        raise RefusedError("BARRIER", reason)
    if not payload.ok:
        _end(event, called, barrier, f"{barrier.leader} has called it off")
        return
    if barrier.state is BarrierState.GATHERING:
        reason = f"these have not arrived at {called}: {listed(missing(barrier))}"
        raise RefusedError("BARRIER", reason)
    divergence.settle(event)
    _end(event, called, barrier, "integrated")


def trigger(event: Event, tags: list[str], location: str | None) -> None:
    """Call the barriers that the rule file wants at these ids or tasks, or at this location."""
    if not event.rules.triggers:
        return
    meter = Meter()
    meter.steps_max = SIGNAL_STEPS_MAX
    if len(location or "") > FIELD_BYTES_MAX:
        location = None  # no path is that long
    for one in event.rules.triggers:
        if not is_met(one, tags, location, meter):
            continue
        fault = _fault(event.session, one.name, one.leader)
        if fault:
            event.direct("", Notice("BARRIER", fault))
            continue
        event.derive(EVERYONE, IntegrationRequired(one.name, TRIGGER_LEVEL, one.deadline_ms))
        _call(event, one.name, one.leader, one.deadline_ms, TRIGGER_LEVEL)


def arrive_at_checkpoint(event: SignalEvent, payload: CheckpointReached) -> None:
    """CHECKPOINT_REACHED: the place where a barrier takes hold of an agent."""
    called, barrier = in_force(event.session)
    if barrier is None or payload.barrier not in (None, called):
        return
    if payload.generation not in (None, barrier.generation):
        return
    if barrier.state is BarrierState.GATHERING and event.name in barrier.members:
        _arrive(event, event.name, called, barrier)
    elif barrier.state is BarrierState.INTEGRATING:
        # Nobody waited for this agent, but it may not go on while the leader integrates.
        join(event, event.name)


def arrive_waiting(event: Event, name: str) -> None:
    """Count an agent that has begun to wait for something as arrived."""
    called, barrier = in_force(event.session)
    if barrier is None or event.session.agents.records[name].status is not AgentStatus.BLOCKED:
        return
    if barrier.state is BarrierState.GATHERING and name in barrier.members:
        _arrive(event, name, called, barrier)


def join(event: SignalEvent, name: str) -> None:
    """Hold an agent that starts while a barrier is in force."""
    called, barrier = in_force(event.session)
    if barrier is None:
        return
    if name == barrier.leader:
        update_status(event.session, name)
        return
    if name in barrier.held:
        return
    if name in barrier.members:
        if event.is_beginning:  # it was expected when the barrier began, and could not be told
            event.direct(name, _call_to(called, barrier))
        return
    barrier.held = [*barrier.held, name]
    event.session.barriers.put(called, barrier)
    update_status(event.session, name)
    event.direct(name, Pause("integration", barrier=called, generation=barrier.generation))


def leave(event: Event, name: str, *, is_failure: bool) -> None:
    """Take an agent out of all barriers: it has ended, or starts again as another incarnation."""
    session = event.session
    for queued, other in session.barriers.records.items():
        if other.state is BarrierState.QUEUED and other.leader == name:
            other.state = BarrierState.OVER
            session.barriers.put(queued, other)
    called, barrier = in_force(session)
    if barrier is None:
        return
    if name == barrier.leader:
        how = "has failed" if is_failure else "has ended"
        _end(event, called, barrier, f"the leader {name} {how}")
        return
    if name not in barrier.members and name not in barrier.held:
        return
    barrier.members = [member for member in barrier.members if member != name]
    barrier.held = [other for other in barrier.held if other != name]
    barrier.arrived.pop(name, None)
    session.barriers.put(called, barrier)
    _open_if_complete(event, called, barrier)


def move_deadlines(event: Event, outage_ms: int, since_ms: int) -> None:
    """Move the deadlines that had not passed when an outage began, at `since_ms`, by its length."""
    for name, barrier in event.session.barriers.records.items():
        if barrier.state is BarrierState.GATHERING and barrier.deadline_ms > since_ms:
            barrier.deadline_ms += outage_ms
            event.session.barriers.put(name, barrier)
            event.set_timer(f"{TIMER}:{barrier.generation}:{name}", barrier.deadline_ms)


def deadline_passed(event: Event, subject: str) -> bool:
    """At the deadline, name the missing and apply the policy; moot if over, or called anew."""
    session, policy = event.session, event.rules.barrier_policy
    generation, _, name = subject.partition(":")
    barrier = session.barriers.get(name)
    if (
        barrier is None
        or barrier.state is not BarrierState.GATHERING
        or str(barrier.generation) != generation
    ):
        return False
    if barrier.deadline_ms > session.clock_ms:  # an outage has moved it
        return event.postpone(f"{TIMER}:{subject}", barrier.deadline_ms)
    text = f"The deadline of barrier {name} has passed without {listed(missing(barrier))}."
    leader = [barrier.leader] if barrier.leader in session.agents else []
    question = new_question(session, BARRIER, text, [], about=name, waiting=leader)
    if policy is BarrierPolicy.WAIT:
        question.question += " Wait for them, release the others, or call the barrier off?"
        question.options = [one.value for one in BarrierPolicy]
        barrier.question = ask(event, question, told=question.waiting)
        session.barriers.put(name, barrier)
        return True
    goes_on = policy is BarrierPolicy.RELEASE
    question.question += " It goes on without them." if goes_on else " It is called off."
    settle(session, question, policy.value, "the rules")
    told, question.waiting = question.waiting, []
    ask(event, question, told=told)
    _apply_policy(event, name, barrier, policy, text)
    return True


def apply_answer(event: Event, asked: EscalationRecord) -> None:
    """Go on without the missing, or call the barrier off, as a person has decided."""
    barrier = event.session.barriers.get(asked.about)
    if barrier is not None and barrier.state is BarrierState.GATHERING:
        reason = f"{asked.by} has called it off"
        _apply_policy(event, asked.about, barrier, asked.decision, reason)


def is_met(one: Trigger, tags: list[str], location: str | None, meter: Meter) -> bool:
    """Whether a trigger is pulled; not when that would be too much work to tell."""
    try:
        if any(matches(pattern, tag, meter) for pattern in one.tags for tag in tags):
            return True
        if location is None:
            return False
        place = normalise(location)
        return any(overlap(normalise(path), place, meter) for path in one.paths)
    except CostlyError:
        return False


def _fault(session: SessionState, name: str, leader: str) -> str:
    """Say why a barrier cannot be called now; "" when it can."""
    known, most = session.barriers.get(name), SESSION_BARRIERS_MAX
    if known is not None and known.state is not BarrierState.OVER:
        return f"{known.leader or 'the rule file'} has already called {name}; it is {known.state}"
    if known is None and leader and session.barriers.owned[leader] >= AGENT_BARRIERS_MAX:
        return (
            f"{leader} has called {AGENT_BARRIERS_MAX} barriers, the most allowed: use a name again"
        )
    total = len(session.barriers) + 1
    if known is None and is_reserved(session.barriers.owned[leader] + 1, total, most):
        _forget_oldest(session)
        total = len(session.barriers) + 1
        if is_reserved(session.barriers.owned[leader] + 1, total, most):
            return f"{leader} has called many barriers, and {reserved(most)}"
    if known is None and total > most and not _forget_oldest(session):
        return f"session {session.name} has {SESSION_BARRIERS_MAX} barriers, the most allowed"
    return ""


def _forget_oldest(session: SessionState) -> bool:
    """Let the barriers go that have been over for longest; False when none is over."""
    known = session.barriers.records
    over = [name for name, barrier in known.items() if barrier.state is BarrierState.OVER]
    over.sort(key=lambda name: (known[name].called, name))
    for name in over[: SESSION_BARRIERS_MAX // 10]:
        session.barriers.drop(name)
    return bool(over)


def _call(event: Event, name: str, leader: str, deadline_ms: int | None, level: int | None) -> None:
    """Begin a barrier, or queue it behind the one in force."""
    session = event.session
    known = session.barriers.get(name)
    barrier = BarrierRecord(
        BarrierState.QUEUED,
        known.generation + 1 if known is not None else 1,
        leader,
        called_ms=session.clock_ms,
        called=session.log,
        level=level,
        limit_ms=event.rules.barrier_deadline_ms if deadline_ms is None else deadline_ms,
    )
    session.barriers.put(name, barrier)
    called, current = in_force(session)
    if current is None:
        _begin(event, name, barrier)
        return
    if leader in current.members:
        # An agent that waits for its turn to lead has reached a safe point.
        _arrive(event, leader, called, current)
    update_status(session, leader)
    if leader in session.agents:
        event.direct(leader, Notice("QUEUED", f"{name} begins when {called} is over"))


def _begin(event: Event, name: str, barrier: BarrierRecord) -> None:
    session = event.session
    barrier.state = BarrierState.GATHERING
    others = session.barriers.records.values()
    leads_later = {other.leader for other in others if other.state is BarrierState.QUEUED}
    for member in sorted({*session.agents.records, *session.awaited()}):
        agent = session.agents.get(member)
        if member == barrier.leader or (agent is not None and agent.status in ENDED):
            continue
        barrier.members.append(member)
        if member in leads_later or (agent is not None and is_waiting(session, agent)):
            barrier.arrived[member] = session.clock_ms
    if barrier.limit_ms:
        barrier.deadline_ms = session.clock_ms + barrier.limit_ms
        event.set_timer(f"{TIMER}:{barrier.generation}:{name}", barrier.deadline_ms)
    session.barriers.put(name, barrier)
    event.direct(EVERYONE, _call_to(name, barrier))
    update_status(session, barrier.leader)
    _open_if_complete(event, name, barrier)


def _call_to(name: str, barrier: BarrierRecord) -> Pause:
    """Return the directive that calls its members to a barrier."""
    due_ms = barrier.deadline_ms or None
    return Pause("integration", [], name, barrier.generation, barrier.members, due_ms)


def _arrive(event: Event, member: str, name: str, barrier: BarrierRecord) -> None:
    if member in barrier.arrived:
        return
    barrier.arrived[member] = event.session.clock_ms
    event.session.barriers.put(name, barrier)
    update_status(event.session, member)
    _open_if_complete(event, name, barrier)


def _open_if_complete(event: Event, name: str, barrier: BarrierRecord) -> None:
    """Let the leader integrate when all have arrived."""
    if barrier.state is not BarrierState.GATHERING or len(barrier.arrived) < len(barrier.members):
        return
    session = event.session
    barrier.state = BarrierState.INTEGRATING
    _close_question(event, barrier, "all have arrived")
    session.barriers.put(name, barrier)
    leader = session.agents.get(barrier.leader)
    if leader is None or leader.status in ENDED:
        _end(event, name, barrier, "all have arrived")
        return
    update_status(session, barrier.leader)
    event.direct(barrier.leader, Proceed([], barrier=name))


def _end(event: Event, name: str, barrier: BarrierRecord, reason: str) -> None:
    """End a barrier: all go on, and the next one in the queue begins."""
    session = event.session
    if barrier.deadline_ms:
        event.set_timer(f"{TIMER}:{barrier.generation}:{name}", None)
    was_integrating = barrier.state is BarrierState.INTEGRATING
    barrier.state = BarrierState.OVER
    _close_question(event, barrier, "the barrier is over")
    session.barriers.put(name, barrier)
    event.direct(EVERYONE, Resume(reason, barrier=name))
    for member in [*barrier.arrived, *barrier.held, barrier.leader]:
        update_status(session, member)
    if was_integrating:
        claims.grant_rest(event)
    known = session.barriers.records
    queued = [other for other in known if known[other].state is BarrierState.QUEUED]
    if queued:
        following = min(queued, key=lambda other: (known[other].called, other))
        _begin(event, following, known[following])


def _apply_policy(
    event: Event, name: str, barrier: BarrierRecord, policy: str, reason: str
) -> None:
    """Go on without the missing; or call the barrier off, and tell its leader the reason."""
    if policy == BarrierPolicy.RELEASE:
        barrier.members = list(barrier.arrived)
        event.session.barriers.put(name, barrier)
        _open_if_complete(event, name, barrier)
    elif policy == BarrierPolicy.FAIL:
        if barrier.leader in event.session.agents:
            event.direct(barrier.leader, Cancel(reason, "BARRIER", barrier=name))
        _end(event, name, barrier, reason)


def _close_question(event: Event, barrier: BarrierRecord, answer: str) -> None:
    """Close this barrier's open question, if there is one."""
    close_own(event, barrier.question, answer)
    barrier.question = ""
