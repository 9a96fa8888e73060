"""Questions that need a person, or an agent with the authority to answer.

A question is kept until it is decided. The answer goes to the agent that asked, and to all that
wait for it. A question to an agent that is not at work goes to a person. At its deadline the answer
is the asker's default; without a default the waits for the answer end, and the question stays open.

The fabric asks as well: about a deadlock that only somebody can break, a barrier past its deadline,
an agent that keeps dying, a group in which one agent has failed, two values that contradict each
other, an output that no agent is to produce, a task that is not done. The subject decides what
follows from the answer: `ANSWERS` in `step.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from fabric.core.agent_status import is_at_work, update_status
from fabric.core.directive import Answer, Cancel, Notice
from fabric.core.event import ORCHESTRATOR, Event, RefusedError, SignalEvent
from fabric.core.limits import (
    CONTEXT_BYTES_MAX,
    NAMES_SHOWN_MAX,
    SESSION_ESCALATIONS_MAX,
    listed,
)
from fabric.core.record import ENDED, AgentRecord, EscalationRecord, EscalationState
from fabric.core.session import SHARE_MIN, SessionState, is_reserved
from fabric.core.signal import Decided, Escalate

#: The timer that has the hook told of a new question is `hook:<id>`; the worker acts on it.
HOOK = "hook"

#: The timer of a question with a deadline is `answer:<id>`.
TIMER = "answer"

#: Subjects of the fabric's own questions: which agent gives way in a deadlock, what to do about
#: the agents missing at a barrier, whether an agent that keeps dying may start again, whether a
#: group goes on in which one agent has failed, which of several different values holds, whether
#: agents go on waiting for an output that no agent is to produce, whether agents that all fell
#: silent together are given up, or one that lives without any progress, or that goes on and
#: does not read that it is to stop; whether a task is tried again. A digest names contradictions.
DEADLOCK = "deadlock"
BARRIER = "barrier"
SILENCE = "silence"
MASS_SILENCE = "mass_silence"
WEDGED = "wedged"
UNREAD = "unread"
GROUP = "group"
CONTRADICTION = "contradiction"
DIGEST = "digest"
DEPENDENCY = "dependency"
TASK = "task"


def escalate(event: SignalEvent, payload: Escalate) -> None:
    """Keep a question; its asker waits for the answer unless it says otherwise."""
    session, name, agent = event.session, event.name, event.agent
    question_id = payload.id or f"{session.log}-0"
    known = session.escalations.get(question_id)
    if known is not None and known.asker != name:
        reason = f"{known.asker} has asked a question with the id {question_id}: choose another id"
        raise _refusal(question_id, "TAKEN", reason)
    if known is None or not known.is_open:  # a decided one is asked anew
        has_room = _has_room(event)
        share = session.escalations.fault(name, 1, SESSION_ESCALATIONS_MAX)
        if share:
            raise _refusal(question_id, "LIMIT", f"too many open questions: {share}")
        if not has_room:
            most = SESSION_ESCALATIONS_MAX
            reason = f"session {session.name} has {most} questions, the most allowed"
            raise _refusal(question_id, "LIMIT", reason)
        if payload.default is not None and payload.default not in (
            payload.options or [payload.default]
        ):
            allowed = " or ".join(payload.options)
            reason = f"the default {payload.default} is not one of its options: {allowed}"
            raise _refusal(question_id, "OPTION", reason)
        context = payload.context
        is_kept = context is not UNSET and len(bytes(context)) <= CONTEXT_BYTES_MAX
        asked = EscalationRecord(
            EscalationState.OPEN,
            payload.question,
            name,
            payload.options,
            context if is_kept else UNSET,
            payload.to or "",
            session.clock_ms,
            f"{session.log}-0",
            default=payload.default or "",
        )
        session.escalations.put(question_id, asked)
        _tell_hook(event, question_id)
        if payload.deadline_ms:
            asked.deadline_ms = session.clock_ms + payload.deadline_ms
            event.set_timer(f"{TIMER}:{question_id}", asked.deadline_ms)
        if payload.to and not is_at_work(session, payload.to):
            known_as = "has ended" if payload.to in session.agents else "has not started"
            _hand_to_person(
                event, question_id, asked, f"{payload.to}, asked {question_id}, {known_as}"
            )
    if payload.to:
        event.forward(payload.to)
    if payload.wait and question_id not in agent.asks:
        agent.asks = [*agent.asks, question_id]
        update_status(session, name)


def wait_on(event: SignalEvent, question_id: str) -> bool:
    """Let the emitter wait for the answer to a question; False when there is no such question."""
    session, name, agent = event.session, event.name, event.agent
    question = session.escalations.get(question_id)
    if question is None:
        return False
    if not question.is_open:
        event.direct(name, Answer(question_id, question.decision, question.by))
        return True
    if question.asker != name and name not in question.waiting:
        question.waiting = [*question.waiting, name]
        session.escalations.put(question_id, question)
    if question_id not in agent.asks:
        agent.asks = [*agent.asks, question_id]
        update_status(session, name)
    return True


def decide(event: SignalEvent, answer: Decided) -> EscalationRecord:
    """Close a question and tell all whom it concerns; return it, for what follows from it."""
    asked = event.session.escalations.get(answer.escalation)
    if asked is None:
        raise RefusedError(
            "UNKNOWN", f"there is no question {answer.escalation} in session {event.session.name}"
        )
    # An agent that was kept out may be let in again.
    if not asked.is_open and asked.subject != SILENCE:
        reason = f"{asked.by} has already decided {answer.escalation}: {asked.decision}"
        raise RefusedError("DECIDED", reason)
    if asked.subject and answer.decision not in asked.options:
        allowed = " or ".join(asked.options)
        raise RefusedError("OPTION", f"{answer.decision} is not one of its options: {allowed}")
    close(event, answer.escalation, asked, answer.decision, answer.by or event.name)
    return asked


def ask_person_instead(event: Event, name: str) -> None:
    """Ask a person instead of an agent that ends with questions left to answer."""
    escalations = event.session.escalations
    for question_id in sorted(escalations.records):
        asked = escalations.records[question_id]
        if asked.to != name or not asked.is_open:
            continue
        escalations.put(question_id, asked)
        _hand_to_person(
            event, question_id, asked, f"{name} has ended without answering {question_id}"
        )
        _tell_hook(event, question_id)


def _hand_to_person(event: Event, question_id: str, asked: EscalationRecord, reason: str) -> None:
    """Ask a person instead of the agent that the asker named, and tell the asker."""
    asked.to = ""
    text = f"{reason}: a person is asked instead. {asked.question}"
    event.derive(asked.asker, Escalate(text, asked.options, id=question_id))


def answer_due(event: Event, question_id: str) -> bool:
    """Answer a question by its default at its deadline; without one, end the waits for it."""
    session = event.session
    asked = session.escalations.get(question_id)
    if asked is None or not asked.is_open or not asked.deadline_ms:
        return False
    if asked.deadline_ms > session.clock_ms:  # asked anew, or moved by an outage
        return event.postpone(f"{TIMER}:{question_id}", asked.deadline_ms)
    if asked.default:
        close(event, question_id, asked, asked.default, ORCHESTRATOR)
        return True
    asked.deadline_ms = 0
    reason = f"nobody has answered {question_id} by its deadline"
    for name in [asked.asker, *asked.waiting]:
        agent = session.agents.get(name)
        if agent is not None and question_id in agent.asks:
            withdraw(session, name, agent, [question_id])
            event.direct(name, Cancel(reason, "DEADLINE", escalation=question_id))
            session.agents.put(name, agent)
            update_status(session, name)
    session.escalations.put(question_id, asked)
    return True


def move_deadlines(event: Event, outage_ms: int, since_ms: int) -> None:
    """Move the deadlines that ran when an outage began, at `since_ms`, by its length."""
    for question_id, asked in event.session.escalations.records.items():
        if asked.is_open and asked.deadline_ms > since_ms:
            asked.deadline_ms += outage_ms
            event.session.escalations.put(question_id, asked)
            event.set_timer(f"{TIMER}:{question_id}", asked.deadline_ms)


def _has_room(event: Event) -> bool:
    """Whether another question can be kept; some go, oldest first, when it must be.

    First decided ones, then those of agents that do not wait for the answer, and have declared
    nothing or are gone. Those about silence stay: they keep an agent out.
    """
    session = event.session
    asked, most = session.escalations, SESSION_ESCALATIONS_MAX
    if len(asked) < most and not is_reserved(SHARE_MIN, len(asked) + 2, most):
        return True
    some = max(1, most // 100)
    known = asked.records
    decided = [
        (known[name].decided_ms, name)
        for name in asked.unowned()
        if not known[name].is_open and known[name].subject not in (SILENCE, MASS_SILENCE)
    ]
    for _, name in sorted(decided)[:some]:
        asked.drop(name)
    # Looking through all of them takes milliseconds: not for each question.
    if not decided and (len(asked) >= most or (len(asked) + 1) % some == 0):
        _drop_abandoned(event, some)
    return len(asked) < most


def _drop_abandoned(event: Event, count: int) -> None:
    """Let the oldest questions go that nobody waits for and no agent stands behind."""
    session, asked = event.session, event.session.escalations
    abandoned = [
        (known.asked_ms, len(name), name)
        for name, known in asked.records.items()
        if not (known.subject or known.waiting or _stands_behind(session, known.asker, name))
    ]
    gone: dict[str, list[str]] = {}
    for _, _, name in sorted(abandoned)[:count]:
        known = asked.records[name]
        gone.setdefault(known.asker, []).append(name)
        asked.drop(name)
        if known.deadline_ms:
            event.set_timer(f"{TIMER}:{name}", None)
    for asker, names in gone.items():
        reason = f"these questions, which nobody waits for, made room for others: {listed(names)}"
        event.direct(asker if asker in session.agents else "", Notice("LIMIT", reason))


def _stands_behind(session: SessionState, asker: str, question_id: str) -> bool:
    """Whether a question's asker is at work and waits for the answer, or has declared anything."""
    agent = session.agents.get(asker)
    if agent is None or agent.status in ENDED:
        return False
    declared = agent.task or agent.produces or agent.reads or agent.writes or agent.parallel_group
    return bool(declared or agent.claims or question_id in agent.asks)


