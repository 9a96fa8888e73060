"""What is done about a deadlock: a claim is refused, or a person is asked (design, section 6).

A cycle of locks alone is broken at once: of its members the one with the lowest priority, and of
those the one that asked last, has its claim refused; what it holds it keeps, to give back in order.
Any other cycle only somebody who knows the work can break: it is escalated, with every member as an
option. Whoever is chosen has its wait ended.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from fabric.core import claims
from fabric.core.deadlock import (
    LOCK,
    Link,
    behind,
    find,
    is_needed,
    still_there,
    stuck_among,
)
from fabric.core.decision import ORCHESTRATOR, Decision
from fabric.core.directive import Cancel, DirectiveType
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.question import DEADLOCK, close, note, pose
from fabric.core.record import Escalation
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Escalate, SignalType
from fabric.core.standing import restate

#: Cycles broken in one event. Each takes a claim from an agent; more than a few at once mean that
#: somebody asked for very much, and the rest is found when the next wait begins.
CYCLES_MAX = 100


def look(session: Session, name: str, rules: Rules, decision: Decision) -> None:
    """An agent has begun to wait: break, or report, the cycle that this has closed."""
    for _ in range(CYCLES_MAX):
        if not (session.deadlocks or is_needed(session, name)):
            return
        cycle = find(session, name)
        if cycle is None:
            return
        if any(link.wait.kind != LOCK for link in cycle):
            _report(session, cycle, rules, decision)
            return
        _refuse_one(session, cycle, rules, decision)


def settle(session: Session, rules: Rules, decision: Decision) -> None:
    """Close the questions about deadlocks that have come apart; who is stuck in another is told."""
    for question_id in sorted(session.deadlocks):
        question = session.escalations.records[question_id]
        if not still_there(session, question.cycle):
            named = question.waiting
            close(session, question_id, question, "it has come apart", ORCHESTRATOR, decision)
            look_again(session, named, rules, decision)


def look_again(session: Session, names: list[str], rules: Rules, decision: Decision) -> None:
    """A question is closed: who was named there and is stuck in another deadlock is named there."""
    left = stuck_among(session, names)
    while left:
        questions = [session.escalations.records[known] for known in sorted(session.deadlocks)]
        named = {name for question in questions for name in question.waiting}
        unnamed = [name for name in names if name in left and name not in named]
        if not unnamed:
            return
        # Whoever is stuck with the first is named with it.
        look(session, unnamed[0], rules, decision)
        left.discard(unnamed[0])


def described(cycle: list[Link]) -> str:
    """Say who waits for what, in order, round to the first."""
    steps = [f"{link.agent} waits for {link.wait.on}" for link in cycle[:NAMES_SHOWN_MAX]]
    more = len(cycle) - NAMES_SHOWN_MAX
    if more > 0:
        steps.append(f"and {more} more")
    return ", ".join(steps) + f", which needs {cycle[0].agent}"


def _refuse_one(session: Session, cycle: list[Link], rules: Rules, decision: Decision) -> None:
    def last_first(link: Link) -> tuple[int, int, int, str]:
        claim = session.claims.records[link.wait.claim]
        priority = session.agents.records[link.agent].priority
        return (priority, -claim.asked, -claim.place, link.agent)

    victim = min(cycle, key=last_first)
    agent = session.agents.records[victim.agent]
    claim = session.claims.records[victim.wait.claim]
    told = Cancel(
        f"deadlock: {described(cycle)}",
        "DEADLOCK",
        resources=[*claim.writes, *claim.reads],
        cycle=[link.agent for link in cycle],
        affected=behind(session, cycle),
    )
    freed = claims.drop(session, victim.wait.claim, claim, agent)
    decision.direct(victim.agent, DirectiveType.CANCEL, told)
    restate(session, victim.agent, agent)
    claims.advance(session, freed, rules, decision)


def _report(session: Session, cycle: list[Link], rules: Rules, decision: Decision) -> None:
    members = [link.agent for link in cycle]
    affected = behind(session, cycle)
    steps = [(link.agent, link.wait.kind, link.wait.on) for link in cycle]
    for question_id in sorted(session.deadlocks):
        known = session.escalations.records[question_id]
        if set(known.cycle) == set(steps):
            _add_affected(session, question_id, known, affected, decision)
            return
    told = [*members, *affected]
    text = f"Deadlock: {described(cycle)}. Who gives way?"
    question = pose(session, DEADLOCK, text, members, waiting=told)
    question.context = _context(cycle, affected)
    question.cycle = steps
    note(session, decision, question, rules, told=told)


def _add_affected(
    session: Session,
    question_id: str,
    known: Escalation,
    affected: list[str],
    decision: Decision,
) -> None:
    """Tell those who have come to stand behind a deadlock that was reported before."""
    for name in affected:
        if name not in known.waiting:
            known.waiting = [*known.waiting, name]
            session.escalations.put(question_id, known)
            stuck = Escalate(f"{name} is stuck behind it. {known.question}", id=question_id)
            decision.derive(name, SignalType.ESCALATE, ORCHESTRATOR, "", stuck)


def _context(cycle: list[Link], affected: list[str]) -> Raw:
    steps = [
        {"agent": link.agent, "waits": link.wait.kind, "on": link.wait.on, "needs": following.agent}
        for link, following in zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    ]
    return Raw(msgspec.json.encode({"cycle": steps, "affected": affected}))
