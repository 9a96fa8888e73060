"""One signal against one session: the only place where a signal takes effect.

Theory of operation. A signal is first *admitted* (`admission.py`): is it from the agent's present
incarnation, is it new, may the agent still speak? Then the handler of its type, in the table below,
changes the session's records and adds what follows to the event's decision, as data. The same
signals at the same times give the same records, messages and ids, byte for byte: this makes replay
and simulation possible.

Handlers share one signature, `(event, payload) -> None`; each feature has one module. A handler
that refuses the signal raises RefusedError before it changes anything. After it, `step` does what
any signal can require: update the task, let a waiting agent arrive at the barrier, look for
deadlocks, and send the copies that the rules route.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from fabric.core import (
    assignment,
    attention,
    barriers,
    board,
    claims,
    conflicts,
    contradiction,
    deadlock,
    dependencies,
    escalation,
    lifecycle,
    liveness,
    quota,
    roster,
    run,
)
from fabric.core import signal as payloads
from fabric.core.admission import admit, refusal_notice, tell_refusal
from fabric.core.agent_status import update_status, waiting_leader
from fabric.core.directive import Notice
from fabric.core.event import (
    ACCEPTED,
    EVERYONE,
    NO_PEERS,
    NOTHING_READ,
    SILENCE_TIMER,
    Decision,
    Event,
    Outcome,
    Peers,
    Reading,
    RefusedError,
    SignalEvent,
    TimerEvent,
)
from fabric.core.record import ENDED, HELD_UP, EscalationRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal, SignalType

P = TypeVar("P", bound=Struct)
Handler = Callable[[SignalEvent, Any], None]


def _on(
    payload: type[P], handler: Callable[[SignalEvent, P], None]
) -> tuple[type[Struct], Handler]:
    """Return a row of the table; mypy checks that the handler takes this payload."""
    return payload, handler


def _record(event: SignalEvent, payload: payloads.Synthesized) -> None:
    """Accept: the log has it, and nobody needs it yet."""


def _refined(event: SignalEvent, payload: payloads.Refined) -> None:
    """Pass a refiner's result on to the synthesizer."""
    event.give_to_results()


def _to_results(event: SignalEvent, payload: payloads.Renamed | payloads.SameAs) -> None:
    """Pass what is said of keys on to the synthesizer."""
    event.give_to_results()


def _decided(event: SignalEvent, answer: payloads.Decided) -> None:
    """Close the question, tell the agents that wait for the answer, and do what was decided."""
    if contradiction.is_from_synthesizer(event.signal):
        contradiction.close_question(event, answer)
        return
    asked = event.session.escalations.get(answer.escalation)
    is_deadlock = asked is not None and asked.subject == escalation.DEADLOCK
    named = asked.waiting if asked is not None and is_deadlock else []
    asked = escalation.decide(event, answer)
    follow = ANSWERS.get(asked.subject)
    if follow is not None:
        follow(event, asked)
    # The answer need not free everybody: a person is asked again about those still stuck.
    deadlock.check_again(event, named)


#: The table of transitions: each signal type, by its payload, and its handler.
HANDLERS: dict[type[Struct], Handler] = dict(
    (
        _on(payloads.Started, lifecycle.started),
        _on(payloads.Progress, lifecycle.progress),
        _on(payloads.PartialResult, lifecycle.partial_result),
        _on(payloads.Completed, lifecycle.completed),
        _on(payloads.Failed, lifecycle.failed),
        _on(payloads.Heartbeat, lifecycle.heartbeat),
        _on(payloads.Blocked, dependencies.blocked),
        _on(payloads.DependencyResolved, dependencies.resolved),
        _on(payloads.Release, dependencies.released),
        _on(payloads.CheckpointReached, lifecycle.reached),
        _on(payloads.IntegrationRequired, barriers.required),
        _on(payloads.EarlyCompletion, assignment.note_room),
        _on(payloads.ConflictDetected, conflicts.detected),
        _on(payloads.Escalate, escalation.escalate),
        _on(payloads.Intent, conflicts.intent),
        _on(payloads.Integrated, barriers.integrated),
        _on(payloads.Decided, _decided),
        _on(payloads.Synthesized, _record),
        _on(payloads.Refined, _refined),
        _on(payloads.TasksAdded, board.add),
        _on(payloads.TaskDone, board.done),
        _on(payloads.TaskRetry, board.retry),
        _on(payloads.RunClosed, run.close),
        _on(payloads.RunOpened, run.begin),
        _on(payloads.RunPurged, run.purge),
        _on(payloads.AgentsExpected, roster.expected),
        _on(payloads.Renamed, _to_results),
        _on(payloads.SameAs, _to_results),
    )
)

