"""Contradictions: agents state different values for one thing, and a person decides which holds.

The synthesizer finds them and sends CONFLICT_DETECTED of kind `finding`. The orchestrator forwards
it to the agents concerned while they work, and keeps the question open until a person decides or
one of the agents gives way. No agent is paused, and the fabric never chooses a value.

Theory of operation. A person hears of a contradiction only if agents do not settle it:

    a contradiction          its question is kept, and can be answered, but is not asked: its grace
                             time (`synthesis.grace_ms`) begins
    the grace time is over   one question, the digest, names all whose grace time is over; it waits
                             for those still in theirs, a grace time at most
    more are not settled     the digest is renewed, a grace time after the last time at the earliest
    all of them are closed   the digest is closed
    the digest is answered   what it names stays open and is not asked about again, until agents
                             give other values

There is one timer a session. Without a grace time each contradiction is a question by itself.

Values are named by their digests (of another kind), because they can be long.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core import limits
from fabric.core.agent_status import is_at_work
from fabric.core.escalation import (
    CONTRADICTION,
    DIGEST,
    as_signal,
    ask,
    close,
    close_own,
    keep,
    new_question,
)
from fabric.core.event import SYNTHESIZER, Event, SignalEvent
from fabric.core.limits import listed
from fabric.core.record import EscalationRecord
from fabric.core.session import SessionState
from fabric.core.signal import ConflictDetected, Decided, Rival, Signal

#: Kind of a conflict between statements; other conflicts are between writes (`conflicts.py`).
FINDING = "finding"

#: Sections of a synthesis that hold its parts. A part's name is `<section>:<its name there>`.
FINDINGS = "findings"
DOCUMENT = "document"
ITEMS = "items"

#: The timer at which the digest may be due: one a session.
TIMER = "digest"
_KEY = f"{TIMER}:contradictions"

#: The answer to a digest: what it names stays open.
LEAVE = "leave"

#: Bytes of the digest that names a value in questions and decisions.
DIGEST_BYTES = 8

_encode = msgspec.json.Encoder().encode


def is_from_synthesizer(signal: Signal) -> bool:
    """Whether the synthesizer sent a signal: unlike an agent of its name it sends no numbers."""
    return signal.emitter == SYNTHESIZER and not signal.seq and not signal.incarnation


class Choice(Struct, omit_defaults=True):
    """One value that a person can decide for, and an agent that gives it."""

    agent: str
    digest: str
    value: Raw | UnsetType = UNSET


class Context(Struct):
    """The context of a question: the contradicted part, and the values to choose from."""

    part: str
    values: list[Choice]


class Named(Struct, frozen=True):
    """A contradiction in the context of a digest: its question and the answers."""

    id: str
    options: list[str]


class DigestContext(Struct):
    """The context of a digest: the questions that it names, as many as have room."""

    questions: list[Named]


class DecidedResult(Struct, omit_defaults=True):
    """A person's decision, as the results stream carries it to the synthesizer.

    `chosen` and `rejected` are digests. `value` is the value that holds, left out if very large;
    `others` are the rejected values but those.
    """

    part: str
    decision: str
    by: str
    chosen: str
    rejected: list[str]
    value: Raw | UnsetType = UNSET
    others: list[Raw] = []


def question_id_of(part: str) -> str:
    """Return the id of the question about a part: the part's name, or a digest if it is no name."""
    if len(part) <= limits.NAME_CHARS_MAX and part.isprintable() and part == part.strip():
        return part
    return f"{part.partition(':')[0]}:#{digest(Raw(part.encode()))}"


def shareable(value: Raw | UnsetType) -> Raw | UnsetType:
    """Return a value, left out if it is too large for a signal or a question."""
    is_large = isinstance(value, Raw) and len(bytes(value)) > limits.VALUE_SENT_BYTES_MAX
    return UNSET if is_large else value


