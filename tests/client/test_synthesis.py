"""Reading a synthesis while it changes: every reading is one exact revision."""

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import jsonpatch
import msgspec
import pytest

from fabric.client import session as reading
from fabric.errors import NotFoundError, TamperedError
from fabric.store.keyspace import Keyspace
from fabric.store.redis import RedisStore
from fabric.testing.store import MemoryStore
from tests.support.folding import Folding, entry
from tests.support.servers import RunningServer
from tests.support.stored_synthesis import (
    KEYS,
    States,
    fields,
    put,
    revision_of,
    session,
    store_of,
    worked,
)

#: Seeds of random histories.
#: Every fourth runs in the default suite.
SEEDS = [pytest.param(seed, marks=[pytest.mark.slow] if seed % 4 else []) for seed in range(20)]


def patched(folding: Folding, number: int) -> Any:
    """Apply the patches up to a number to an empty document, with the library alone."""
    document: Any = {}
    for made in folding.revisions[:number]:
        document = jsonpatch.apply_patch(document, msgspec.json.decode(made), in_place=True)
    return document


class Moving(MemoryStore):
    """A store whose hash may move on to later states between two pages, never back."""

    def __init__(self, server: Keyspace, move: Callable[[], None]) -> None:
        super().__init__(lambda: 0, data=server)
        self._move = move

    async def scan(self, key: str, count: int) -> AsyncGenerator[dict[bytes, bytes], None]:
        async for page in super().scan(key, count):
            yield page
            self._move()


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FIELDS_PAGE", 3)
    monkeypatch.setattr(reading, "REVISIONS_PAGE", 3)


@pytest.mark.parametrize("seed", SEEDS)
async def test_at_every_revision_a_reading_equals_the_patches(seed: int) -> None:
    folding, states = worked(seed)
    server = Keyspace()
    for state in states:
        number = revision_of(state)
        put(server, folding, state, number)
        read = await session(store_of(server)).synthesis()
        assert read.revision == number
        assert read.document == patched(folding, number)
    for number in range(len(folding.revisions) + 1):
        read = await session(store_of(server)).synthesis(revision=number)
        assert read.document == patched(folding, number)


def moving(folding: Folding, states: States, start: int, stride: int) -> Moving:
    """Return a store at one of the states, which moves on by `stride` with each page."""
    server, at = Keyspace(), start

    def move() -> None:
        nonlocal at
        at = min(at + stride, len(states) - 1)
        put(server, folding, states[at], revision_of(states[at]))

    put(server, folding, states[start], revision_of(states[start]))
    return Moving(server, move)


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_reading_is_one_revision_although_others_come_between_its_pages(
    seed: int, stride: int
) -> None:
    folding, states = worked(seed)
    for start in range(1, len(states), 3):
        read = await session(moving(folding, states, start, stride)).synthesis()
        assert read.revision >= revision_of(states[start])
        assert read.document == patched(folding, read.revision)


async def test_a_large_synthesis_is_read_from_a_server_while_it_grows(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FIELDS_PAGE", 50)
    folding = Folding()
    for log in range(1, 60):
        partial = {f"p{log}-{n}": "text" for n in range(20)} | {"findings": [
            {"key": "k", "value": log, "supersedes": [f"s{log}"]},
            {"key": f"f{log % 7}", "value": log % 3},
        ]}  # fmt: skip
        folding.take([entry("AB"[log % 2], log, partial)])
        if log == 40:
            begun = dict(folding.hash), len(folding.revisions)
    store = RedisStore(server.url)
    pages = 0

    async def write(state: dict[str, bytes], after: int, upto: int) -> None:
        flat = [item for pair in state.items() for item in pair]
        await store.call("HSET", KEYS.synthesis, *flat)
        stored = await store.call("HKEYS", KEYS.synthesis)
        gone = [name for name in stored if name.decode() not in state]
        if gone:
            await store.call("HDEL", KEYS.synthesis, *gone)
        for number in range(after + 1, upto + 1):
            await store.call("XADD", KEYS.revisions, f"{number}-0", *fields(folding, number))

    original = store.scan

    async def scan(key: str, count: int) -> AsyncGenerator[dict[bytes, bytes], None]:
        nonlocal pages
        async for page in original(key, count):
            pages += 1
            yield page
            if pages == 5:
                await write(folding.hash, begun[1], len(folding.revisions))

    monkeypatch.setattr(store, "scan", scan)
    try:
        await write(begun[0], 0, begun[1])
        read = await session(store).synthesis()
        assert pages > 10
        assert read.revision == len(folding.revisions)
        assert read.document == patched(folding, read.revision)
        # And once more, undisturbed.
        assert (await session(store).synthesis()).document == read.document
    finally:
        await store.close()


async def test_no_revision_yet_is_an_empty_synthesis() -> None:
    read = await session(store_of(Keyspace())).synthesis()
    assert (read.revision, read.document, read.is_final) == (0, {}, False)
    assert (read.findings, read.plain, read.agents, read.contradictions) == ({}, {}, {}, {})


async def test_a_revision_that_does_not_exist_yet_is_named() -> None:
    folding, states = worked(1)
    server = Keyspace()
    last = len(folding.revisions)
    with pytest.raises(NotFoundError, match="no revision 1 of demo: there is none yet"):
        await session(store_of(server)).synthesis(revision=1)
    put(server, folding, states[-1], last)
    with pytest.raises(NotFoundError, match=f"no revision 99 of demo: the last one is {last}"):
        await session(store_of(server)).synthesis(revision=99)


async def test_trimmed_revisions_are_missed_only_where_they_are_needed() -> None:
    folding, states = worked(1)
    server, last = Keyspace(), len(folding.revisions)
    put(server, folding, states[-1], last)
    server.stream(KEYS.revisions).delete({(number, 0) for number in range(1, last - 1)})
    looking = session(store_of(server))
    assert (await looking.synthesis()).document == patched(folding, last)
    for wanted in (1, last):
        with pytest.raises(NotFoundError, match="revision 1 of demo is gone: only the latest"):
            await looking.synthesis(revision=wanted)
    with pytest.raises(NotFoundError, match="revision 1 of demo is gone"):
        [one async for one in looking.revisions(follow=False)]
    server.stream(KEYS.revisions).delete({(last - 1, 0), (last, 0)})
    assert (await looking.synthesis()).document["findings"] == patched(folding, last)["findings"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"findings:x", b"{"),
        (b"agents:x", b"\xff"),
        (b"agents:x", b"[]"),
        (b"items:/x=1", b"1"),
        (b"contradictions:x", b"{}"),
        (b"complete", b"[]"),
        (b"\xff", b"{}"),
        (b"revision", b"many"),
        (b"document:/x", b"{}"),
    ],
)
async def test_a_foreign_field_is_an_error_that_names_the_key(field: bytes, value: bytes) -> None:
    folding, states = worked(1)
    server = Keyspace()
    put(server, folding, states[-1], len(folding.revisions))
    server.hash(KEYS.synthesis)[field] = value
    with pytest.raises(TamperedError, match=re.escape(KEYS.synthesis)):
        await session(store_of(server)).synthesis()
