"""Who may speak: incarnations, sequence numbers and ended agents, before any rule is applied."""

from __future__ import annotations

from fabric.core.decision import REPEATED, Decision, Outcome, refuse
from fabric.core.dependencies import withdraw_all
from fabric.core.rules import Rules
from fabric.core.session import ENDED, Agent, AgentStatus, Session
from fabric.core.signal import Signal, SignalType

#: A person or an outside detector may send these without being an agent of the session.
OUTSIDERS = frozenset({SignalType.DECIDED, SignalType.CONFLICT_DETECTED})


def admit(
    session: Session, signal: Signal, rules: Rules, now_ms: int
) -> tuple[Agent | None, Decision | None]:
    """Return the speaking agent, or the decision that ends the matter.

    A signal without an incarnation speaks for the present one; a STARTED without one begins the
    next when the last has ended. An agent unknown so far is registered by whatever it says first.
    """
    agent = session.agents.get(signal.emitter)
    if agent is not None and _is_repeated(agent, signal):
        # Before the clock moves: what is not written down must leave no trace in memory either.
        return None, REPEATED
    session.tick(now_ms)
    if agent is None:
        if signal.type in OUTSIDERS:
            session.log += 1
            return None, None
        if len(session.agents) >= rules.agents_max:
            return None, _refused(
                session,
                "LIMIT",
                f"session {session.name} would have {len(session.agents) + 1} agents; "
                f"the limit is {rules.agents_max}",
            )
        agent = Agent(
            AgentStatus.ACTIVE,
            signal.incarnation or 1,
            started_ms=session.clock_ms,
            stream=signal.stream,
        )
    else:
        verdict = _judge(session, agent, signal)
        if verdict is not None:
            return None, verdict
    session.log += 1
    agent.seen_ms = session.clock_ms
    agent.signals += 1
    if signal.type is not SignalType.HEARTBEAT:
        agent.last_signal = signal.type.value
    if signal.seq:
        agent.seq = signal.seq
    if signal.stream:
        agent.stream = signal.stream
    return agent, None


def _judge(session: Session, agent: Agent, signal: Signal) -> Decision | None:
    """Refuse the stale and the late; let a successor take its place."""
    incarnation = signal.incarnation
    if incarnation and incarnation < agent.incarnation:
        return _refused(
            session,
            "STALE_INCARNATION",
            f"{signal.emitter} speaks as incarnation {incarnation}, "
            f"incarnation {agent.incarnation} has replaced it",
        )
    if incarnation > agent.incarnation or _is_restart(agent, signal):
        _succeed(session, signal.emitter, agent, incarnation or agent.incarnation + 1)
        return None
    if agent.status in ENDED:
        return _refused(
            session,
            "ENDED",
            f"{signal.emitter} has {agent.status.value} as incarnation {agent.incarnation}: "
            f"it must send STARTED with a higher incarnation before it speaks again",
        )
    return None


def _is_repeated(agent: Agent, signal: Signal) -> bool:
    """Recognise a retry by incarnation and sequence number."""
    if not signal.seq or signal.seq > agent.seq or _is_restart(agent, signal):
        return False
    return signal.incarnation in (0, agent.incarnation)


def _is_restart(agent: Agent, signal: Signal) -> bool:
    """A hand-made STARTED, with no incarnation, of an agent that has ended."""
    return signal.type is SignalType.STARTED and not signal.incarnation and agent.status in ENDED


def _succeed(session: Session, name: str, agent: Agent, incarnation: int) -> None:
    """Begin a new incarnation: it waits for nothing, and its numbers start again."""
    withdraw_all(session, name, agent)
    agent.status = AgentStatus.ACTIVE
    agent.incarnation = incarnation
    agent.started_ms = session.clock_ms
    agent.seq = 0
    agent.percent = None
    agent.eta_ms = None
    agent.checkpoint = agent.next_checkpoint = agent.error = ""


def _refused(session: Session, code: str, reason: str) -> Decision:
    """A refusal is an event of the session: it takes a log number like any other."""
    session.log += 1
    decision = refuse(code, reason)
    assert decision.outcome is Outcome.REFUSED
    return decision
