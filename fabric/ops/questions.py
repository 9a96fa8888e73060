"""Questions that wait for a person: list them, follow them, answer one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from fabric.backoff import retry
from fabric.client.emitter import prepare
from fabric.client.sent_signal import SentSignal
from fabric.client.session import Session, last_id, pages
from fabric.core.escalation import DIGEST
from fabric.core.event import ORCHESTRATOR
from fabric.core.limits import listed
from fabric.core.record import EscalationRecord, EscalationState
from fabric.core.signal import SignalType
from fabric.errors import CallerError, NotAllowedError, NotFoundError, WaitTimeoutError
from fabric.ops.overview import sessions
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore
from fabric.view.synthesis import Synthesis
from fabric.view.text import rfc3339
from fabric.wire.stored import fields_of

#: Types of the log entries that change a question.
_CHANGES = frozenset({SignalType.ESCALATE.value.encode(), SignalType.DECIDED.value.encode()})


class Question(NamedTuple):
    """An escalation and its session, in which its id is unique.

    `waiting` are the agents that wait for the answer now; a question of the fabric's own names
    those that it concerns. `named` are the open questions that a digest names, by id.
    """

    session: str
    id: str
    record: EscalationRecord
    waiting: tuple[str, ...] = ()
    named: Mapping[str, EscalationRecord] = {}

    @property
    def is_awaited(self) -> bool:
        """Whether some agent waits for the answer, or the fabric itself."""
        return bool(self.record.subject or self.waiting)

    @property
    def is_open(self) -> bool:
        """Whether nobody has decided it yet."""
        return self.record.state is EscalationState.OPEN

    @property
    def is_asked(self) -> bool:
        """Whether it is open and asks a person by itself: no digest does, or will."""
        return self.is_open and not self.record.is_quiet


async def questions(session: Session) -> list[Question]:
    """Return a session's questions, open and decided, the oldest first."""
    records = await session.escalations()
    agents = await session.agents() if any(one.is_open for one in records.values()) else {}
    asks = {(id_, name) for name, agent in agents.items() for id_ in agent.asks}
    found = []
    for id_, record in records.items():
        named = dict.fromkeys(filter(None, [record.asker, *record.waiting]))
        waiting = [name for name in named if record.subject or (id_, name) in asks]
        found.append(Question(session.name, id_, record, tuple(waiting), _named(records, id_)))
    return sorted(found, key=_age)


async def all_questions(store: ClientStore, partitions: int) -> list[Question]:
    """Return the questions of all sessions of the namespace, the oldest first."""
    found: list[Question] = []
    for summary in await sessions(store, partitions):
        keys = store.namespace.partition(summary.partition).session(summary.name)
        found += await questions(Session(store, keys))
    return sorted(found, key=_age)


def _named(records: Mapping[str, EscalationRecord], id_: str) -> dict[str, EscalationRecord]:
    """Return the open questions that a digest names; none for other questions."""
    if records[id_].subject != DIGEST:
        return {}
    return {name: one for name, one in records.items() if one.is_open and one.digest == id_}


def _age(question: Question) -> tuple[int, str, str]:
    return question.record.asked_ms, question.session, question.id


async def session_of(store: ClientStore, partitions: int, id_: str) -> str:
    """Return the name of the session that has a question of this id.

    If several have one, an open question goes first. Raises NotFoundError when there is none, and
    CallerError when it is not clear which is meant.
    """
    named = [one for one in await all_questions(store, partitions) if one.id == id_]
    meant = [one for one in named if one.is_open] or named
    if not meant:
        raise NotFoundError(f"no question {id_} in any session (fabric escalations)")
    if len(meant) > 1:
        places = ", ".join(one.session for one in meant)
        raise CallerError(f"several sessions have a question {id_}: name one of {places}")
    return meant[0].session


async def follow(store: ClientStore, keys: SessionKeys) -> AsyncIterator[list[Question]]:
    """Yield a session's questions, then those that are new or newly decided, for ever."""
    session = Session(store, keys)
    # Note the place in the log first: what is logged while the records are read is then read again.
    place = await retry(lambda: last_id(store, keys.log))
    known: dict[str, tuple[EscalationState, str]] = {}
    changed = await retry(lambda: questions(session))
    yield changed
    async for page in pages(store, keys, place, follow=True):
        # An asker may use the id of a decided question again: then its cause is another.
        known |= {q.id: (q.record.state, q.record.cause) for q in changed}
        changed = []
        if any(fields_of(fields).get(b"type") in _CHANGES for _, fields in page):
            found = await retry(lambda: questions(session))
            changed = [q for q in found if known.get(q.id) != (q.record.state, q.record.cause)]
            yield changed


