"""Two agents say different things of one: both are told while they work, and a person is asked.

The synthesizer finds contradictions and says so with CONFLICT_DETECTED of kind `finding`; the
orchestrator passes it on to those concerned and keeps the question until a person decides, or one
of the agents gives way. Nobody is paused, and no value is chosen by the fabric.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.agent_status import is_at_work
from fabric.core.escalation import CONTRADICTION, ask, close, derived, pose
from fabric.core.event import Event, SignalEvent
from fabric.core.limits import (
    NAME_CHARS_MAX,
    VALUE_SHOWN_CHARS_MAX,
    VALUE_TOLD_BYTES_MAX,
    VALUES_TOLD_MAX,
    listed,
)
from fabric.core.record import EscalationRecord, EscalationState
from fabric.core.session import SessionState
from fabric.core.signal import ConflictDetected, Decided, Rival, Signal

#: Kind of a conflict between statements; the others are between writes (`conflicts.py`).
FINDING = "finding"

#: Who says so: no agent, and never taken for one.
SYNTHESIZER = "SYNTHESIZER"

#: Sections of a synthesis whose members agents can contradict each other about. The name of a part
#: is `<section>:<its name there>`.
FINDINGS = "findings"
DOCUMENT = "document"
ITEMS = "items"

#: Bytes of the digest that stands for a value in questions and decisions.
DIGEST_BYTES = 8

_encode = msgspec.json.Encoder().encode


def is_ours(signal: Signal) -> bool:
    """Whether the synthesizer has sent a signal: it numbers none, unlike an agent of its name."""
    return signal.emitter == SYNTHESIZER and not signal.seq and not signal.incarnation


class Choice(Struct, omit_defaults=True):
    """One value that a person can decide for, by the name of an agent that gives it."""

    agent: str
    digest: str
    value: Raw | UnsetType = UNSET


class Context(Struct):
    """What a question about a contradiction is about, and what there is to choose from."""

    part: str
    values: list[Choice]


class Settled(Struct, omit_defaults=True):
    """A person's decision, as the synthesizer gets it: the value that holds, and the others.

    Values are named by digests; the one that holds is there too, unless it is very large.
    """

    part: str
    decision: str
    by: str
    chosen: str
    rejected: list[str]
    value: Raw | UnsetType = UNSET


def question_of(part: str) -> str:
    """Return the id of the question about a part: its name, where that can be one."""
    if len(part) <= NAME_CHARS_MAX and part.isprintable() and part == part.strip():
        return part
    return f"{part.partition(':')[0]}:#{digest(Raw(part.encode()))}"


def shareable(value: Raw | UnsetType) -> Raw | UnsetType:
    """Leave out a value that is too large for a signal or a question."""
    if isinstance(value, Raw) and len(bytes(value)) > VALUE_TOLD_BYTES_MAX:
        return UNSET
    return value


def digest(value: Raw) -> str:
    """Return the name of a value in questions and decisions: a short hash, in hexadecimal."""
    return hashlib.blake2b(bytes(value), digest_size=DIGEST_BYTES).hexdigest()


def is_part(name: str) -> bool:
    """Whether a name is that of a part: a finding, a place, an item."""
    section, mark, rest = name.partition(":")
    return bool(mark and rest) and section in (FINDINGS, DOCUMENT, ITEMS)


def found(event: SignalEvent, payload: ConflictDetected) -> None:
    """Tell those concerned who are still at work, and keep the question for a person."""
    session = event.session
    for name in dict.fromkeys(payload.agents):
        if is_at_work(session, name):
            event.forward(name)
    if payload.part is None or not is_part(payload.part) or len(payload.values) < 2:
        return
    question_id = question_of(payload.part)
    known = session.escalations.get(question_id)
    question = _question(session, payload.part, payload)
    question.cause = f"{session.log}-0"
    if known is not None and known.subject != CONTRADICTION:
        return  # an agent has taken the name for a question of its own
    if known is not None and known.state is EscalationState.OPEN:
        question.asked_ms = known.asked_ms
        session.escalations.put(question_id, question)
        return
    if known is not None:
        session.escalations.drop(question_id)
    event.derive("", derived(question))
    ask(event, question_id, question)


def settled(event: SignalEvent, answer: Decided) -> None:
    """It is no contradiction any more: nobody needs the answer."""
    question = event.session.escalations.get(answer.escalation)
    if (
        question is not None
        and question.subject == CONTRADICTION
        and question.state is EscalationState.OPEN
    ):
        by = answer.by or SYNTHESIZER
        close(event, answer.escalation, question, answer.decision, by)


def decided(event: Event, asked: EscalationRecord) -> None:
    """A person has decided: the synthesizer is told which value holds."""
    if not isinstance(asked.context, Raw):
        return
    context = msgspec.json.decode(asked.context, type=Context)
    chosen = next(one for one in context.values if one.agent == asked.decision)
    rejected = [one.digest for one in context.values if one is not chosen]
    event.give_to_results(
        _encode(
            Settled(context.part, asked.decision, asked.by, chosen.digest, rejected, chosen.value)
        )
    )


def _question(session: SessionState, part: str, payload: ConflictDetected) -> EscalationRecord:
    # Anybody may have said so: what is kept of it is bounded here, not by who sends it.
    rivals = payload.values[:VALUES_TOLD_MAX]
    says = [f"{listed(rival.agents)} {_verb(rival)} {_shown(rival)}" for rival in rivals]
    options = [rival.agents[0] for rival in rivals]
    text = f"{part}: {'; '.join(says)}. Whose value holds?"
    question = pose(session, CONTRADICTION, text, options, about=part)
    question.concerned = list(dict.fromkeys(payload.agents))
    choices = [Choice(rival.agents[0], rival.digest, shareable(rival.value)) for rival in rivals]
    question.context = Raw(_encode(Context(part, choices)))
    return question


def _verb(rival: Rival) -> str:
    return "says" if len(rival.agents) == 1 else "say"


def _shown(rival: Rival) -> str:
    text = bytes(rival.value).decode() if isinstance(rival.value, Raw) else "a long value"
    sure = f" ({rival.confidence:.0%} sure)" if isinstance(rival.confidence, float) else ""
    cut = len(text) > VALUE_SHOWN_CHARS_MAX
    return (text[: VALUE_SHOWN_CHARS_MAX - 1] + "…" if cut else text) + sure