def withdraw(session: SessionState, name: str, agent: AgentRecord, named: list[str]) -> None:
    """End an agent's waits for these answers. The questions stay open."""
    for question_id in named:
        question = session.escalations.get(question_id)
        if question is not None and name in question.waiting:
            question.waiting = [other for other in question.waiting if other != name]
            session.escalations.put(question_id, question)
    agent.asks = [other for other in agent.asks if other not in named]


def new_question(
    session: SessionState,
    subject: str,
    text: str,
    options: list[str],
    *,
    about: str = "",
    waiting: Iterable[str] = (),
) -> EscalationRecord:
    """Return a question of the fabric's own; `ask` asks it."""
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


def as_signal(question: EscalationRecord) -> Escalate:
    """Return the signal that says what the fabric asks."""
    return Escalate(question.question, question.options, question.context)


def ask(event: Event, question: EscalationRecord, *, told: list[str]) -> str:
    """Log a question of the fabric's own, keep it, and tell these agents; return its id."""
    event.derive("", as_signal(question))
    question_id = f"{event.session.log}-{len(event.decision.messages)}"
    question.cause = question_id
    keep(event, question_id, question)
    # Not all options: each of thousands of agents would get thousands. The question has them.
    short = Escalate(question.question, question.options[:NAMES_SHOWN_MAX], id=question_id)
    for name in told:
        event.derive(name, short)
    return question_id