async def decide(
    session: Session, sent: SentSignal, asked: Question, answer: str, *, by: str, timeout_s: float
) -> tuple[Question, list[str]]:
    """Answer an open question as `by`; return it as decided, and the agents that were told.

    `sent` reads the session's log. Raises NotAllowedError when somebody else decides it meanwhile,
    or the orchestrator refuses the answer; CallerError for the name of an agent; WaitTimeoutError
    when the answer has not taken effect in time.
    """
    # The answer would count as that agent's sign of life.
    if by != asked.record.to and by in await session.agents():
        raise CallerError(f"{by} is an agent of session {asked.session}: name yourself with --by")
    payload = {"escalation": asked.id, "decision": answer, "by": by}
    decided = {"type": SignalType.DECIDED.value, "payload": payload}
    # Sent twice it means the same as once: the first one decides.
    await sent.send(prepare(decided, {"session": asked.session, "emitter": by}))
    try:
        async with asyncio.timeout(timeout_s):
            found = await _until_closed(session, sent, asked)
    except TimeoutError:

        async def handled() -> str:
            return "the orchestrator has handled the answer and not accepted it (fabric tail)"

        idle = "no orchestrator has handled it yet; is one running? (fabric status)"
        why = await sent.explain(handled, f"{idle} It takes effect as soon as one does")
        raise WaitTimeoutError(
            f"the answer to {asked.id} was sent, and after {timeout_s:g} s the question is still "
            f"open: {why}"
        ) from None
    if (found.record.decision, found.record.by) != (answer, by):
        raise NotAllowedError(f"somebody was quicker: {described(found)}")
    # A decided question has no waiting agents any more: the earlier record names them.
    waiting = [*asked.record.waiting, *found.record.waiting]
    told = dict.fromkeys([found.record.asker, *waiting, *found.record.concerned])
    return found, [name for name in told if name not in {"", ORCHESTRATOR}]


async def open_question(session: Session, id_: str, answer: str, *, free: bool) -> Question:
    """Return the question that an answer is for; `free` allows one that is not an option.

    Raises NotFoundError when there is no such question, NotAllowedError when it is decided already,
    and CallerError for a bad answer.
    """
    records = await session.escalations()
    if id_ not in records:
        await session.must_exist()
        left = [other for other, one in records.items() if one.state is EscalationState.OPEN]
        hint = f"open are {listed(left)}" if left else "none is open"
        raise NotFoundError(f"no question {id_} in session {session.name}: {hint}")
    question = Question(session.name, id_, records[id_])
    if not question.is_open:
        raise NotAllowedError(described(question))
    if not answer.strip():
        raise CallerError(f"the answer to {id_} is empty")
    options = question.record.options
    if options and answer not in options and not free:
        raise CallerError(
            f"{answer!r} is not one of the answers to {id_}, which are "
            f"{listed(list(map(repr, options)))}; --free allows another answer"
        )
    return question


def surest(synthesis: Synthesis, glob: str) -> dict[str, str | None]:
    """Return how the contradictions of matching parts are decided for the surest agent.

    Question → one of its answers; None where no value is surer than all others.
    """
    found: dict[str, str | None] = {}
    for part, one in synthesis.contradictions.items():
        if fnmatchcase(part, glob):
            sure = [max(claim.confidence or 0 for claim in claims) for claims in one.values]
            best = max(sure)
            is_clear = sure.count(best) == 1
            found[one.question] = one.options[sure.index(best)] if is_clear else None
    return found


async def _until_closed(session: Session, sent: SentSignal, asked: Question) -> Question:
    while True:
        await sent.read()
        record = (await retry(session.escalations)).get(asked.id)
        if record is None or record.cause != asked.record.cause:
            raise NotAllowedError(
                f"question {asked.id} was closed meanwhile; the log has the reason "
                f"(fabric tail {asked.session})"
            )
        if record.state is not EscalationState.OPEN:
            return Question(asked.session, asked.id, record)
        if sent.refusal is not None:
            raise NotAllowedError(f"the answer to {asked.id} was refused: {sent.refusal.reason}")


def described(question: Question) -> str:
    """Return a sentence that says how a question was decided."""
    record = question.record
    by = f" by {record.by}" if record.by else ""
    # As a literal: the answer may hold characters that move a terminal.
    at = rfc3339(record.decided_ms)
    return f"question {question.id} was decided{by} at {at}: {record.decision!r}"
