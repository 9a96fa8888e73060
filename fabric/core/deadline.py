"""A barrier's deadline: who is missing, and what the rules say happens then."""

from __future__ import annotations

from fabric.core import integration, standing
from fabric.core.decision import Decision
from fabric.core.phrase import listed
from fabric.core.question import BARRIER, note, pose
from fabric.core.record import BarrierState, EscalationState
from fabric.core.rules import BarrierPolicy, Rules
from fabric.core.session import Session


def passed(session: Session, subject: str, rules: Rules) -> Decision | None:
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
    missing = standing.missing(barrier)
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
        integration.release(session, name, barrier, decision)
    else:
        integration.call_off(session, name, barrier, text, decision)
    return decision
