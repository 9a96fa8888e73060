"""An agent's incoming side: inbox and broadcast read in order, waits answered, the place kept."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator

from fabric.client.message import Message, read
from fabric.errors import DependencyFailedError, NotAllowedError, ServerError
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore
from fabric.store.stream import parse_id

logger = logging.getLogger("fabric.mailbox")

#: Messages read at a time.
COUNT = 256

#: Messages kept for `messages()`; while so many are unread, reading pauses. Nothing is dropped:
#: they stay in the inbox.
UNREAD_MAX = 10_000

#: Pause after the server failed, s.
RETRY_S = 0.5


class Mailbox:
    """Reads on from where the agent last was, in this incarnation or the one before.

    The place is stored as `messages()` takes them; for an agent that has not asked for any, when it
    ends well. After a crash, what was not taken is shown again.
    """

    def __init__(self, store: ClientStore, keys: SessionKeys, agent: str, block_ms: int) -> None:
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
        #: The last message that was there before this mailbox was opened.
        self._opened_at = BEGINNING
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._waits: dict[str, list[asyncio.Future[str | None]]] = {}
        #: Dependency → location, of all that were resolved while this mailbox was open.
        self.locations: dict[str, str | None] = {}

    async def restore(self) -> None:
        """Find the stored place."""
        (stored,) = await self._store.fields(self._keys.cursors, [self._agent])
        self._place = parse_cursor(stored)
        self._taken = list(self._place)
        newest = await self._store.entries(self._streams[0], b"-", b"+", 1, newest_first=True)
        self._opened_at = newest[0][0] if newest else BEGINNING

    async def run(self) -> None:
        """Read until cancelled, through every outage."""
        while True:
            try:
                await self._room.wait()
                after = dict(zip(self._streams, self._place, strict=True))
                found = await self._store.read_streams(after, COUNT, self._block_ms)
                if list(after.values()) != self._place:
                    continue  # what was not kept is asked for now: read from there
            except (ServerError, NotAllowedError) as error:
                logger.warning("%s: inbox: %s", self._agent, error)
                await asyncio.sleep(RETRY_S)
                continue
            messages = []
            for number, stream in enumerate(self._streams):
                entries = found.get(stream, [])
                messages += [read(entry, to_everyone=number == 1) for entry in entries]
                if entries:
                    self._place[number] = entries[-1][0]
            messages.sort(key=lambda message: parse_id(message.id.encode()))
            for message in messages:
                self._deliver(message)

    def _deliver(self, message: Message) -> None:
        dependency = message.payload.get("dependency_id")
        if isinstance(dependency, str) and not message.to_everyone:
            waiting = [wait for wait in self._waits.get(dependency, []) if not wait.done()]
            if message.type == "DEPENDENCY_RESOLVED":
                location = message.payload.get("output_location")
                self.locations[dependency] = location
                for wait in waiting:
                    wait.set_result(location)
            elif message.type == "FAILED" and self._is_new(message):
                reason = message.payload.get("error") or "no reason given"
                for wait in waiting:
                    wait.set_exception(
                        DependencyFailedError(
                            f"{message.sender} failed to produce {dependency}: {reason}"
                        )
                    )
        self._unread.append(message)
        if not self._iterated:
            while len(self._unread) > UNREAD_MAX:
                self._unread.popleft()
                self._overflowed = True
        elif len(self._unread) >= UNREAD_MAX:
            self._room.clear()
        self._arrived.set()

    def _is_new(self, message: Message) -> bool:
        """Whether it came in this incarnation: a failure told to an earlier one may be over."""
        return parse_id(message.id.encode()) > parse_id(self._opened_at)

    def expect(self, dependency: str) -> asyncio.Future[str | None]:
        """Return what will hold the location, or the failure, of a dependency."""
        wait: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waits.setdefault(dependency, []).append(wait)
        return wait

    def unexpect(self, dependency: str, wait: asyncio.Future[str | None]) -> None:
        """Stop waiting; no-op when it has been stopped."""
        waits = self._waits.get(dependency, [])
        if wait in waits:
            waits.remove(wait)
            wait.cancel()
        if not waits:
            self._waits.pop(dependency, None)

    def expects(self, dependency: str) -> bool:
        """Whether anybody waits for a dependency."""
        return dependency in self._waits

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Yield messages as they come. One counts as read when the next one is asked for."""
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
            yield message
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
