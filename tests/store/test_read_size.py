"""Reads of large entries: as many at a time as fit a bound, and all of them in the end."""

from typing import Any

import pytest

from fabric.errors import UnreachableError
from fabric.store.connection import Channel
from fabric.store.keys import Namespace
from fabric.store.port import BEGINNING, Entry
from fabric.store.read_size import COUNT_FIRST, ReadSize
from fabric.store.redis import READ_BYTES_MAX, RedisStore
from tests.store.backend import RedisBackend

LOG = Namespace().partition(0).session("s").log

#: Entries of the stream, and bytes of each: far more than one reply may hold.
ENTRIES, BYTES = 120, 300_000


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of entries that were asked for, in order."""
    counts: list[int] = []
    send = Channel.call

    async def call(channel: Channel, *command: Any, block_ms: int = 0) -> Any:
        if "COUNT" in command:
            counts.append(command[command.index("COUNT") + 1])
        return await send(channel, *command, block_ms=block_ms)

    monkeypatch.setattr(Channel, "call", call)
    return counts


async def fill(real: RedisBackend) -> RedisStore:
    for number in range(1, ENTRIES + 1):
        await real.call("XADD", LOG, f"{number}-0", "f", b"x" * BYTES)
    return real.open()


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry_id.split(b"-")[0]) for entry_id, _ in entries]


async def test_large_entries_are_read_in_parts(real: RedisBackend, asked: list[int]) -> None:
    store = await fill(real)
    everything = list(range(1, ENTRIES + 1))
    assert numbers(await store.entries(LOG, b"-", b"+", 500)) == everything
    newest = await store.entries(LOG, b"-", b"+", 50, newest_first=True)
    assert numbers(newest) == everything[:-51:-1]
    assert numbers(await store.entries(LOG, b"(7-0", b"80-0", 500)) == everything[7:80]
    found = await store.read_streams({LOG: BEGINNING}, 100, 0)
    assert numbers(found[LOG]) == everything[:100]
    assert asked[0] == COUNT_FIRST
    assert max(asked[1:]) * BYTES <= READ_BYTES_MAX


async def test_small_entries_are_read_at_once(real: RedisBackend, asked: list[int]) -> None:
    store = real.open()
    for number in range(1, 401):
        await real.call("XADD", LOG, f"{number}-0", "f", "x")
    for _ in range(5):
        await store.entries(LOG, b"-", b"+", 400)
    asked.clear()
    assert len(await store.entries(LOG, b"-", b"+", 400)) == 400
    assert asked == [400]


def test_a_read_without_an_answer_is_followed_by_smaller_ones() -> None:
    size = ReadSize(256, 1_000_000)
    for expected in (16, 8, 4, 2, 1, 1):
        with pytest.raises(UnreachableError), size.watched():
            raise UnreachableError("no reply")
        assert size.count == expected
    size.note([(b"1-0", [b"x" * 2_000_000])])
    assert size.count == 1
    size.note([(b"1-0", [b"x"])])
    assert size.count == 2


def test_a_slow_link_gets_fewer_at_a_time_until_it_is_quick_again() -> None:
    size = ReadSize(256, 1_000_000)
    small: list[Entry] = [(b"1-0", [b"f", b"x"])] * 256
    for _ in range(4):
        size.note(small)
    assert size.count == 256
    size.took(4_000, 1_000)
    size.note(small)
    assert size.count == 64
    size.took(600, 1_000)
    size.note(small)
    assert size.count == 64, "just right"
    for _ in range(3):
        size.took(100, 1_000)
        size.note(small)
    assert size.count == 256
    size.took(10**9, 1_000)
    size.note(small)
    assert size.count == 1
