"""One signal against one session: the only place where a signal takes effect.

Theory of operation. A signal is first *admitted* (`admission.py`): is it of the agent's present
incarnation, is it new, may it still speak? Then the handler of its type, in the table below,
changes the session's records and returns what follows, as data. The same signals at the same times
give the same records, messages and ids, byte for byte: that makes replay and simulation possible.

Handlers share one signature, `(session, agent, signal, rules) -> Decision`, and one file a concern.
"""

from __future__ import annotations

from collections.abc import Callable

from fabric.core import (
    barriers,
    claims,
    conflicts,
    deadlock,
    dependencies,
    escalation,
    lifecycle,
    liveness,
    task,
    verdict,
)
from fabric.core.admission import admit
from fabric.core.agent_status import waiting_leader
from fabric.core.decision import ACCEPTED, ACCEPTED_TO_RESULTS, EVERYONE, Decision, Outcome
from fabric.core.directive import DirectiveType, Notice
from fabric.core.record import HELD_UP, AgentRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal, SignalType

Handler = Callable[[SessionState, AgentRecord | None, Signal, Rules], Decision]


def _record(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Accept: the log has it, nobody else needs it yet."""
    return ACCEPTED


def _refined(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Hand what a refiner has made to the synthesizer."""
    return ACCEPTED_TO_RESULTS


#: The table of transitions: who handles what (design, section 5).
HANDLERS: dict[SignalType, Handler] = {
    SignalType.STARTED: lifecycle.started,
    SignalType.PROGRESS: lifecycle.progress,
    SignalType.PARTIAL_RESULT: lifecycle.partial_result,
    SignalType.COMPLETED: lifecycle.completed,
    SignalType.FAILED: lifecycle.failed,
    SignalType.HEARTBEAT: _record,
    SignalType.BLOCKED: dependencies.blocked,
    SignalType.DEPENDENCY_RESOLVED: dependencies.resolved,
    SignalType.RELEASE: dependencies.released,
    SignalType.CHECKPOINT_REACHED: lifecycle.reached,
    SignalType.INTEGRATION_REQUIRED: barriers.required,
    SignalType.EARLY_COMPLETION: task.early,
    SignalType.CONFLICT_DETECTED: conflicts.detected,
    SignalType.ESCALATE: escalation.escalate,
    SignalType.INTENT: conflicts.intent,
    SignalType.INTEGRATED: barriers.integrated,
    SignalType.DECIDED: verdict.decided,
    SignalType.SYNTHESIZED: _record,
    SignalType.REFINED: _refined,
}

#: By these an agent can begin to wait, or somebody else can begin to wait on it.
BEGINNINGS = frozenset(
    {
        SignalType.STARTED,
        SignalType.BLOCKED,
        SignalType.INTENT,
        SignalType.ESCALATE,
        SignalType.CHECKPOINT_REACHED,
        SignalType.INTEGRATION_REQUIRED,
        # What it gives back it may be waiting for by another claim, now behind others.
        SignalType.RELEASE,
        SignalType.DEPENDENCY_RESOLVED,
    }
)
#: These change nobody's waits, unless a new incarnation begins with one.
QUIET = frozenset({SignalType.PROGRESS, SignalType.PARTIAL_RESULT, SignalType.HEARTBEAT})

Alarm = Callable[[SessionState, str, Rules], Decision | None]

#: Timer key, up to its first colon → what happens when it is due.
TIMERS: dict[str, Alarm] = {
    dependencies.TIMER: dependencies.grace_over,
    barriers.TIMER: barriers.deadline_passed,
    claims.TIMER: claims.hold_over,
    liveness.TIMER: liveness.looked_at,
}


def step(session: SessionState, signal: Signal, rules: Rules, now_ms: int) -> Decision:
    """Apply one signal to its session and return what follows.

    `now_ms` is the server time at which the signal entered the ingress, in ms since the epoch.
    An accepted signal gets the next log number; a repeated one changes nothing at all.
    """
    agent, verdict, prelude = admit(session, signal, rules, now_ms)
    if verdict is not None:
        return verdict
    session.said = len(prelude.messages) if prelude is not None else 0
    decision = HANDLERS[signal.type](session, agent, signal, rules)
    if agent is not None:
        if decision.outcome is Outcome.REFUSED and not decision.messages:
            notice = Notice(decision.code, decision.reason)
            decision.direct(signal.emitter, DirectiveType.NOTICE, notice)
        if agent.task and decision.outcome is Outcome.ACCEPTED:
            task.follow(session, agent, signal)
        session.agents.put(signal.emitter, agent)
        if agent.status in HELD_UP:
            decision = decision.own()
            barriers.rest(session, signal.emitter, agent, decision)
            if signal.type in BEGINNINGS:
                deadlock.look(session, signal.emitter, rules, decision)
    if rules.routes and decision.outcome is Outcome.ACCEPTED:
        decision = _along_routes(signal, rules, decision)
    is_quiet = signal.type in QUIET and prelude is None
    if (session.barriers.records or session.deadlocks) and not is_quiet:
        decision = decision.own()
        _look_over(session, rules, decision)
    session.said = 0
    if prelude is None:
        return decision
    decision = prelude.then(decision)
    # The synthesizer knows whom to expect: whoever begins, by whatever word.
    decision.to_results = True
    return decision


def _look_over(session: SessionState, rules: Rules, decision: Decision) -> None:
    """What any event can bring about: a leader that needs whom it holds, a cycle come apart."""
    leader = waiting_leader(session)
    if leader is not None:
        deadlock.look(session, leader, rules, decision)
    deadlock.settle(session, rules, decision)


def fire(session: SessionState, timer: str, rules: Rules, now_ms: int) -> Decision | None:
    """Apply a timer that is due; None when it has become moot, and nothing is to be recorded.

    A decision that is POSTPONED only sets the timer again: it is no event.
    `timer` is the key under which a decision set it. A timer that takes effect is an event of the
    session like a signal, with a log number of its own.
    """
    kind, _, subject = timer.partition(":")
    alarm = TIMERS.get(kind)
    if alarm is None:
        return None
    before = session.clock_ms, session.opened_ms
    session.tick(now_ms)
    # Before the rules are asked: what they keep may name the event, as after a signal.
    session.log += 1
    decision = alarm(session, subject, rules)
    if decision is None or decision.outcome is Outcome.POSTPONED:
        session.log -= 1
        # Nothing is written down, so nothing may have changed in memory either.
        session.clock_ms, session.opened_ms = before
        return decision
    if kind == claims.TIMER:
        # As when it gives back by its own word.
        deadlock.look(session, subject.partition(":")[2], rules, decision)
    if session.barriers.records or session.deadlocks:
        _look_over(session, rules, decision)
    return decision


def _along_routes(signal: Signal, rules: Rules, decision: Decision) -> Decision:
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
