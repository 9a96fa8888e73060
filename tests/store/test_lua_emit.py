"""emit.lua: every result word."""

from tests.store.backend import RedisBackend
from tests.store.lua import SIGNALS, evaluate


async def test_emitted(real: RedisBackend) -> None:
    word, *ids = await evaluate(real, "emit", [SIGNALS], 10, 2, "a", b"\xff", 4, "b", "", "c", "3")
    assert word == b"emitted"
    assert await real.call("XRANGE", SIGNALS, "-", "+") == [
        [ids[0], [b"a", b"\xff"]],
        [ids[1], [b"b", b"", b"c", b"3"]],
    ]


async def test_no_entries_append_nothing(real: RedisBackend) -> None:
    assert await evaluate(real, "emit", [SIGNALS], 10) == [b"emitted"]
    assert await real.dump() == {}


async def test_overloaded(real: RedisBackend) -> None:
    await evaluate(real, "emit", [SIGNALS], 2, 2, "a", "1", 2, "a", "2")
    before = await real.dump()
    for most in (2, 1, 0):
        reply = await evaluate(real, "emit", [SIGNALS], most, 2, "a", "3")
        assert reply == [b"overloaded", 2]
    assert await real.dump() == before


async def test_many_signals_are_appended_at_once(real: RedisBackend) -> None:
    """They have more arguments in all than Lua passes to one command."""
    arguments = [part for number in range(5_000) for part in (2, "n", number)]
    word, *ids = await evaluate(real, "emit", [SIGNALS], 10_000, *arguments)
    assert word == b"emitted"
    assert len(set(ids)) == await real.call("XLEN", SIGNALS) == 5_000
