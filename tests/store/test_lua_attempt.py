"""attempt.lua: its result, and that it leaves no key."""

from tests.store.backend import RedisBackend
from tests.store.lua import evaluate


async def test_attempted(real: RedisBackend) -> None:
    before_ms = await real.now_ms()
    word, number, now = await evaluate(real, "attempt", ["scratch"], '{"n": 7}', 1_000)
    assert (word, number) == (b"attempted", b"7")
    assert before_ms <= now <= await real.now_ms()
    assert await real.dump() == {}
