"""After the server has lost messages, an agent reads the new ones, even under known ids."""

import pytest

from fabric.client.history import HISTORY_MAX, ReadHistory
from fabric.store.keys import Namespace
from fabric.store.port import BEGINNING
from fabric.testing.store import MemoryStore

KEYS = Namespace().partition(0).session("demo")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 1_000)


def say(store: MemoryStore, number: int, word: str) -> None:
    store.data.stream(KEYS.inbox("A")).append(b"%d-1" % number, [b"type", word.encode()], 1_000)


def lose(store: MemoryStore, *numbers: int) -> None:
    stream = store.data.stream(KEYS.inbox("A"))
    stream.delete({(number, 1) for number in numbers})
    stream.last = stream.ids[-1] if stream.ids else (0, 0)


async def read(store: MemoryStore, history: ReadHistory) -> None:
    for entry in await store.entries(KEYS.inbox("A"), b"-", b"+", 10_000):
        history.note(entry)


async def test_nothing_was_lost(store: MemoryStore) -> None:
    history = ReadHistory()
    assert await history.last_kept(store, KEYS.inbox("A")) is None
    say(store, 1, "PAUSE")
    await read(store, history)
    say(store, 2, "RESUME")
    assert await history.last_kept(store, KEYS.inbox("A")) is None


@pytest.mark.parametrize("instead", [(), ("NUDGE",), ("NUDGE", "WAIT", "PROCEED")])
async def test_messages_that_were_read_are_lost(
    store: MemoryStore, instead: tuple[str, ...]
) -> None:
    history = ReadHistory()
    for number, word in enumerate(("PAUSE", "RESUME", "PROCEED"), 1):
        say(store, number, word)
    await read(store, history)
    lose(store, 2, 3)
    for number, word in enumerate(instead, 2):
        say(store, number, word)
    assert await history.last_kept(store, KEYS.inbox("A")) == b"1-1"
    # From now on the history ends there: the next check finds nothing lost.
    assert await history.last_kept(store, KEYS.inbox("A")) is None


async def test_all_messages_are_lost(store: MemoryStore) -> None:
    history = ReadHistory()
    say(store, 1, "PAUSE")
    await read(store, history)
    lose(store, 1)
    assert await history.last_kept(store, KEYS.inbox("A")) == BEGINNING


async def test_more_is_lost_than_is_remembered(store: MemoryStore) -> None:
    history = ReadHistory()
    for number in range(1, HISTORY_MAX + 11):
        say(store, number, "PAUSE")
    await read(store, history)
    # The last message before the history is there, or it is not.
    lose(store, *range(11, HISTORY_MAX + 11))
    assert await history.last_kept(store, KEYS.inbox("A")) == b"10-1"
    await read(store, history)
    lose(store, *range(5, 11))
    assert await history.last_kept(store, KEYS.inbox("A")) == b"4-1"


async def test_the_message_at_the_start_of_reading_is_lost(store: MemoryStore) -> None:
    say(store, 3, "PAUSE")
    history = await ReadHistory.at(store, KEYS.inbox("A"), b"3-1")
    lose(store, 3)
    say(store, 3, "NUDGE")
    assert await history.last_kept(store, KEYS.inbox("A")) == BEGINNING


async def test_a_new_message_before_the_first_one_that_was_read(store: MemoryStore) -> None:
    """It is new, so it has to be read."""
    history = ReadHistory()
    say(store, 5, "PAUSE")
    await read(store, history)
    lose(store, 5)
    say(store, 4, "NUDGE")
    assert await history.last_kept(store, KEYS.inbox("A")) == BEGINNING
