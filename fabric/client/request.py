"""Signals that wait for an answer: every message is shown to them, and none waits when refused.

A refused signal is answered by nobody: it lies in the partition's `dead` stream. That is shared by
all sessions, so it is read only while somebody waits, from where it ended when the first of them
began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fabric.client.emitter import Emitter
from fabric.client.message import Message
from fabric.client.voice import Voice
from fabric.core.signal import SignalType
from fabric.errors import DeadlockError, FabricError, NotAllowedError
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.wire.record import revived
from fabric.wire.stored import fields_of

#: What a message means for a request: its answer; None when it is not one. May raise FabricError.
Judge = Callable[[Message], Any]

#: Who is refused for these is heard no more, so nothing it waits for can come.
SILENCED = frozenset({b"ENDED", b"STALE_INCARNATION"})


class Request:
    """One signal, and the answers that have come to it."""

    def __init__(self, voice: Voice, judge: Judge) -> None:
        #: The signal's number; 0 before it is sent.
        self.number = 0
        self._voice = voice
        self._judge = judge
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    @property
    def label(self) -> tuple[bytes, bytes]:
        """Incarnation and number, as they stand in the signal's entry."""
        return str(self._voice.incarnation).encode(), str(self.number).encode()

    async def send(self, kind: SignalType, payload: dict[str, Any]) -> None:
        """Say it. Raises what Voice.say does."""
        await self._voice.say(kind, payload, numbered=self._numbered)

    def _numbered(self, number: int) -> None:
        self.number = number

    def hear(self, message: Message) -> None:
        """Look at a message."""
        try:
            answer = self._judge(message)
        except FabricError as error:
            answer = error
        if answer is not None:
            self._answers.put_nowait(answer)

    def fail(self, error: FabricError) -> None:
        """It was refused."""
        self._answers.put_nowait(error)

    async def answer(self) -> Any:
        """Return the next answer; raise what it was refused with."""
        found = await self._answers.get()
        if isinstance(found, FabricError):
            raise found
        return found


class Requests:
    """All that one agent waits for at a time."""

    def __init__(
        self, store: ClientStore, emitter: Emitter, voice: Voice, session: str, name: str, dead: str
    ) -> None:
        #: Key of the dead letters.
        self.dead = dead
        #: Where `dead` is to be read on from; None while nobody waits.
        self.place: bytes | None = None
        #: Told that somebody begins to wait.
        self.began: Callable[[], None] = lambda: None
        self._store = store
        self._emitter = emitter
        self._voice = voice
        self._session = session
        self._name = name
        self._open: list[Request] = []

    @property
    def are_open(self) -> bool:
        """Whether anybody waits."""
        return bool(self._open)

    @asynccontextmanager
    async def asking(self, judge: Judge) -> AsyncIterator[Request]:
        """Give a request to be sent; it hears what comes until the block ends."""
        request = Request(self._voice, judge)
        self._open.append(request)
        self.began()
        try:
            if self.place is None:
                newest = await self._emitter.retry(
                    lambda: self._store.entries(self.dead, b"-", b"+", 1, newest_first=True)
                )
                if self.place is None:
                    self.place = newest[0][0] if newest else BEGINNING
            yield request
        finally:
            self._open.remove(request)
            if not self._open:
                self.place = None

    def hear(self, message: Message) -> None:
        """Show a message to all who wait."""
        for request in list(self._open):
            request.hear(message)

    def read_letters(self, letters: list[Entry]) -> None:
        """Find what was refused among the dead letters that were read."""
        if self.place is None or not letters:
            return
        self.place = letters[-1][0]
        mine = (self._session, self._name, str(self._voice.incarnation))
        for _, flat in letters:
            known = fields_of(flat)
            raw = revived(flat) if len(flat) % 2 == 0 else []
            sent = fields_of(raw)
            who = (sent.get(b"session"), sent.get(b"emitter"), sent.get(b"incarnation"))
            if who == tuple(part.encode() for part in mine):
                self._refuse(sent.get(b"seq", b""), known)

    def _refuse(self, number: bytes, letter: dict[bytes, bytes]) -> None:
        is_silenced = letter.get(b"code") in SILENCED
        reason = letter.get(b"reason", b"no reason given").decode("utf-8", "replace")
        for request in list(self._open):
            if request.number and (is_silenced or number == str(request.number).encode()):
                request.fail(NotAllowedError(f"{self._name} was refused: {reason}"))


def cancelled(name: str, message: Message) -> FabricError:
    """Return the error that a CANCEL of something that was asked for means."""
    payload = message.payload
    reason = str(payload.get("reason") or "no reason given")
    if payload.get("code") == "DEADLOCK":
        cycle, affected = strings(payload.get("cycle")), strings(payload.get("affected"))
        return DeadlockError(reason, cycle, affected)
    return NotAllowedError(f"{name} was refused: {reason}")


def strings(value: Any) -> list[str]:
    """Return a list of texts; what else a person may have written there is left out."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
