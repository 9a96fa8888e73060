"""An entry by hand under a far id was read, and then removed: readers go back and skip nothing."""

from contextlib import aclosing

import pytest

from fabric.client.session import Session, pages
from fabric.ops.script import Inbox
from fabric.store.keys import Namespace
from fabric.store.keyspace import Keyspace
from fabric.store.port import BEGINNING
from fabric.store.value import parse_id
from fabric.testing.store import MemoryStore
from tests.client.test_synthesis_following import spoken
from tests.support.stored_synthesis import KEYS as SYNTHESIS
from tests.support.stored_synthesis import put, session, store_of

KEYS = Namespace().partition(0).session("demo")
FAR = b"18446744073709551615-0"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 1_000)


def add(store: MemoryStore, key: str, entry_id: bytes) -> None:
    cause = entry_id.partition(b"-")[0] + b"-0"
    store.data.stream(key).append(entry_id, [b"type", b"NUDGE", b"cause", cause], 1_000)
    store.data.wake()


def remove(store: MemoryStore, key: str) -> None:
    """Do what a worker does when it replaces the stream."""
    stream = store.data.stream(key)
    stream.delete({parse_id(FAR)})
    stream.last = stream.ids[-1]


async def test_who_follows_a_log_goes_on(store: MemoryStore) -> None:
    store.data.hash(KEYS.meta)[b"opened_ms"] = b"1"
    for entry_id in (b"1-0", FAR):
        add(store, KEYS.log, entry_id)
    following = pages(store, KEYS, BEGINNING, follow=True)
    assert [i for i, _ in await anext(following)] == [b"1-0", FAR]
    remove(store, KEYS.log)
    add(store, KEYS.log, b"2-0")
    assert [i for i, _ in await anext(following)] == [b"2-0"]


async def test_who_follows_an_inbox_goes_on(store: MemoryStore) -> None:
    inbox = Inbox(store, KEYS, "A")
    for entry_id in (b"1-1", FAR):
        add(store, KEYS.inbox("A"), entry_id)
    following = inbox.pages(await inbox.place(), follow=True)
    messages, place = await anext(following)
    assert [message.id for message in messages] == ["1-1", FAR.decode()]
    await inbox.remember(place)
    remove(store, KEYS.inbox("A"))
    add(store, KEYS.inbox("A"), b"2-1")
    messages, _ = await anext(following)
    assert [message.id for message in messages] == ["2-1"]
    # A place beyond what is there tells nothing: everything counts as new.
    assert await inbox.place() == [BEGINNING, BEGINNING]


async def test_who_follows_a_synthesis_goes_on() -> None:
    folding, server = spoken("A", "B"), Keyspace()
    put(server, folding, folding.hash, 3)
    final = server.stream(SYNTHESIS.revisions)
    third = final.ids.pop(), final.fields.pop()
    final.append(FAR, [b"by", b"hand"], 0)
    server.hash(SYNTHESIS.synthesis)[b"revision"] = b"2"
    following: Session = session(store_of(server))
    seen = []
    async with aclosing(following.revisions()) as revisions:
        seen += [(await anext(revisions)).number, (await anext(revisions)).number]
        final.delete({parse_id(FAR)})
        final.last = final.ids[-1]
        final.append(b"%d-%d" % third[0], third[1], 0)
        server.hash(SYNTHESIS.synthesis)[b"revision"] = b"3"
        server.wake()
        seen += [one.number async for one in revisions]
    assert seen == [1, 2, 3]
