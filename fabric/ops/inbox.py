"""An agent's messages, page by page, for commands and scripts that read and exit (`fabric inbox`).

A running agent uses `fabric.client.mailbox` instead; both store the same place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from fabric.backoff import retry
from fabric.client.mailbox import COUNT, merge, parse_cursor
from fabric.client.message import Message, read
from fabric.client.session import BLOCK_MS
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore

#: A place in the messages: the last id read in the inbox, and in the broadcast stream.
Place = list[bytes]


class Inbox:
    """The messages to one agent and to everyone, in the order of the log."""

    def __init__(self, store: ClientStore, keys: SessionKeys, agent: str) -> None:
        self._store = store
        self._keys = keys
        self._agent = agent
        self._streams = (keys.inbox(agent), keys.broadcast)

    async def place(self) -> Place:
        """Return the stored place: later messages are unread."""
        (stored,) = await self._store.fields(self._keys.cursors, [self._agent])
        return parse_cursor(stored)

    async def remember(self, place: Place) -> None:
        """Store a place."""
        await self._store.set_cursor(self._keys.cursors, self._agent, b" ".join(place))

    async def pages(
        self, place: Place, *, follow: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[list[Message], Place]]:
        """Yield pages of messages after a place, each with the place at its end.

        With `follow`, wait for more, for ever and through outages. `limit` bounds the messages.
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
        merged, _ = merge([found.get(stream, []) for stream in self._streams], COUNT)
        reached, messages = list(place), []
        for number, entry in merged[:count]:
            reached[number] = entry[0]
            messages.append(read(entry, to_everyone=number == 1))
        return messages, reached
