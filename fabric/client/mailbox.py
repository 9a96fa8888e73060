"""An agent's incoming side: inbox and broadcast read in the order of the log, the place kept."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from fabric.backoff import Backoff, Outage
from fabric.client.message import Message, read
from fabric.client.request import Requests
from fabric.client.trail import Trail
from fabric.client.voice import handled_hops
from fabric.errors import NotAllowedError, ServerError
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import parse_id

logger = logging.getLogger("fabric.mailbox")

#: Messages read at a time.
COUNT = 256

#: Messages kept for `messages()`; while so many are unread, reading pauses. Nothing is dropped:
#: they stay in the inbox.
UNREAD_MAX = 10_000

#: Ceilings of the first and of the longest pause after the server has failed, ms.
RETRY_FIRST_MS = 50
RETRY_LONGEST_MS = 1_000

#: Reads in a row that brought nothing, after which it is seen whether the server has gone back: one
#: that has become a replica may do so without breaking the connection. Half a minute, as a rule.
QUIET_READS_MAX = 15


class Listener(Protocol):
    """Who keeps something that messages change."""

    def hear(self, message: Message, *, is_new: bool) -> None:
        """Look at a message, each once, in the order of the log.

        `is_new`: it came after the agent last began; what is older was told to its predecessor.
        """


class Mailbox:
    """Reads on from where the agent last was, in this incarnation or the one before.

    Every message is heard by the listeners, then by the requests that wait for an answer, then kept
    for `messages()`. The place is stored as `messages()` takes them; for an agent that has not
    asked for any, when it ends well. After a crash, what was not taken is shown again.
    """

    def __init__(
        self,
        store: ClientStore,
        keys: SessionKeys,
        agent: str,
        block_ms: int,
        requests: Requests,
        listeners: Sequence[Listener],
    ) -> None:
        self._store = store
        self._keys = keys
        self._agent = agent
        self._block_ms = block_ms
        self._streams = (keys.inbox(agent), keys.broadcast)
        self._place = [BEGINNING, BEGINNING]
        self._taken = [BEGINNING, BEGINNING]
        self._unread: deque[Message] = deque()
        self._iterated = False
        #: More has come than was kept before anybody asked: it is to be read again.
        self._overflowed = False
        #: Of each stream, the last message that was there before this mailbox was opened, and the
        #: last that was heard.
        self._opened_at = [BEGINNING, BEGINNING]
        self._heard = [BEGINNING, BEGINNING]
        self._trails = [Trail(), Trail()]
        #: Reads since it was last known that the server holds what was read; past the limit after a
        #: failure, too.
        self._quiet = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._requests = requests
        # Whoever handles a message may wait for an answer, which lies behind all that is unread.
        requests.began = self._room.set
        self._listeners = listeners

    async def restore(self) -> None:
        """Find the stored place."""
        (stored,) = await self._store.fields(self._keys.cursors, [self._agent])
        self._place = parse_cursor(stored)
        for number, stream in enumerate(self._streams):
            newest = await self._store.entries(stream, b"-", b"+", 1, newest_first=True)
            last = newest[0][0] if newest else BEGINNING
            if parse_id(last) < parse_id(self._place[number]):
                # The server has gone back since, or somebody has deleted it: all of it is new.
                self._place[number] = BEGINNING
            self._opened_at[number] = last
            self._trails[number] = await Trail.at(self._store, stream, self._place[number])
        self._taken = list(self._place)

    async def run(self) -> None:
        """Read until cancelled, through every outage."""
        backoff = Backoff(RETRY_FIRST_MS, RETRY_LONGEST_MS)
        outage = Outage(f"{self._agent}: inbox", is_alarm=False, backoff=backoff)
        while True:
            try:
                if not self._requests.are_open:
                    await self._room.wait()
                if self._quiet >= QUIET_READS_MAX:
                    await self._look_back()
                after = dict(zip(self._streams, self._place, strict=True))
                wanted, letters_after = dict(after), self._requests.place
                if letters_after is not None:
                    wanted[self._requests.dead] = letters_after
                found = await self._store.read_streams(wanted, COUNT, self._block_ms)
                if list(after.values()) != self._place:
                    continue  # what was not kept is asked for now: read from there
            except (ServerError, NotAllowedError) as error:
                self._quiet = QUIET_READS_MAX
                await outage.failed(error)
                continue
            outage.worked()
            self._quiet += 1
            pages = [found.get(stream, []) for stream in self._streams]
            is_all = self._take(pages)
            if is_all:
                # A refusal may say why nothing comes, and what has come is known first.
                self._requests.read_letters(found.get(self._requests.dead, []))

    async def _look_back(self) -> None:
        """See whether the server still holds what was read; if not, read on from where it does."""
        for number, stream in enumerate(self._streams):
            turning = await self._trails[number].turning(self._store, stream)
            if turning is not None:
                self._go_back(number, turning)
        self._quiet = 0

    def _go_back(self, number: int, place: bytes) -> None:
        logger.warning(
            "%s: the server has lost messages that it had sent; reading %s again from %s",
            self._agent, self._streams[number], place.decode(),
        )  # fmt: skip
        self._place[number] = self._heard[number] = place
        for places in (self._taken, self._opened_at):
            places[number] = min(places[number], place, key=parse_id)
        # What was not taken yet has never happened.
        self._unread = deque(
            message
            for message in self._unread
            if message.to_everyone != bool(number)
            or parse_id(message.id.encode()) <= parse_id(place)
        )

    def _take(self, pages: list[list[Entry]]) -> bool:
        """Deliver what was read, in the order of the log; return whether that was all there was.

        What lies behind the end of a page that was cut off is left for the next time: something
        older than it may be missing.
        """
        ends = [parse_id(page[-1][0]) for page in pages if len(page) >= COUNT]
        upto = min(ends, default=None)
        messages: list[Message] = []
        for number, page in enumerate(pages):
            for entry in page:
                if upto is None or parse_id(entry[0]) <= upto:
                    messages.append(read(entry, to_everyone=number == 1))
                    self._place[number] = entry[0]
                    self._trails[number].note(entry)
        messages.sort(key=lambda message: parse_id(message.id.encode()))
        for message in messages:
            self._deliver(message)
        return upto is None

    def _deliver(self, message: Message) -> None:
        number, entry_id = int(message.to_everyone), message.id.encode()
        if parse_id(entry_id) > parse_id(self._heard[number]):
            self._heard[number] = entry_id
            is_new = parse_id(entry_id) > parse_id(self._opened_at[number])
            for listener in self._listeners:
                listener.hear(message, is_new=is_new)
            if is_new:
                self._requests.hear(message)
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

        Until then, what is said in this task answers it, and says so by its hops.
        """
        self._iterated = True
        if self._overflowed:
            self._overflowed = False
            self._unread.clear()
            self._place = list(self._taken)
        while True:
            while not self._unread:
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
            await self._remember(self._taken)

    async def leave(self) -> None:
        """Store the place of an agent that ends well and has not asked for its messages."""
        if not self._iterated and self._place != self._taken:
            await self._remember(self._place)

    async def _remember(self, place: list[bytes]) -> None:
        try:
            await self._store.set_cursor(self._keys.cursors, self._agent, b" ".join(place))
        except ServerError as error:
            logger.warning("%s: place in the inbox not stored: %s", self._agent, error)


def parse_cursor(stored: bytes | None) -> list[bytes]:
    """Read a stored place: id in the inbox, id in the broadcast; the beginning if there is none."""
    ids = (stored or b"").split()
    if len(ids) != 2:
        return [BEGINNING, BEGINNING]
    try:
        for entry_id in ids:
            parse_id(entry_id)
    except ValueError:
        return [BEGINNING, BEGINNING]
    return ids