def digest(value: Raw) -> str:
    """Return the digest that names a value in questions and decisions, in hexadecimal."""
    return hashlib.blake2b(bytes(value), digest_size=DIGEST_BYTES).hexdigest()


def is_part(name: str) -> bool:
    """Whether a name is the name of a part: a finding, a place, or an item."""
    section, mark, rest = name.partition(":")
    return bool(mark and rest) and section in (FINDINGS, DOCUMENT, ITEMS)


def ask_person(event: SignalEvent, payload: ConflictDetected) -> None:
    """Forward a contradiction to the agents that are still active, and ask a person to decide."""
    session = event.session
    for name in dict.fromkeys(payload.agents):
        if is_at_work(session, name):
            event.forward(name)
    if payload.part is None or not is_part(payload.part) or len(payload.values) < 2:
        return
    question_id = question_id_of(payload.part)
    known = session.escalations.get(question_id)
    question = _question(session, payload.part, payload)
    question.cause = f"{session.log}-0"
    if known is not None and known.subject != CONTRADICTION:
        return  # an agent has asked a question of its own under this name
    if known is not None and known.is_open:
        question.asked_ms = known.asked_ms
        question.named_ms, question.digest = known.named_ms, known.digest
        is_left = known.digest not in ("", session.disputes.digest)
        if is_left and known.context != question.context:
            _begin_grace(event, question_id, question)
        session.escalations.put(question_id, question)
        return
    if known is not None:
        session.escalations.drop(question_id)
    if not event.rules.grace_ms:
        event.derive("", as_signal(question))
        keep(event, question_id, question)
        return
    _begin_grace(event, question_id, question)
    keep(event, question_id, question)
    if question_id not in session.escalations:
        # There is no room for it: the log has it.
        session.disputes.in_grace.discard(question_id)
        event.derive("", as_signal(question))


def close_question(event: SignalEvent, answer: Decided) -> None:
    """Close the question about a contradiction that has ended without a decision."""
    asked = event.session.escalations.get(answer.escalation)
    if asked is not None and asked.subject == CONTRADICTION and asked.is_open:
        close(event, answer.escalation, asked, answer.decision, answer.by or SYNTHESIZER)
        _note_closed(event, answer.escalation)


def grace_over(event: Event, subject: str) -> bool:
    """Name the contradictions whose grace time is over in one question; moot if there are none."""
    session = event.session
    records, disputes = session.escalations.records, session.disputes
    times = [records[one].named_ms for one in disputes.in_grace]
    if not times:
        return False
    # What comes in one burst is one question; a steady stream of them does not put it off.
    ready_ms = min(max(times), min(times) + event.rules.grace_ms)
    if ready_ms > session.clock_ms:
        return event.postpone(_KEY, ready_ms)
    due = [one for one in disputes.in_grace if records[one].named_ms <= session.clock_ms]
    _ask_digest(event, sorted({*disputes.named, *due}))
    if disputes.digest:
        for name in sorted(due):
            records[name].digest = disputes.digest
            session.escalations.put(name, records[name])
        disputes.in_grace.difference_update(due)
        disputes.named.update(due)
    if disputes.in_grace:
        soonest = min(records[one].named_ms for one in disputes.in_grace)
        event.set_timer(_KEY, max(soonest, session.clock_ms + event.rules.grace_ms))
    return True


def leave(event: Event, asked: EscalationRecord) -> None:
    """Let what a digest names stay open, and ask nobody about it any more."""
    event.session.disputes.end_digest()


def move_grace(event: Event, outage_ms: int, since_ms: int) -> None:
    """Move the grace times that ran when an outage began, at `since_ms`, by its length.

    The timer finds that out when it is due.
    """
    session = event.session
    for name in sorted(session.disputes.in_grace):
        asked = session.escalations.records[name]
        if asked.named_ms > since_ms:
            asked.named_ms += outage_ms
            session.escalations.put(name, asked)


