"""Contradictions: agents state different values for one thing, and a person decides which holds.

The synthesizer finds them and sends CONFLICT_DETECTED of kind `finding`. The orchestrator forwards
it to the agents concerned while they work, and keeps the question open until a person decides or
one of the agents gives way. No agent is paused, and the fabric never chooses a value.

Values are named by their digests, because they can be long.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core import limits
from fabric.core.agent_status import is_at_work
from fabric.core.escalation import CONTRADICTION, as_signal, close, keep, new_question
from fabric.core.event import SYNTHESIZER, Event, SignalEvent
from fabric.core.limits import listed
from fabric.core.record import EscalationRecord, EscalationState
from fabric.core.session import SessionState
from fabric.core.signal import ConflictDetected, Decided, Rival, Signal

#: Kind of a conflict between statements; other conflicts are between writes (`conflicts.py`).
FINDING = "finding"

#: Sections of a synthesis that hold its parts. A part's name is `<section>:<its name there>`.
FINDINGS = "findings"
DOCUMENT = "document"
ITEMS = "items"

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
    if known is not None and known.state is EscalationState.OPEN:
        question.asked_ms = known.asked_ms
        session.escalations.put(question_id, question)
        return
    if known is not None:
        session.escalations.drop(question_id)
    event.derive("", as_signal(question))
    keep(event, question_id, question)


def close_question(event: SignalEvent, answer: Decided) -> None:
    """Close the question about a contradiction that has ended without a decision."""
    asked = event.session.escalations.get(answer.escalation)
    if asked is not None and asked.subject == CONTRADICTION and asked.state is EscalationState.OPEN:
        close(event, answer.escalation, asked, answer.decision, answer.by or SYNTHESIZER)


def send_decision(event: Event, asked: EscalationRecord) -> None:
    """Send a person's decision to the synthesizer: which value holds."""
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
