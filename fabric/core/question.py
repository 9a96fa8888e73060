"""Open questions, kept until they are answered; and those that the fabric itself asks a person."""

from __future__ import annotations

from collections.abc import Iterable

from fabric.core.decision import ORCHESTRATOR, Decision
from fabric.core.directive import Answer, DirectiveType
from fabric.core.limits import SESSION_ESCALATIONS_MAX
from fabric.core.record import Escalation, EscalationState
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Escalate, SignalType
from fabric.core.standing import restate

#: The timer that has the outside told of a new question is `hook:<id>`; the worker acts on it.
HOOK = "hook"

#: Subjects of what the fabric asks: who of a deadlock gives way, what to do about those missing
#: at a barrier, whether an agent that keeps dying may start again, whether a group goes on in
#: which one has failed, whose of several different values holds.
DEADLOCK = "deadlock"
BARRIER = "barrier"
SILENCE = "silence"
GROUP = "group"
CONTRADICTION = "contradiction"


def pose(
    session: Session,
    subject: str,
    text: str,
    options: list[str],
    *,
    about: str = "",
    waiting: Iterable[str] = (),
) -> Escalation:
    """Return a question of the fabric's; `note` asks it."""
    return Escalation(
        EscalationState.OPEN,
        text,
        "",
        options,
        asked_ms=session.clock_ms,
        waiting=list(waiting),
        subject=subject,
        about=about,
    )


def derived(question: Escalation) -> Escalate:
    """Return what is said of a question that the fabric asks."""
    return Escalate(question.question, question.options, question.context)


def note(
    session: Session, decision: Decision, question: Escalation, rules: Rules, *, told: list[str]
) -> str:
    """Log a question of the fabric's, keep it, and tell agents of it; return its id."""
    decision.derive("", SignalType.ESCALATE, ORCHESTRATOR, "", derived(question))
    question_id = f"{session.log}-{session.said + len(decision.messages)}"
    question.cause = question_id
    ask(session, question_id, question, rules, decision)
    short = Escalate(question.question, question.options, id=question_id)
    for name in told:
        decision.derive(name, SignalType.ESCALATE, ORCHESTRATOR, "", short)
    return question_id


def ask(
    session: Session, question_id: str, question: Escalation, rules: Rules, decision: Decision
) -> None:
    """The fabric asks a person. Beyond the limit the question is in the log only."""
    if len(session.escalations) < SESSION_ESCALATIONS_MAX:
        session.escalations.put(question_id, question)
        if question.subject == DEADLOCK:
            session.deadlocks.add(question_id)
        tell_hook(session, question_id, rules, decision)


def close(
    session: Session,
    question_id: str,
    question: Escalation,
    answer: str,
    by: str,
    decision: Decision,
) -> None:
    """Note the answer, and let go on who waited for it."""
    question.state = EscalationState.DECIDED
    question.decision, question.by = answer, by
    question.decided_ms = session.clock_ms
    all_told = [question.asker, *question.waiting, *question.concerned]
    told = [name for name in dict.fromkeys(all_told) if name]
    question.waiting = []
    session.deadlocks.discard(question_id)
    session.escalations.put(question_id, question)
    for name in told:
        agent = session.agents.get(name)
        if agent is None:
            continue
        decision.direct(name, DirectiveType.DECISION, Answer(question_id, answer, by))
        if question_id in agent.asks:
            agent.asks = [other for other in agent.asks if other != question_id]
            session.agents.put(name, agent)
            restate(session, name, agent)


def tell_hook(session: Session, question_id: str, rules: Rules, decision: Decision) -> None:
    """Have the outside told, where the rules name a program for it."""
    if rules.hook:
        # Due at once: the worker looks at what is due after each batch.
        decision.timers[f"{HOOK}:{question_id}"] = session.clock_ms
