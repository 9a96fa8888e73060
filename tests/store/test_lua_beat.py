"""beat.lua: which replicas live."""

from tests.store.backend import RedisBackend
from tests.store.lua import evaluate

REPLICAS = "fabric:replicas:orchestrators"


async def test_live_replicas_are_returned_and_dead_ones_removed(real: RedisBackend) -> None:
    now_ms = await real.now_ms()
    await real.call("ZADD", REPLICAS, now_ms - 1, "gone", now_ms + 60_000, "here")
    assert sorted(await evaluate(real, "beat", [REPLICAS], "new", 60_000)) == [b"here", b"new"]
    assert await real.call("ZSCORE", REPLICAS, "gone") is None


async def test_a_beat_lasts_for_its_time(real: RedisBackend) -> None:
    before_ms = await real.now_ms()
    await evaluate(real, "beat", [REPLICAS], "new", 60_000)
    until_ms = int(await real.call("ZSCORE", REPLICAS, "new"))
    assert before_ms + 60_000 <= until_ms <= await real.now_ms() + 60_000
    await evaluate(real, "beat", [REPLICAS], "new", 1_000)
    assert int(await real.call("ZSCORE", REPLICAS, "new")) < until_ms


async def test_a_clock_that_was_set_back_keeps_no_replica_alive(real: RedisBackend) -> None:
    now_ms = await real.now_ms()
    await real.call("ZADD", REPLICAS, now_ms + 600_000, "dead", now_ms + 2_500, "slower")
    assert len(await evaluate(real, "beat", [REPLICAS], "new", 1_000)) == 3
    until_ms = await real.now_ms() + 3_000
    assert now_ms + 3_000 <= int(await real.call("ZSCORE", REPLICAS, "dead")) <= until_ms
    assert int(await real.call("ZSCORE", REPLICAS, "slower")) == now_ms + 2_500
