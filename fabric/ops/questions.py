"""Questions that wait for a person: list them, follow them, answer one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from fabric.backoff import retry
from fabric.client.emitter import Emitter, prepare
from fabric.client.session import PAGE, Session, last_id, pages
from fabric.client.synthesis import BLOCK_MS
from fabric.core.decision import ORCHESTRATOR
from fabric.core.limits import listed
from fabric.core.record import EscalationRecord, EscalationState
from fabric.core.signal import SignalType
from fabric.errors import (
    CallerError,
    NotAllowedError,
    NotFoundError,
    ServerError,
    TamperedError,
    WaitTimeoutError,
)
from fabric.ops.overview import sessions
from fabric.store.keys import ORCHESTRATORS, Partition, SessionKeys, partition_of
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import parse_id
from fabric.view.text import rfc3339
from fabric.wire.stored import fields_of

#: Types of the log entries that change a question.
_CHANGES = frozenset({SignalType.ESCALATE.value.encode(), SignalType.DECIDED.value.encode()})


class Question(NamedTuple):
    """An escalation, and where it was found. Its id is known within its session only."""

    session: str
    id: str
    record: EscalationRecord

    @property
    def is_open(self) -> bool:
        """Whether nobody has decided yet."""
        return self.record.state is EscalationState.OPEN


async def questions(session: Session) -> list[Question]:
    """Return a session's questions, open and decided, the oldest first."""
    records = await session.escalations()
    found = [Question(session.name, id_, record) for id_, record in records.items()]
    return sorted(found, key=_age)


async def all_questions(store: ClientStore, partitions: int) -> list[Question]:
    """Return the questions of all sessions of the namespace, the oldest first."""
    found: list[Question] = []
    for summary in await sessions(store, partitions):
        keys = store.namespace.partition(summary.partition).session(summary.name)
        found += await questions(Session(store, keys))
    return sorted(found, key=_age)


def _age(question: Question) -> tuple[int, str, str]:
    return question.record.asked_ms, question.session, question.id


async def session_of(store: ClientStore, partitions: int, id_: str) -> SessionKeys:
    """Return the keys of the session that has a question of this id.

    Where several have one, that is meant whose question is open. Raises NotFoundError when none
    has, CallerError when it is not clear which is meant.
    """
    named = [one for one in await all_questions(store, partitions) if one.id == id_]
    meant = [one for one in named if one.is_open] or named
    if not meant:
        raise NotFoundError(f"no question {id_} in any session (fabric escalations)")
    if len(meant) > 1:
        places = ", ".join(one.session for one in meant)
        raise CallerError(f"several sessions have a question {id_}: name one of {places}")
    name = meant[0].session
    return store.namespace.partition(partition_of(name, partitions)).session(name)


async def follow(store: ClientStore, keys: SessionKeys) -> AsyncIterator[list[Question]]:
    """Yield a session's questions, then those that are new or newly decided, for ever."""
    session = Session(store, keys)
    # The place in the log first: what is said while the records are read is read once more.
    last = await retry(lambda: last_id(store, keys.log))
    known: dict[str, EscalationRecord] = {}
    changed = await retry(lambda: questions(session))
    yield changed
    async for page in pages(store, keys.log, last, follow=True):
        known |= {one.id: one.record for one in changed}
        changed = []
        if any(_is_change(entry) for entry in page):
            found = await retry(lambda: questions(session))
            changed = [one for one in found if _is_news(one, known)]
            yield changed


def _is_news(question: Question, known: dict[str, EscalationRecord]) -> bool:
    # An asker may give the id of a decided question to its next one.
    before, now = known.get(question.id), question.record
    return before is None or (before.state, before.cause) != (now.state, now.cause)


def _is_change(entry: Entry) -> bool:
    flat = entry[1]
    return fields_of(flat).get(b"type") in _CHANGES


#: How long it is looked up why nothing came of an answer, s: the person wants to go on.
BLAME_S = 2.0


