"""What follows when a person has decided (DECIDED), by the subject of the question."""

from __future__ import annotations

from collections.abc import Callable

from fabric.core import (
    barriers,
    claims,
    contradiction,
    deadlock,
    dependencies,
    escalation,
    group,
    liveness,
)
from fabric.core.agent_status import restate
from fabric.core.decision import Decision
from fabric.core.directive import Cancel, DirectiveType
from fabric.core.record import AgentRecord, BarrierState, EscalationRecord
from fabric.core.rules import BarrierPolicy, Rules
from fabric.core.session import SessionState
from fabric.core.signal import Decided, Signal

Follow = Callable[[SessionState, EscalationRecord, Rules, Decision], None]


def decided(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Close the question, tell who waits for the answer, and do what was decided."""
    assert isinstance(signal.payload, Decided)
    if contradiction.is_ours(signal):
        return contradiction.settled(session, signal)
    known = session.escalations.get(signal.payload.escalation)
    named = known.waiting if known is not None and known.subject == escalation.DEADLOCK else []
    asked, decision = escalation.decided(session, signal)
    follow = FOLLOWS.get(asked.subject) if asked is not None else None
    if asked is not None and follow is not None:
        follow(session, asked, rules, decision)
    # The answer need not free everybody: who is still stuck is asked about again.
    deadlock.look_again(session, named, rules, decision)
    return decision


def give_way(
    session: SessionState, asked: EscalationRecord, rules: Rules, decision: Decision
) -> None:
    """Of a deadlock: end the wait of the member that was chosen."""
    for name, kind, on in asked.cycle:
        agent = session.agents.get(name)
        if name != asked.decision or agent is None:
            continue
        reason = f"{asked.by} has decided that {name} gives way"
        if kind == deadlock.DEPENDENCY:
            dependencies.withdraw(session, name, agent, [on])
            told = Cancel(reason, "DEADLOCK", dependency=on)
        elif kind == deadlock.QUESTION:
            escalation.withdraw(session, name, agent, [on])
            told = Cancel(reason, "DEADLOCK", escalation=on)
        elif kind == deadlock.BARRIER:
            told = Cancel(reason, "DEADLOCK", barrier=on)
            barriers.leave(session, name, decision, is_failure=False)
        else:
            told = Cancel(
                reason, "DEADLOCK", resources=_take_back(session, agent, on, rules, decision)
            )
        restate(session, name, agent)
        session.agents.put(name, agent)
        decision.direct(name, DirectiveType.CANCEL, told)


def let_start(
    session: SessionState, asked: EscalationRecord, rules: Rules, decision: Decision
) -> None:
    """Of an agent that keeps dying: let it start again."""
    agent = session.agents.get(asked.about)
    if agent is not None and asked.decision != liveness.KEEP_OUT:
        agent.breaker = ""
        agent.silent_deaths = 0
        session.agents.put(asked.about, agent)


def go_on(session: SessionState, asked: EscalationRecord, rules: Rules, decision: Decision) -> None:
    """Of a group in which one has failed: cancel the rest, if that is the answer."""
    if asked.decision == group.CANCEL:
        group.cancel(session, asked.about, f"{asked.by} has decided to cancel", decision)


def release(
    session: SessionState, asked: EscalationRecord, rules: Rules, decision: Decision
) -> None:
    """Of a barrier past its deadline: go on without the missing, or call it off."""
    barrier = session.barriers.get(asked.about)
    if barrier is None or barrier.state is not BarrierState.GATHERING:
        return
    if asked.decision == BarrierPolicy.RELEASE:
        barriers.release(session, asked.about, barrier, decision)
    elif asked.decision == BarrierPolicy.FAIL:
        reason = f"{asked.by} has called it off"
        barriers.call_off(session, asked.about, barrier, reason, decision)


#: Subject of a question → what follows from its answer.
FOLLOWS: dict[str, Follow] = {
    escalation.DEADLOCK: give_way,
    escalation.SILENCE: let_start,
    escalation.GROUP: go_on,
    escalation.BARRIER: release,
    escalation.CONTRADICTION: contradiction.decided,
}


def _take_back(
    session: SessionState, agent: AgentRecord, on: str, rules: Rules, decision: Decision
) -> list[str]:
    """End the waiting claim that a cycle named, by what it is for; return that."""
    for claim_id in agent.claims:
        claim = session.claims.records[claim_id]
        wanted = [*claim.writes, *claim.reads]
        if ", ".join(wanted) == on and not claim.token:
            claims.advance(session, claims.drop(session, claim_id, claim, agent), rules, decision)
            return wanted
    return []
