"""One signal against one session: the only place where a signal takes effect.

Theory of operation. A signal is first *admitted* (`admission.py`): is it of the agent's present
incarnation, is it new, may it still speak? Then the handler of its type, in the table below,
changes the session's records and returns what follows, as data. The same signals at the same times
give the same records, messages and ids, byte for byte: that makes replay and simulation possible.

Handlers share one signature, `(session, agent, signal, rules) -> Decision`, and one file a concern.
"""

from __future__ import annotations

from collections.abc import Callable

from fabric.core import dependencies, forwarding, lifecycle, task, undeclared
from fabric.core.admission import admit
from fabric.core.decision import Decision, Outcome
from fabric.core.rules import Rules
from fabric.core.session import Agent, Session
from fabric.core.signal import Signal, SignalType

Handler = Callable[[Session, Agent | None, Signal, Rules], Decision]

#: The table of transitions: who handles what (design, section 5).
HANDLERS: dict[SignalType, Handler] = {
    SignalType.STARTED: lifecycle.started,
    SignalType.PROGRESS: lifecycle.progress,
    SignalType.PARTIAL_RESULT: lifecycle.partial_result,
    SignalType.COMPLETED: lifecycle.completed,
    SignalType.FAILED: lifecycle.failed,
    SignalType.HEARTBEAT: forwarding.record,
    SignalType.BLOCKED: dependencies.blocked,
    SignalType.DEPENDENCY_RESOLVED: dependencies.resolved,
    SignalType.RELEASE: dependencies.withdrawn,
    SignalType.CHECKPOINT_REACHED: forwarding.checkpoint_reached,
    SignalType.INTEGRATION_REQUIRED: forwarding.to_everyone,
    SignalType.EARLY_COMPLETION: forwarding.record,
    SignalType.CONFLICT_DETECTED: forwarding.record,
    SignalType.ESCALATE: forwarding.record,
    SignalType.INTENT: forwarding.record,
    SignalType.INTEGRATED: forwarding.record,
    SignalType.DECIDED: forwarding.record,
}

Alarm = Callable[[Session, str, Rules], Decision | None]

#: Timer key, up to its first colon → what happens when it is due.
TIMERS: dict[str, Alarm] = {
    undeclared.TIMER: undeclared.grace_over,
}


def step(session: Session, signal: Signal, rules: Rules, now_ms: int) -> Decision:
    """Apply one signal to its session and return what follows.

    `now_ms` is the server time at which the signal entered the ingress, in ms since the epoch.
    An accepted signal gets the next log number; a repeated one changes nothing at all.
    """
    agent, verdict = admit(session, signal, rules, now_ms)
    if verdict is not None:
        return verdict
    decision = HANDLERS[signal.type](session, agent, signal, rules)
    if agent is not None:
        if agent.task and decision.outcome is Outcome.ACCEPTED:
            task.follow(session, agent, signal)
        session.agents.put(signal.emitter, agent)
    return decision


def fire(session: Session, timer: str, rules: Rules, now_ms: int) -> Decision | None:
    """Apply a timer that is due; None when it has become moot, and nothing is to be recorded.

    `timer` is the key under which a decision set it. A timer that takes effect is an event of the
    session like a signal, with a log number of its own.
    """
    kind, _, subject = timer.partition(":")
    alarm = TIMERS.get(kind)
    if alarm is None:
        return None
    before = session.clock_ms, session.opened_ms
    session.tick(now_ms)
    decision = alarm(session, subject, rules)
    if decision is None:
        # Nothing is written down, so nothing may have changed in memory either.
        session.clock_ms, session.opened_ms = before
        return None
    session.log += 1
    return decision