class Decider:
    """One person's answers to the questions of one session, given in the person's name."""

    def __init__(
        self,
        store: ClientStore,
        partition: Partition,
        keys: SessionKeys,
        emitter: Emitter,
        *,
        by: str,
    ) -> None:
        self._store = store
        self._partition = partition
        self._keys = keys
        self._session = Session(store, keys)
        self._emitter = emitter
        self._by = by

    async def decide(
        self, id_: str, answer: str, *, free: bool, timeout_s: float
    ) -> tuple[Question, list[str]]:
        """Answer an open question; return it as it was decided, and the agents that were told.

        `free` allows an answer that is not among the question's options. Raises NotFoundError when
        there is no such question; NotAllowedError when it is decided already, also when somebody
        else was quicker, or when the orchestrator refuses the answer; CallerError for an answer or
        a name that cannot be meant; WaitTimeoutError when no decision has come of it in time.
        """
        asked = await self._open(id_)
        self._check_answer(asked, answer, free=free)
        await self._check_name(asked)
        payload = {"escalation": id_, "decision": answer, "by": self._by}
        decided = {"type": SignalType.DECIDED.value, "payload": payload}
        entry = prepare(decided, {"session": self._keys.name, "emitter": self._by})
        streams = (self._keys.log, self._partition.dead)
        after = {key: await last_id(self._store, key) for key in streams}
        # Said twice, after a lost reply, it means the same as once: the first decides.
        (sent,) = await self._emitter.send([entry])
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._until_closed(asked, after, sent)
        except TimeoutError:
            raise WaitTimeoutError(
                f"the answer to {id_} was sent, and after {timeout_s:g} s the question is still "
                f"open: {await self._blame(sent)}"
            ) from None
        if (found.record.decision, found.record.by) != (answer, self._by):
            raise NotAllowedError(f"somebody was quicker: {described(found)}")
        return found, _told(asked, found)

    async def _open(self, id_: str) -> Question:
        records = await self._session.escalations()
        if id_ not in records:
            await self._session.must_exist()
            left = [other for other, one in records.items() if one.state is EscalationState.OPEN]
            hint = f"open are {listed(left)}" if left else "none is open"
            raise NotFoundError(f"no question {id_} in session {self._keys.name}: {hint}")
        question = Question(self._keys.name, id_, records[id_])
        if not question.is_open:
            raise NotAllowedError(described(question))
        return question

    @staticmethod
    def _check_answer(asked: Question, answer: str, *, free: bool) -> None:
        if not answer.strip():
            raise CallerError(f"an empty answer to {asked.id}: say what is decided")
        options = asked.record.options
        if options and answer not in options and not free:
            raise CallerError(
                f"{answer!r} is none of the answers to {asked.id}, which are "
                f"{listed([repr(option) for option in options])}; --free answers otherwise"
            )

    async def _check_name(self, asked: Question) -> None:
        """Refuse to speak as an agent: it would count as a sign of life of it."""
        if self._by == asked.record.to or self._by not in await self._session.agents():
            return
        raise CallerError(
            f"{self._by} is an agent of session {self._keys.name}: name who decides with --by"
        )

    async def _until_closed(
        self, asked: Question, after: dict[str, bytes], sent: bytes
    ) -> Question:
        while True:
            found = await retry(lambda: self._store.read_streams(after, PAGE, BLOCK_MS))
            after.update((key, entries[-1][0]) for key, entries in found.items() if entries)
            record = (await retry(self._session.escalations)).get(asked.id)
            if record is None or record.cause != asked.record.cause:
                raise NotAllowedError(
                    f"question {asked.id} was closed meanwhile; the log tells how "
                    f"(fabric tail {self._keys.name})"
                )
            if record.state is not EscalationState.OPEN:
                return Question(asked.session, asked.id, record)
            for letter in found.get(self._partition.dead, []):
                _check_letter(letter, sent, asked.id)

    async def _blame(self, sent: bytes) -> str:
        """Say why nothing came of an answer."""
        try:
            async with asyncio.timeout(BLAME_S):
                lease = self._partition.lease(ORCHESTRATORS)
                (committed,) = await self._store.fields(lease, ["committed"])
        except (ServerError, TimeoutError):
            return "the server is not there to say why"
        try:
            is_handled = parse_id(committed or BEGINNING) >= parse_id(sent)
        except ValueError:
            raise TamperedError(lease, "hash with a foreign field (committed)", "hash") from None
        if is_handled:
            return "the orchestrator has handled the answer and not taken it (fabric tail)"
        return (
            "no orchestrator has handled it yet; is one running? (fabric status) "
            "It counts as soon as one does"
        )


def described(question: Question) -> str:
    """Say in a sentence how a question was decided."""
    record = question.record
    at = rfc3339(record.decided_ms)
    by = f" by {record.by}" if record.by else ""
    # As a literal: the answer may hold what would move a terminal.
    return f"question {question.id} was decided{by} at {at}: {record.decision!r}"


def _told(asked: Question, decided: Question) -> list[str]:
    """Name the agents that get the answer: the asker, and who waits for it too."""
    # Nobody waits any more on one that is decided: those who did are in the earlier record.
    waiting = [*asked.record.waiting, *decided.record.waiting]
    names = dict.fromkeys([decided.record.asker, *waiting, *decided.record.concerned])
    return [name for name in names if name not in {"", ORCHESTRATOR}]


def _check_letter(letter: Entry, sent: bytes, id_: str) -> None:
    flat = letter[1]
    fields: dict[bytes, bytes] = fields_of(flat)
    if fields.get(b"id") == sent:
        reason = fields.get(b"reason", b"").decode("utf-8", "replace")
        raise NotAllowedError(f"the answer to {id_} was refused: {reason}")
