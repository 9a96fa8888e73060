"""emit.lua: every result word."""

import asyncio
from typing import Any

from tests.store.backend import RedisBackend
from tests.store.lua import SIGNALS, evaluate

#: More bytes than a test sends.
MANY = 10**9


async def test_emitted(real: RedisBackend) -> None:
    word, *ids = await evaluate(
        real, "emit", [SIGNALS], 10, MANY, 2, "a", b"\xff", 4, "b", "", "c", "3"
    )
    assert word == b"emitted"
    assert await real.call("XRANGE", SIGNALS, "-", "+") == [
        [ids[0], [b"a", b"\xff"]],
        [ids[1], [b"b", b"", b"c", b"3"]],
    ]


async def test_no_entries_append_nothing(real: RedisBackend) -> None:
    assert await evaluate(real, "emit", [SIGNALS], 10, MANY) == [b"emitted"]
    assert await real.dump() == {}


async def test_overloaded(real: RedisBackend) -> None:
    await evaluate(real, "emit", [SIGNALS], 2, MANY, 2, "a", "1", 2, "a", "2")
    before = await real.dump()
    for most in (2, 1, 0):
        reply = await evaluate(real, "emit", [SIGNALS], most, MANY, 2, "a", "3")
        assert reply == [b"overloaded", 2, 0]
    assert await real.dump() == before


async def test_many_signals_are_appended_at_once(real: RedisBackend) -> None:
    """They have more arguments in all than Lua passes to one command."""
    arguments = [part for number in range(5_000) for part in (2, "n", number)]
    word, *ids = await evaluate(real, "emit", [SIGNALS], 10_000, MANY, *arguments)
    assert word == b"emitted"
    assert len(set(ids)) == await real.call("XLEN", SIGNALS) == 5_000


async def test_it_is_bounded_in_bytes(real: RedisBackend) -> None:
    """Whatever comes first: a few small entries hide no large ones."""

    async def emit(value: object, most: int = 1_000_000) -> list[Any]:
        reply: list[Any] = await evaluate(real, "emit", [SIGNALS], 1_000, most, 2, "n", value)
        return reply

    for number in range(20):
        await emit(number)
    large = "x" * 100_000
    replies = [await emit(large) for _ in range(12)]
    taken = sum(word == b"emitted" for word, *_ in replies)
    assert 7 <= taken < 11
    word, held, used = replies[-1]
    assert (word, held, 800_000 < used < 1_100_000) == (b"overloaded", 20 + taken, True)
    # Small ones are refused too, at the latest at every 16th.
    assert (await asyncio.gather(*(emit(n, used) for n in range(17))))[-1][0] == b"overloaded"


async def test_one_entry_may_be_larger_than_all_that_may_wait(real: RedisBackend) -> None:
    word, *_ = await evaluate(real, "emit", [SIGNALS], 10, 1_000, 2, "n", "x" * 50_000)
    assert word == b"emitted"


async def test_a_stream_that_was_emptied_takes_one_larger_entry_too(real: RedisBackend) -> None:
    """The stream itself takes memory, with nothing in it."""
    _, small = await evaluate(real, "emit", [SIGNALS], 10, MANY, 2, "n", 1)
    await real.call("XDEL", SIGNALS, small)
    assert await real.call("MEMORY", "USAGE", SIGNALS) > 0
    word, large = await evaluate(real, "emit", [SIGNALS], 10, 1_000, 2, "n", "x" * 50_000)
    assert word == b"emitted"
    # It fills the stream until it is read.
    word, held, _ = await evaluate(real, "emit", [SIGNALS], 10, 1_000, 2, "n", "x" * 50_000)
    assert (word, held) == (b"overloaded", 1)
    await real.call("XDEL", SIGNALS, large)
    assert (await evaluate(real, "emit", [SIGNALS], 10, 1_000, 2, "n", "x"))[0] == b"emitted"


async def test_who_may_not_ask_for_memory_is_bounded_in_entries(real: RedisBackend) -> None:
    await real.call("ACL", "SETUSER", "few", "on", "nopass", "~*", "+@all", "-memory")
    await real.call("AUTH", "few", "")
    try:
        for _ in range(3):
            reply = await evaluate(real, "emit", [SIGNALS], 3, 1_000, 2, "n", "x" * 50_000)
            assert reply[0] == b"emitted"
        assert await evaluate(real, "emit", [SIGNALS], 3, 1_000, 2, "n", 1) == [b"overloaded", 3, 0]
    finally:
        await real.call("AUTH", "default", "")