def send_decision(event: Event, asked: EscalationRecord) -> None:
    """Send a person's decision to the synthesizer: which value holds."""
    _note_closed(event, question_id_of(asked.about))
    if not isinstance(asked.context, Raw):
        return
    context = msgspec.json.decode(asked.context, type=Context)
    chosen = next(one for one in context.values if one.agent == asked.decision)
    lost = [one for one in context.values if one is not chosen]
    rejected, others = (
        [one.digest for one in lost],
        [one.value for one in lost if one.value is not UNSET],
    )
    decided = (
        *(context.part, asked.decision, asked.by),
        *(chosen.digest, rejected, chosen.value, others),
    )
    event.give_to_results(_encode(DecidedResult(*decided)))


def _begin_grace(event: SignalEvent, question_id: str, question: EscalationRecord) -> None:
    session, disputes = event.session, event.session.disputes
    question.named_ms, question.digest = session.clock_ms + event.rules.grace_ms, ""
    if not disputes.in_grace:
        event.set_timer(_KEY, question.named_ms)
    disputes.in_grace.add(question_id)


def _ask_digest(event: Event, names: list[str]) -> None:
    """Ask a person about these contradictions, or renew the question that is open."""
    session, disputes = event.session, event.session.disputes
    records = session.escalations.records
    text = records[names[0]].question
    if len(names) > 1:
        text = (
            f"{len(names)} contradictions that no agent has settled: {listed(names)}. "
            "Whose values hold?"
        )
    question = new_question(session, DIGEST, text, [LEAVE])
    question.context = _context(session, names)
    known = session.escalations.get(disputes.digest)
    if known is None:
        question_id = ask(event, question, told=[])
        disputes.digest = question_id if question_id in session.escalations else ""
        return
    event.derive("", as_signal(question))
    question.asked_ms = known.asked_ms
    question.cause = f"{session.log}-{len(event.decision.messages)}"
    session.escalations.put(disputes.digest, question)


def _context(session: SessionState, names: list[str]) -> Raw:
    """Return the context of a digest: the questions that it names, as many as have room."""
    room, found = limits.CONTEXT_BYTES_MAX, DigestContext([])
    for name in names:
        one = Named(name, session.escalations.records[name].options)
        room -= len(_encode(one)) + 1
        if room < len(_encode(DigestContext([]))):
            break
        found.questions.append(one)
    return Raw(_encode(found))


def _note_closed(event: Event, question_id: str) -> None:
    """Take a contradiction out of those that are open; with the last one the digest is closed."""
    disputes = event.session.disputes
    disputes.in_grace.discard(question_id)
    if question_id in disputes.named:
        disputes.named.discard(question_id)
        if not disputes.named:
            close_own(event, disputes.digest, "all of them are closed")
            disputes.end_digest()


def _question(session: SessionState, part: str, payload: ConflictDetected) -> EscalationRecord:
    # Any agent can send this signal, so the limit on what is kept is enforced here.
    rivals = payload.values[: limits.VALUES_SENT_MAX]
    options = [rival.agents[0] for rival in rivals]
    text = f"{part}: {'; '.join(map(_said, rivals))}. Whose value holds?"
    question = new_question(session, CONTRADICTION, text, options, about=part)
    question.concerned = list(dict.fromkeys(payload.agents))
    choices = [Choice(rival.agents[0], rival.digest, shareable(rival.value)) for rival in rivals]
    question.context = Raw(_encode(Context(part, choices)))
    return question


def _said(rival: Rival) -> str:
    verb = "says" if len(rival.agents) == 1 else "say"
    text = bytes(rival.value).decode() if isinstance(rival.value, Raw) else "a long value"
    if len(text) > limits.VALUE_SHOWN_CHARS_MAX:
        text = text[: limits.VALUE_SHOWN_CHARS_MAX - 1] + "…"
    sure = f" ({rival.confidence:.0%} sure)" if isinstance(rival.confidence, float) else ""
    return f"{listed(rival.agents)} {verb} {text}{sure}"
