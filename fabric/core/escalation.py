"""Questions that need a person, or a higher authority among the agents (seeds: ESCALATE).

A question is kept until it is decided; the answer goes to who asked, and to all who wait on it. The
fabric asks as well: about a deadlock that only somebody can break, a barrier past its deadline, an
agent that keeps dying, a group in which one has failed. What follows from the answer to such a
question is decided by its subject, in `verdict.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from fabric.core.agent_status import restate
from fabric.core.decision import ORCHESTRATOR, Decision, refuse
from fabric.core.directive import Answer, Cancel, DirectiveType
from fabric.core.limits import CONTEXT_BYTES_MAX, SESSION_ESCALATIONS_MAX
from fabric.core.record import AgentRecord, EscalationRecord, EscalationState
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Decided, Escalate, Signal, SignalType


def escalate(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Keep a question; its asker waits for the answer unless it says otherwise."""
    assert agent is not None
    assert isinstance(signal.payload, Escalate)
    asked, name = signal.payload, signal.emitter
    question_id = asked.id or f"{session.log}-0"
    known = session.escalations.get(question_id)
    if known is not None and known.state is EscalationState.DECIDED and known.asker == name:
        known = None  # the same question, asked anew
    if known is None and len(session.escalations) >= SESSION_ESCALATIONS_MAX:
        return _refused(name, question_id, "LIMIT", f"{SESSION_ESCALATIONS_MAX} questions are kept")
    if known is not None and known.asker != name:
        reason = f"{known.asker} has asked a question with the id {question_id}: choose another"
        return _refused(name, question_id, "TAKEN", reason)
    decision = Decision()
    if known is None:
        context = asked.context
        is_kept = context is not UNSET and len(bytes(context)) <= CONTEXT_BYTES_MAX
        session.escalations.put(
            question_id,
            EscalationRecord(
                EscalationState.OPEN,
                asked.question,
                name,
                list(asked.options),
                context if is_kept else UNSET,
                asked.to or "",
                session.clock_ms,
                f"{session.log}-0",
            ),
        )
        tell_hook(session, question_id, rules, decision)
    if asked.to:
        decision.forward(asked.to, signal)
    if asked.wait and question_id not in agent.asks:
        agent.asks = [*agent.asks, question_id]
        restate(session, name, agent)
    return decision


def wait_on(
    session: SessionState, name: str, agent: AgentRecord, question_id: str
) -> Decision | None:
    """BLOCKED on a question: the answer comes to this agent too. None when there is none."""
    question = session.escalations.get(question_id)
    if question is None:
        return None
    decision = Decision()
    if question.state is EscalationState.DECIDED:
        answer = Answer(question_id, question.decision, question.by)
        decision.direct(name, DirectiveType.DECISION, answer)
        return decision
    if question.asker != name and name not in question.waiting:
        question.waiting = [*question.waiting, name]
        session.escalations.put(question_id, question)
    if question_id not in agent.asks:
        agent.asks = [*agent.asks, question_id]
        restate(session, name, agent)
    return decision


def decided(session: SessionState, signal: Signal) -> tuple[EscalationRecord | None, Decision]:
    """Close a question and tell all whom it concerns; return it, for what follows from it."""
    assert isinstance(signal.payload, Decided)
    answer = signal.payload
    asked = session.escalations.get(answer.escalation)
    if asked is None:
        return None, refuse("UNKNOWN", f"no question {answer.escalation} was asked here")
    is_open = asked.state is EscalationState.OPEN
    # Who was kept out may be let in again.
    if not is_open and asked.subject != SILENCE:
        reason = f"{asked.by} has decided {answer.escalation} already: {asked.decision}"
        return None, refuse("DECIDED", reason)
    if asked.subject and answer.decision not in asked.options:
        allowed = " or ".join(asked.options)
        return None, refuse("OPTION", f"{answer.decision} is no answer to it: {allowed}")
    decision = Decision()
    close(session, answer.escalation, asked, answer.decision, answer.by or signal.emitter, decision)
    return asked, decision


def unanswered(session: SessionState, name: str, rules: Rules, decision: Decision) -> None:
    """An agent ends with questions that it was to answer: a person is asked instead."""
    for question_id in sorted(session.escalations.records):
        asked = session.escalations.records[question_id]
        if asked.to != name or asked.state is not EscalationState.OPEN:
            continue
        asked.to = ""
        session.escalations.put(question_id, asked)
        text = f"{name}, who was to answer {question_id}, has ended. {asked.question}"
        told = Escalate(text, asked.options, id=question_id)
        decision.derive(asked.asker, SignalType.ESCALATE, ORCHESTRATOR, "", told)
        tell_hook(session, question_id, rules, decision)


def withdraw(session: SessionState, name: str, agent: AgentRecord, named: list[str]) -> None:
    """An agent waits no longer for these answers. The questions stay open."""
    for question_id in named:
        question = session.escalations.get(question_id)
        if question is not None and name in question.waiting:
            question.waiting = [other for other in question.waiting if other != name]
            session.escalations.put(question_id, question)
    agent.asks = [other for other in agent.asks if other not in named]


def _refused(name: str, question_id: str, code: str, reason: str) -> Decision:
    decision = refuse(code, reason)
    decision.direct(name, DirectiveType.CANCEL, Cancel(reason, code, escalation=question_id))
    return decision


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
    session: SessionState,
    subject: str,
    text: str,
    options: list[str],
    *,
    about: str = "",
    waiting: Iterable[str] = (),
) -> EscalationRecord:
    """Return a question of the fabric's; `note` asks it."""
    return EscalationRecord(
        EscalationState.OPEN,
        text,
        "",
        options,
        asked_ms=session.clock_ms,
        waiting=list(waiting),
        subject=subject,
        about=about,
    )


def derived(question: EscalationRecord) -> Escalate:
    """Return what is said of a question that the fabric asks."""
    return Escalate(question.question, question.options, question.context)


def note(
    session: SessionState,
    decision: Decision,
    question: EscalationRecord,
    rules: Rules,
    *,
    told: list[str],
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
    session: SessionState,
    question_id: str,
    question: EscalationRecord,
    rules: Rules,
    decision: Decision,
) -> None:
    """The fabric asks a person. Beyond the limit the question is in the log only."""
    if len(session.escalations) < SESSION_ESCALATIONS_MAX:
        session.escalations.put(question_id, question)
        if question.subject == DEADLOCK:
            session.deadlocks.add(question_id)
        tell_hook(session, question_id, rules, decision)


def close(
    session: SessionState,
    question_id: str,
    question: EscalationRecord,
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


def tell_hook(session: SessionState, question_id: str, rules: Rules, decision: Decision) -> None:
    """Have the outside told, where the rules name a program for it."""
    if rules.hook:
        # Due at once: the worker looks at what is due after each batch.
        decision.timers[f"{HOOK}:{question_id}"] = session.clock_ms