#: With these an agent can begin to wait, or another agent can begin to wait for it.
BEGINNINGS = frozenset(
    {
        SignalType.STARTED,
        SignalType.BLOCKED,
        SignalType.INTENT,
        SignalType.ESCALATE,
        SignalType.CHECKPOINT_REACHED,
        SignalType.INTEGRATION_REQUIRED,
        # It may wait, by another claim, for what it gives back: now behind others.
        SignalType.RELEASE,
        SignalType.DEPENDENCY_RESOLVED,
    }
)
#: These change nobody's waits, unless a new incarnation begins with one.
QUIET = frozenset({SignalType.PROGRESS, SignalType.PARTIAL_RESULT, SignalType.HEARTBEAT})

#: Takes the event and the part of the timer's key after its first colon. Returns False when the
#: timer is moot or was only postponed: then nothing is recorded.
Alarm = Callable[[TimerEvent, str], bool]

#: Timer key, up to its first colon → what happens when it is due.
TIMERS: dict[str, Alarm] = {
    dependencies.TIMER: dependencies.grace_expired,
    barriers.TIMER: barriers.deadline_passed,
    claims.TIMER: claims.hold_expired,
    claims.REST_TIMER: claims.grant_rest,
    SILENCE_TIMER: liveness.check_silence,
    escalation.TIMER: escalation.answer_due,
    liveness.MASS_TIMER: liveness.check_mass_silence,
    deadlock.TIMER: deadlock.check_later,
    assignment.TIMER: assignment.offer_due,
    board.TIMER: liveness.check_task,
    quota.TIMER: quota.expired,
    roster.TIMER: roster.deadline_passed,
    attention.TIMER: attention.check,
    contradiction.TIMER: contradiction.grace_over,
}

#: Subject of a question that the fabric has asked → what follows from its answer.
ANSWERS: dict[str, Callable[[Event, EscalationRecord], None]] = {
    escalation.DEADLOCK: deadlock.give_way,
    escalation.SILENCE: liveness.allow_start,
    escalation.MASS_SILENCE: liveness.apply_mass_answer,
    escalation.WEDGED: liveness.apply_wedged_answer,
    escalation.UNREAD: attention.apply_answer,
    escalation.GROUP: lifecycle.apply_group_answer,
    escalation.BARRIER: barriers.apply_answer,
    escalation.CONTRADICTION: contradiction.send_decision,
    escalation.DIGEST: contradiction.leave,
    escalation.DEPENDENCY: dependencies.apply_answer,
    escalation.TASK: board.apply_answer,
}


def step(session: SessionState, signal: Signal, rules: Rules, now_ms: int) -> Decision:
    """Apply one signal to its session and return what follows.

    `now_ms` is the server time at which the signal entered the ingress, in ms since the epoch.
    An accepted signal gets the next log number; a repeated one changes nothing at all.
    """
    event = SignalEvent(session, rules, ACCEPTED, signal=signal, name=signal.emitter)
    if not admit(event, now_ms):
        return event.decision
    is_accepted = True
    try:
        HANDLERS[type(signal.payload)](event, signal.payload)
    except RefusedError as refused:
        is_accepted = False
        event.refuse(refused.code, refused.reason)
        if not event.is_outsider:
            notice = refusal_notice(signal, refused.code, refused.reason)
            event.direct(event.name, refused.directive or notice)
    if event.waiting:
        _begin_waits(event)
    if not event.is_outsider:
        name, agent = event.name, event.agent
        if agent.task and is_accepted:
            board.update(event)
        if event.signal.task and event.signal.task != agent.task and is_accepted:
            board.tell_other(event)
        session.agents.put(name, agent)
        if agent.capacity:
            session.spare.note(name, agent)
        if agent.status in HELD_UP:
            barriers.arrive_waiting(event, name)
            if signal.type in BEGINNINGS:
                deadlock.check(event, name)
    if rules.routes and is_accepted:
        _along_routes(event)
    is_quiet = signal.type in QUIET and not event.is_beginning
    if (session.barriers.records or session.deadlocks) and not is_quiet:
        _look_over(event)
    assignment.offer(event)
    if rules.unread_ms_max and event.decision.messages:
        attention.note(event)
    if event.is_beginning:
        # The synthesizer learns whom to expect from an agent's first signal, of whatever type.
        event.give_to_results()
    return event.decision


