"""An agent's messages read a page at a time, by who comes and goes: a script, the command line.

An agent that stays uses its mailbox (`mailbox.py`); both keep the same place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from fabric.backoff import retry
from fabric.client.mailbox import parse_cursor
from fabric.client.message import Message, read
from fabric.client.session import BLOCK_MS
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore
from fabric.store.value import Id, parse_id

#: Messages read from each of the two streams at a time.
COUNT = 256

#: Where a reader is: last id seen in the inbox, and in the broadcast.
Place = list[bytes]


class Inbox:
    """What came for one agent, to itself and to everyone, in the order of the log."""

    def __init__(self, store: ClientStore, keys: SessionKeys, agent: str) -> None:
        self._store = store
        self._keys = keys
        self._agent = agent
        self._streams = (keys.inbox(agent), keys.broadcast)

    async def place(self) -> Place:
        """Return the stored place: what is after it is unread."""
        (stored,) = await self._store.fields(self._keys.cursors, [self._agent])
        return parse_cursor(stored)

    async def remember(self, place: Place) -> None:
        """Store a place."""
        await self._store.set_cursor(self._keys.cursors, self._agent, b" ".join(place))

    async def pages(
        self, place: Place, *, follow: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[list[Message], Place]]:
        """Yield messages after a place, page by page, each with the place where it ends.

        With `follow` also those to come, for ever, through outages; at most `limit` in all.
        """
        left = limit
        while left is None or left > 0:
            wanted = min(COUNT, left or COUNT)
            messages, place = await self._page(place, wanted, follow=follow)
            if messages:
                yield messages, place
                if left is not None:
                    left -= len(messages)
            elif not follow:
                return

    async def _page(self, place: Place, count: int, *, follow: bool) -> tuple[list[Message], Place]:
        after = dict(zip(self._streams, place, strict=True))
        if follow:
            found = await retry(lambda: self._store.read_streams(after, COUNT, BLOCK_MS))
        else:
            found = await self._store.read_streams(after, COUNT, 0)
        arrived: list[tuple[Id, int, Message]] = []
        horizon: Id | None = None
        for number, stream in enumerate(self._streams):
            entries = found.get(stream, [])
            for entry in entries:
                message = read(entry, to_everyone=number == 1)
                arrived.append((parse_id(entry[0]), number, message))
            if len(entries) == COUNT:
                # There may be more: what the other stream has beyond this must wait for it.
                last = parse_id(entries[-1][0])
                horizon = last if horizon is None else min(horizon, last)
        arrived.sort(key=lambda item: item[:2])
        taken = [item for item in arrived if horizon is None or item[0] <= horizon][:count]
        reached = list(place)
        for _, number, message in taken:
            reached[number] = message.id.encode()
        return [message for _, _, message in taken], reached
