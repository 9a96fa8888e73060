"""Reads an inbox in this process, so that a test can change the size of a page."""

import asyncio

from fabric.ops.script import Inbox
from fabric.store.port import BEGINNING
from fabric.store.redis import RedisStore


def all_pages(url: str, session: str, agent: str) -> list[list[str]]:
    """Return the ids of all messages for an agent, page by page."""

    async def read() -> list[list[str]]:
        store = RedisStore(url)
        try:
            inbox = Inbox(store, store.namespace.partition(0).session(session), agent)
            pages = inbox.pages([BEGINNING, BEGINNING])
            return [[message.id for message in messages] async for messages, _ in pages]
        finally:
            await store.close()

    return asyncio.run(read())
