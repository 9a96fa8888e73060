"""Who may speak: incarnations, sequence numbers and ended agents, before any rule is applied."""

from __future__ import annotations

from fabric.core import barriers, lifecycle, liveness
from fabric.core.contradiction import is_ours
from fabric.core.decision import REPEATED, Decision, Outcome, refuse
from fabric.core.directive import DirectiveType, Notice
from fabric.core.limits import RHYTHM_INTERVALS
from fabric.core.record import ENDED, AgentRecord, AgentStatus
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal, SignalType

#: A person or an outside detector may send these without being an agent of the session.
OUTSIDERS = frozenset(
    {
        SignalType.DECIDED,
        SignalType.CONFLICT_DETECTED,
        SignalType.SYNTHESIZED,
        SignalType.REFINED,
    }
)

#: What ends something, or says that it goes on, is let through in any storm.
PARTING = frozenset(
    {
        SignalType.COMPLETED,
        SignalType.FAILED,
        SignalType.HEARTBEAT,
        SignalType.INTEGRATED,
        SignalType.RELEASE,
    }
)


def admit(
    session: SessionState, signal: Signal, rules: Rules, now_ms: int
) -> tuple[AgentRecord | None, Decision | None, Decision | None]:
    """Return the speaking agent, the verdict that ends the matter, and what has happened already.

    A signal without an incarnation speaks for the present one; a STARTED without one begins the
    next when the last has ended. An agent unknown so far is registered by whatever it says first.
    """
    name = signal.emitter
    # An agent may have the synthesizer's name: what the synthesizer says is not that agent's word.
    outside = signal.type in OUTSIDERS and is_ours(signal)
    agent = None if outside else session.agents.get(name)
    if agent is not None and _is_repeated(agent, signal):
        # Before the clock moves: what is not written down must leave no trace in memory either.
        return None, REPEATED, None
    session.tick(now_ms)
    if signal.hops >= rules.hops_max and signal.type not in PARTING:
        return None, _refused(session, *_too_many_hops(signal), told=name), None
    prelude: Decision | None = None
    if agent is None:
        if signal.type in OUTSIDERS:
            session.log += 1
            return None, None, None
        if len(session.agents) >= rules.agents_max:
            count = len(session.agents) + 1
            reason = f"session {session.name} would have {count} agents"
            return (
                None,
                _refused(session, "LIMIT", f"{reason}; the limit is {rules.agents_max}"),
                None,
            )
        agent = AgentRecord(
            AgentStatus.ACTIVE,
            signal.incarnation or 1,
            started_ms=session.clock_ms,
            seen_ms=session.clock_ms,
            stream=signal.stream,
            priority=rules.priorities.get(name, 0),
        )
        session.log += 1
        session.agents.put(name, agent)
        prelude = Decision()
    else:
        refused = _judge(session, agent, signal, rules)
        if refused is not None:
            return None, refused, None
        session.log += 1
        if signal.incarnation > agent.incarnation or _is_restart(agent, signal):
            incarnation = signal.incarnation or agent.incarnation + 1
            prelude = lifecycle.succeed(session, name, agent, incarnation, rules)
        else:
            interval_ms = session.clock_ms - agent.seen_ms
            agent.intervals = [*agent.intervals[1 - RHYTHM_INTERVALS :], interval_ms]
    if prelude is not None:
        liveness.watch(session, name, agent, rules, prelude)
        barriers.join(session, name, agent, prelude)
    _note(session, agent, signal)
    return agent, None, prelude


def _note(session: SessionState, agent: AgentRecord, signal: Signal) -> None:
    """Keep what every signal says of its agent."""
    agent.seen_ms = session.clock_ms
    agent.signals += 1
    if signal.type is not SignalType.HEARTBEAT:
        agent.last_signal = signal.type.value
    if signal.seq:
        agent.seq = signal.seq
    if signal.stream:
        agent.stream = signal.stream


def _judge(
    session: SessionState, agent: AgentRecord, signal: Signal, rules: Rules
) -> Decision | None:
    """Refuse the stale, the late and the hasty."""
    name, incarnation = signal.emitter, signal.incarnation
    if incarnation and incarnation < agent.incarnation:
        return _refused(
            session,
            "STALE_INCARNATION",
            f"{name} speaks as incarnation {incarnation}, "
            f"incarnation {agent.incarnation} has replaced it",
        )
    if incarnation > agent.incarnation or _is_restart(agent, signal):
        kept_out = liveness.refusal(session, name, agent)
        return _refused(session, "BREAKER", kept_out, told=name) if kept_out else None
    if agent.status in ENDED:
        how = "was given up for dead" if agent.status is AgentStatus.DEAD else f"has {agent.status}"
        return _refused(
            session,
            "ENDED",
            f"{name} {how} as incarnation {agent.incarnation}: "
            f"it must send STARTED with a higher incarnation before it speaks again",
        )
    if rules.signals_per_second_max and signal.type not in PARTING:
        return _paced(session, name, agent, rules)
    return None


def _paced(session: SessionState, name: str, agent: AgentRecord, rules: Rules) -> Decision | None:
    """Count the agent's signals of this second; refuse those over its limit."""
    second = session.clock_ms // 1000
    agent.second_signals = agent.second_signals + 1 if agent.second == second else 1
    agent.second = second
    session.agents.put(name, agent)
    if agent.second_signals <= rules.signals_per_second_max:
        return None
    # Said once a second: a storm of signals makes no storm of notices.
    is_first = agent.second_signals == rules.signals_per_second_max + 1
    return _refused(
        session,
        "RATE",
        f"{name} sends more than {rules.signals_per_second_max} signals a second",
        told=name if is_first else "",
    )


def _too_many_hops(signal: Signal) -> tuple[str, str]:
    reason = (
        f"{signal.type} answers a message that came of {signal.hops} messages, each in answer to "
        f"the one before: {signal.emitter} and others go round in a circle"
    )
    return "HOPS", reason


def _is_repeated(agent: AgentRecord, signal: Signal) -> bool:
    """Recognise a retry by incarnation and sequence number."""
    if not signal.seq or signal.seq > agent.seq or _is_restart(agent, signal):
        return False
    return signal.incarnation in (0, agent.incarnation)


def _is_restart(agent: AgentRecord, signal: Signal) -> bool:
    """A hand-made STARTED, with no incarnation, of an agent that has ended."""
    return signal.type is SignalType.STARTED and not signal.incarnation and agent.status in ENDED


def _refused(session: SessionState, code: str, reason: str, told: str = "") -> Decision:
    """A refusal is an event of the session: it takes a log number like any other."""
    session.log += 1
    decision = refuse(code, reason)
    assert decision.outcome is Outcome.REFUSED
    if told in session.agents:
        decision.direct(told, DirectiveType.NOTICE, Notice(code, reason))
    return decision