def keep(event: Event, question_id: str, question: EscalationRecord) -> None:
    """Keep a question of the fabric's own. Beyond the limit it is in the log only."""
    is_mass_silence = question.subject == MASS_SILENCE
    # Nobody is given up while that question is open: it must not get lost among others.
    if is_mass_silence or _has_room(event):
        event.session.escalations.put(question_id, question)
        if is_mass_silence:
            event.session.mass_silence = question_id
        if question.subject == DEADLOCK:
            event.session.deadlocks.add(question_id)
        if not question.is_quiet:
            _tell_hook(event, question_id)


def close(event: Event, question_id: str, question: EscalationRecord, answer: str, by: str) -> None:
    """Keep the answer, tell all whom it concerns, and end their waits for it."""
    session = event.session
    settle(session, question, answer, by)
    all_told = [question.asker, *question.waiting, *question.concerned]
    told = [name for name in dict.fromkeys(all_told) if name]
    question.waiting = []
    session.deadlocks.discard(question_id)
    session.escalations.put(question_id, question)
    for name in told:
        agent = session.agents.get(name)
        if agent is None:
            continue
        event.direct(name, Answer(question_id, answer, by))
        if question_id in agent.asks:
            agent.asks = [other for other in agent.asks if other != question_id]
            session.agents.put(name, agent)
            update_status(session, name)


def close_own(event: Event, question_id: str, answer: str) -> None:
    """Close a question of the fabric's own that has become moot, if it is open."""
    asked = event.session.escalations.get(question_id)
    if asked is not None and asked.is_open:
        close(event, question_id, asked, answer, ORCHESTRATOR)


def settle(session: SessionState, question: EscalationRecord, answer: str, by: str) -> None:
    """Note the answer in a question's record."""
    question.settle(answer, by, session.clock_ms)


def _tell_hook(event: Event, question_id: str) -> None:
    """Have the program told that the rules name for new questions."""
    if event.rules.hook:
        # Due at once: the worker looks for due timers after each batch.
        event.set_timer(f"{HOOK}:{question_id}", event.session.clock_ms)


def _refusal(question_id: str, code: str, reason: str) -> RefusedError:
    return RefusedError(code, reason, Cancel(reason, code, escalation=question_id))
