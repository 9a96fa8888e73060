"""Reading a session's log a page at a time, to its present end or for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fabric.backoff import retry
from fabric.client.session import BLOCK_MS, PAGE
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore, Entry


async def pages(
    store: ClientStore, keys: SessionKeys, after: bytes, *, follow: bool = False
) -> AsyncIterator[list[Entry]]:
    """Yield the log entries after an id; with `follow` also those to come, through outages."""
    place = {keys.log: after}
    while True:
        if follow:
            found = await retry(lambda: store.read_streams(place, PAGE, BLOCK_MS))
        else:
            found = await store.read_streams(place, PAGE, 0)
        entries = found.get(keys.log, [])
        if entries:
            place[keys.log] = entries[-1][0]
            yield entries
        elif not follow:
            return
