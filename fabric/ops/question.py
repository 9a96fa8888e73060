"""Questions that wait for a person: which there are, and new ones as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from fabric.backoff import retry
from fabric.client.session import Session
from fabric.core.record import Escalation, EscalationState
from fabric.core.signal import SignalType
from fabric.errors import CallerError, NotFoundError
from fabric.ops.log import pages
from fabric.ops.overview import sessions
from fabric.store.keys import SessionKeys, partition_of
from fabric.store.port import BEGINNING, ClientStore, Entry

#: Types of the log entries that change a question.
_CHANGES = frozenset({SignalType.ESCALATE.value.encode(), SignalType.DECIDED.value.encode()})


class Question(NamedTuple):
    """An escalation, and where it was found. Its id is known within its session only."""

    session: str
    id: str
    record: Escalation

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
    newest = await retry(lambda: store.entries(keys.log, b"-", b"+", 1, newest_first=True))
    known: dict[str, Escalation] = {}
    changed = await retry(lambda: questions(session))
    yield changed
    async for page in pages(store, keys, newest[0][0] if newest else BEGINNING, follow=True):
        known |= {one.id: one.record for one in changed}
        changed = []
        if any(_is_change(entry) for entry in page):
            found = await retry(lambda: questions(session))
            changed = [one for one in found if _is_news(one, known)]
            yield changed


def _is_news(question: Question, known: dict[str, Escalation]) -> bool:
    # An asker may give the id of a decided question to its next one.
    before, now = known.get(question.id), question.record
    return before is None or (before.state, before.cause) != (now.state, now.cause)


def _is_change(entry: Entry) -> bool:
    flat = entry[1]
    return dict(zip(flat[::2], flat[1::2], strict=False)).get(b"type") in _CHANGES
