"""An agent's incoming side: inbox and broadcast read in the order of the log, the place kept."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from fabric.backoff import Backoff, Outage
from fabric.client.emitter import handled_hops
from fabric.client.history import ReadHistory
from fabric.client.message import Message, read
from fabric.client.request import Requests
from fabric.client.session import last_id
from fabric.errors import FabricError, NotAllowedError, ServerError
from fabric.store.port import BEGINNING, Entry
from fabric.store.value import parse_cursor, parse_id

logger = logging.getLogger("fabric.agent")

#: Messages read at a time, from each of the two streams.
COUNT = 256

#: Messages kept for `messages()`. While so many are unread, reading pauses; the rest stays in the
#: inbox, so nothing is dropped.
UNREAD_MAX = 10_000

#: Ceilings of the first and of the longest pause after the server has failed, ms.
RETRY_FIRST_MS = 50
RETRY_LONGEST_MS = 1_000

#: After so many reads in a row that brought nothing, the mailbox checks whether the server has lost
#: messages: a server that has become a replica can lose them without breaking the connection. It
#: takes about half a minute.
QUIET_READS_MAX = 15


class Listener(Protocol):
    """Part of an agent that messages change."""

    def on_message(self, message: Message, *, is_new: bool) -> None:
        """Take note of a message; called once for each, in the order of the log.

        `is_new`: it came after this incarnation began. An older one was meant for the one before.
        """


def merge(pages: Sequence[Sequence[Entry]], full: int) -> tuple[list[tuple[int, Entry]], bool]:
    """Merge a page of the inbox and one of the broadcast into the order of the log.

    Returns each entry with the number of its page, and whether all entries of the pages are
    returned. A page of `full` entries may be cut off; what comes after its end in the other page
    has to wait for the next read, since something older may be missing.
    """
    ends = [parse_id(page[-1][0]) for page in pages if len(page) >= full]
    end = min(ends, default=None)
    found = [
        (parse_id(entry[0]), number, entry) for number, page in enumerate(pages) for entry in page
    ]
    found.sort(key=lambda one: one[:2])
    merged = [(number, entry) for place, number, entry in found if end is None or place <= end]
    return merged, end is None


class Mailbox:
    """Reads on from where this incarnation, or the one before, has stopped.

    Each message goes to the listeners, then to the requests that wait for an answer; then it is
    kept for `messages()`. The place is stored as `messages()` hands messages out; for an agent that
    never asked for them, when it ends without an error. After a crash, messages that were not
    handed out are delivered again.
    """

    def __init__(self, requests: Requests, listeners: Sequence[Listener], block_ms: int) -> None:
        self._store = requests.store
        self._keys = requests.session.keys
        self._agent = requests.name
        self._block_ms = block_ms
        self._streams = (self._keys.inbox(self._agent), self._keys.broadcast)
        self._place = [BEGINNING, BEGINNING]
        self._taken = [BEGINNING, BEGINNING]
        self._unread: deque[Message] = deque()
        self._iterated = False
        #: Messages that `take` has returned last.
        self._handed_out: list[Message] = []
        #: More messages came than are kept before anybody asked for them: read them again.
        self._overflowed = False
        #: Of each stream: the last message before this mailbox was opened, and the last one that
        #: the listeners have seen.
        self._opened_at = [BEGINNING, BEGINNING]
        self._heard = [BEGINNING, BEGINNING]
        self._histories = [ReadHistory(), ReadHistory()]
        #: Reads since the mailbox last knew that the server still holds what was read; over the
        #: limit after a failure, too.
        self._quiet = 0
        #: Why nothing comes any more, once the incarnation is over.
        self._over: FabricError | None = None
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._requests = requests
        #: The look whether the server has lost what was sent.
        self._looking: asyncio.Task[FabricError | None] | None = None
        # The handler of a message may wait for an answer that lies behind all unread messages.
        requests.on_open = self._room.set
        self._listeners = listeners

    async def restore(self) -> None:
        """Find the stored place."""
        (stored,) = await self._store.fields(self._keys.cursors, [self._agent])
        self._place = parse_cursor(stored)
        for number, stream in enumerate(self._streams):
            last = await last_id(self._store, stream)
            if parse_id(last) < parse_id(self._place[number]):
                # The server has lost messages, or somebody has deleted them: all of it is new.
                self._place[number] = BEGINNING
            self._opened_at[number] = last
            self._histories[number] = await ReadHistory.at(self._store, stream, self._place[number])
        self._taken = list(self._place)
        self._requests.heard(self._block_ms)

    async def run(self) -> None:
        """Read until cancelled, through every outage."""
        backoff = Backoff(RETRY_FIRST_MS, RETRY_LONGEST_MS)
        outage = Outage(f"{self._agent}: inbox", is_alarm=False, backoff=backoff)
        while True:
            try:
                if not self._requests.open:
                    await self._room.wait()
                if self._quiet >= QUIET_READS_MAX or any(one.is_odd for one in self._histories):
                    await self._check_for_loss()
                after = dict(zip(self._streams, self._place, strict=True))
                wanted, letters_after = dict(after), self._requests.place
                if letters_after is not None:
                    wanted[self._requests.dead] = letters_after
                found = await self._store.read_streams(wanted, COUNT, self._block_ms)
                self._requests.heard(self._block_ms)
                if list(after.values()) != self._place:
                    continue  # `messages()` asked for what was not kept: read from there
            except (ServerError, NotAllowedError) as error:
                self._quiet = QUIET_READS_MAX
                await outage.failed(error)
                continue
            outage.worked()
            self._quiet += 1
            if self._take([found.get(stream, []) for stream in self._streams]):
                # A refusal may explain why no answer comes, so messages go first.
                self._requests.read_dead_letters(found.get(self._requests.dead, []))

    async def _check_for_loss(self) -> None:
        """If the server no longer holds what was read, go back to the last message it holds."""
        for number, stream in enumerate(self._streams):
            last_kept = await self._histories[number].last_kept(self._store, stream)
            if last_kept is not None:
                self._go_back(number, last_kept)
                self._requests.on_went_back()
        if self._looking is None or self._looking.done():
            # In the background: a full ingress must not keep messages from being read.
            self._looking = self._requests.attempt(self._requests.sender.send_lost_again)
        self._quiet = 0

    def _go_back(self, number: int, place: bytes) -> None:
        logger.warning(
            "%s: the server has lost messages that it had delivered; reading %s again from %s",
            self._agent, self._streams[number], place.decode(),
        )  # fmt: skip
        self._place[number] = self._heard[number] = place
        for places in (self._taken, self._opened_at):
            places[number] = min(places[number], place, key=parse_id)
        # Lost messages that were not handed out yet have never happened.
        self._unread = deque(
            message
            for message in self._unread
            if message.to_everyone != bool(number)
            or parse_id(message.id.encode()) <= parse_id(place)
        )

    def _take(self, pages: list[list[Entry]]) -> bool:
        """Deliver what was read, in the order of the log; return whether that was all of it."""
        merged, is_all = merge(pages, COUNT)
        for number, entry in merged:
            self._place[number] = entry[0]
            self._histories[number].note(entry)
            self._deliver(read(entry, to_everyone=number == 1))
        return is_all

    def _deliver(self, message: Message) -> None:
        number, entry_id = int(message.to_everyone), message.id.encode()
        if parse_id(entry_id) > parse_id(self._heard[number]):
            self._heard[number] = entry_id
            is_new = parse_id(entry_id) > parse_id(self._opened_at[number])
            for listener in self._listeners:
                listener.on_message(message, is_new=is_new)
            if is_new:
                self._requests.on_message(message)
        if message.is_confirmation:
            return  # what it answers knows it, and nobody else needs it
        self._unread.append(message)
        if not self._iterated:
            while len(self._unread) > UNREAD_MAX:
                self._unread.popleft()
                self._overflowed = True
        elif len(self._unread) >= UNREAD_MAX:
            self._room.clear()
        self._arrived.set()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Yield messages as they come. One counts as read when the next one is asked for.

        Until then, whatever this task sends is an answer to it, and carries its hops. Raises
        EndedError behind the last message when the incarnation is over.
        """
        self._iterated = True
        if self._overflowed:
            self._overflowed = False
            self._unread.clear()
            self._place = list(self._taken)
        while True:
            while not self._unread:
                if self._over is not None:
                    raise self._over
                self._arrived.clear()
                await self._arrived.wait()
            message = self._unread[0]
            handled_hops.set(message.hops)
            try:
                yield message
            finally:
                handled_hops.set(0)
            if not self._unread or self._unread[0] is not message:
                continue  # another iteration over the same messages has taken it
            self._unread.popleft()
            self._room.set()
            self._taken[1 if message.to_everyone else 0] = message.id.encode()
            await self._store_place(self._taken)

    async def take(self) -> list[Message]:
        """Return what has arrived since the last call; what that one returned counts as read."""
        self._iterated = True
        await self._store_handed_out()
        self._handed_out = list(self._unread)
        self._unread.clear()
        self._room.set()
        return self._handed_out

    def end(self, error: FabricError) -> None:
        """Let `messages()` end with an error behind what has come, as the incarnation is over."""
        self._over = error
        self._arrived.set()

    async def leave(self) -> None:
        """Store the place of an agent that ends without an error and never asked for messages."""
        await self._store_handed_out()
        if not self._iterated and self._place != self._taken:
            await self._store_place(self._place)

    async def _store_handed_out(self) -> None:
        """Count as read what `take` has returned last."""
        if not self._handed_out:
            return
        for message in self._handed_out:
            self._taken[message.to_everyone] = message.id.encode()
        self._handed_out = []
        await self._store_place(self._taken)

    async def _store_place(self, place: list[bytes]) -> None:
        try:
            await self._store.set_cursor(self._keys.cursors, self._agent, b" ".join(place))
        except ServerError as error:
            logger.warning("%s: place in the inbox not stored: %s", self._agent, error)
