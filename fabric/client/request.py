"""Signals that wait for an answer: each sees every message, and learns if it was refused.

Nobody answers a refused signal; it is moved to the partition's `dead` stream. All sessions share
that stream, so an agent reads it only while it waits, from where it ended when the wait began.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fabric.client.emitter import Sender
from fabric.client.message import Message
from fabric.client.session import Session, last_id
from fabric.core.directive import DirectiveType
from fabric.core.signal import SignalType
from fabric.errors import FabricError, NotAllowedError, UnavailableError
from fabric.store.port import Entry
from fabric.wire.record import sent_fields
from fabric.wire.stored import fields_of

#: Starts a coroutine that goes on by itself and ends with the agent.
Background = Callable[[Coroutine[Any, Any, FabricError | None]], asyncio.Task[FabricError | None]]

#: Returns a request's answer if a message is one, else None. Raises FabricError for a refusal.
Match = Callable[[Message], Any]

#: A server that is heard so much later than expected was out of reach, ms. No rule file gives an
#: agent up in a shorter time.
AWAY_MS = 1_000

#: Refused with one of these, an agent is not heard any more: no answer can come to any request.
_SILENCED = frozenset({b"CLOSED", b"ENDED", b"NAME_TAKEN", b"STALE_INCARNATION"})


class Request:
    """One signal, and the answers that have come to it."""

    def __init__(self, sender: Sender, match: Match) -> None:
        #: The signal's number; 0 before it is sent.
        self.number = 0
        self._sender = sender
        self._match = match
        #: What came as an answer, and errors that came instead.
        self.answers: asyncio.Queue[Any] = asyncio.Queue()

    @property
    def label(self) -> tuple[bytes, bytes]:
        """Incarnation and number, as the signal's entry has them."""
        return str(self._sender.incarnation).encode(), str(self.number).encode()

    async def send(self, kind: SignalType, payload: dict[str, Any]) -> None:
        """Send the signal. Raises what Sender.send does."""
        await self._sender.send(kind, payload, on_number=partial(setattr, self, "number"))

    def on_message(self, message: Message) -> None:
        """Keep the message's answer, if it is one."""
        try:
            answer = self._match(message)
        except FabricError as error:
            answer = error
        if answer is not None:
            self.answers.put_nowait(answer)

    async def answer(self) -> Any:
        """Return the next answer; raise the error that came instead."""
        found = await self.answers.get()
        if isinstance(found, FabricError):
            raise found
        return found


class Requests:
    """All requests of one incarnation, and what they and those who make them share."""

    def __init__(self, session: Session, sender: Sender, background: Background) -> None:
        self.session = session
        self.sender = sender
        self._background = background
        #: The agent.
        self.name = sender.name
        self.store = sender.emitter.store
        #: The key of the dead letters.
        self.dead = self.store.namespace.partition(sender.emitter.partition).dead
        #: Id of the last dead letter read; None while no request is open.
        self.place: bytes | None = None
        #: Called when a request opens; the mailbox sets it.
        self.on_open: Callable[[], None] = lambda: None
        #: Called when the server went back to an earlier moment.
        self.on_went_back: Callable[[], None] = lambda: None
        self.open: list[Request] = []
        #: Nothing was heard of the server for long enough that the agent may have been given up:
        #: what is read now may be from before that.
        self.was_away = False
        self._heard_s: float | None = None

    def heard(self, limit_ms: int) -> None:
        """Note that the mailbox has heard of the server; it should do so every `limit_ms`."""
        now_s = asyncio.get_running_loop().time()
        if self._heard_s is not None and now_s - self._heard_s > (limit_ms + AWAY_MS) / 1000:
            self.was_away = True
        self._heard_s = now_s

    @asynccontextmanager
    async def opened(self, match: Match, *, reads_dead: bool = True) -> AsyncIterator[Request]:
        """Give a request to be sent; until the block ends it sees every message.

        Without `reads_dead`, a refusal has to come as a message.
        """
        request = Request(self.sender, match)
        self.open.append(request)
        self.on_open()
        try:
            if self.place is None and reads_dead:
                last = await self.sender.emitter.retry(lambda: last_id(self.store, self.dead))
                if self.place is None:
                    self.place = last
            yield request
        finally:
            self.open.remove(request)
            if not self.open:
                self.place = None

    def attempt(self, call: Callable[[], Awaitable[object]]) -> asyncio.Task[FabricError | None]:
        """Make a call in the background, even if the caller is cancelled; its error is returned."""

        async def attempted() -> FabricError | None:
            try:
                await call()
            except FabricError as error:
                return error
            return None

        return self._background(attempted())

    def on_message(self, message: Message) -> None:
        """Show a message to all open requests."""
        payload = message.payload
        is_refusal = message.type == DirectiveType.NOTICE and payload.get("refused")
        if is_refusal and payload.get("incarnation") == self.sender.incarnation:
            self._refuse(payload.get("seq"), f"{payload.get('reason')}")
        for request in list(self.open):
            request.on_message(message)

    def confirmation(self, message: Message) -> bool | None:
        """Match the NOTICE that confirms the agent's last signal."""
        said = message.payload
        is_confirmation = message.is_confirmation and said.get("seq") == self.sender.seq
        return (is_confirmation and said.get("incarnation") == self.sender.incarnation) or None

    def fail_lost(self, known: int, first: int) -> None:
        """Fail the requests that the server has lost: those above `known`, and below `first`."""
        for request in list(self.open):
            if known < request.number < first:
                reason = f"{self.name}: the server has lost the request, which is too old to be "
                request.answers.put_nowait(UnavailableError(f"{reason}sent again: ask again"))

    def fail_all(self, error: FabricError) -> None:
        """Fail every request that was sent: no answer can come to any."""
        for request in list(self.open):
            if request.number:
                request.answers.put_nowait(error)

    def read_dead_letters(self, letters: list[Entry]) -> None:
        """Fail the requests whose signals are among the dead letters that were read."""
        if self.place is None or not letters:
            return
        self.place = letters[-1][0]
        mine = [self.session.name, self.name, str(self.sender.incarnation)]
        for _, flat in letters:
            sent = fields_of(sent_fields(flat) if len(flat) % 2 == 0 else [])
            origin = map(sent.get, (b"session", b"emitter", b"incarnation"))
            if list(origin) == [part.encode() for part in mine]:
                letter, seq = fields_of(flat), sent.get(b"seq", b"")
                reason = letter.get(b"reason", b"no reason given").decode("utf-8", "replace")
                if letter.get(b"code") in _SILENCED:
                    self.fail_all(NotAllowedError(f"{self.name} was refused: {reason}"))
                self._refuse(int(seq) if seq.isdigit() else 0, reason)

    def _refuse(self, number: Any, reason: str) -> None:
        for request in list(self.open):
            if request.number and request.number == number:
                request.answers.put_nowait(NotAllowedError(f"{self.name} was refused: {reason}"))