def fire(
    session: SessionState,
    timer: str,
    rules: Rules,
    now_ms: int,
    peers: Peers = NO_PEERS,
    reading: Reading = NOTHING_READ,
) -> Decision | None:
    """Apply a timer that is due; None when it has become moot, and nothing is to be recorded.

    `timer` is the key under which a decision set it; `peers` counts agents of other sessions, if
    `liveness.peers_needed` says that the timer needs them; `reading` is how far the agent has read
    that `attention.reader` names. A timer that takes effect is an event of
    the session like a signal, with a log number of its own. A decision that is POSTPONED only sets
    the timer again: it is no event.
    """
    kind, _, subject = timer.partition(":")
    alarm = TIMERS.get(kind)
    if alarm is None or session.closed_ms:
        return None
    before = session.clock_ms, session.opened_ms
    session.tick(now_ms)
    # Before the alarm: the records that it changes may name the event, as after a signal.
    session.log += 1
    event = TimerEvent(session, rules, ACCEPTED, peers=peers, reading=reading)
    if not alarm(event, subject):
        session.log -= 1
        # Nothing is written, so nothing may have changed in memory either.
        session.clock_ms, session.opened_ms = before
        return event.decision if event.decision.outcome is Outcome.POSTPONED else None
    if kind == claims.TIMER:
        # As when the agent gives the resource back itself.
        deadlock.check(event, subject.partition(":")[2])
    if session.barriers.records or session.deadlocks:
        _look_over(event)
    assignment.offer(event)
    if rules.unread_ms_max and event.decision.messages:
        attention.note(event)
    return event.decision


def skip(session: SessionState, outage_ms: int, end_ms: int, rules: Rules) -> Decision | None:
    """Move all timers of a session by an outage; None, and no event, if no agent is alive.

    An outage is the time in which no signal could be decided: nobody served the partition, or the
    server took no writes, for longer than a lease. It is no agent's silence. `outage_ms` is its
    length, `end_ms` the server time of its end. It is an event of the session with a log number of
    its own, so that replay moves the same timers.
    """
    is_over = all(agent.status in ENDED for agent in session.agents.records.values())
    if is_over and not session.awaited():
        return None
    since_ms = session.clock_ms
    session.tick(end_ms)
    session.log += 1
    event = Event(session, rules, ACCEPTED)
    liveness.excuse(session, outage_ms)
    barriers.move_deadlines(event, outage_ms, since_ms)
    claims.move_expiries(event, outage_ms)
    dependencies.move_graces(event, outage_ms, since_ms)
    escalation.move_deadlines(event, outage_ms, since_ms)
    contradiction.move_grace(event, outage_ms, since_ms)
    board.move_limits(event, outage_ms)
    roster.move_deadlines(event, outage_ms, since_ms)
    return event.decision


def turn_away(
    session: SessionState, name: str, code: str, reason: str, now_ms: int, rules: Rules
) -> Decision | None:
    """Tell an agent that an entry in its name is no signal; None, and no event, if it is not told.

    An agent that was told of a refusal just now is not told again, nor is one that is unknown.
    """
    event = Event(session, rules, ACCEPTED)
    before = session.clock_ms, session.opened_ms
    session.tick(now_ms)
    tell_refusal(event, name, Notice(code, reason))
    if not event.decision.messages:
        session.clock_ms, session.opened_ms = before
        return None
    session.log += 1
    return event.decision


def _begin_waits(event: SignalEvent) -> None:
    """Handle the waits of other agents that this signal has begun, as if each had said so."""
    session = event.session
    for name in event.waiting:
        update_status(session, name)
        barriers.arrive_waiting(event, name)
    deadlock.check_all(event, event.waiting)


def _look_over(event: Event) -> None:
    """Look for what any event can cause: a leader that needs an agent it holds, or a cycle gone."""
    leader = waiting_leader(event.session)
    if leader is not None:
        deadlock.check(event, leader)
    deadlock.close_gone(event)


def _along_routes(event: SignalEvent) -> None:
    """Send a copy to the agents that the rule file names for this type of signal."""
    told = {message.to for message in event.decision.messages if message.forwarded}
    for name in event.rules.routes.get(event.signal.type, ()):
        if told.isdisjoint((EVERYONE, name)) and name != event.name:
            event.forward(name)
