"""renew.lua: every result word."""

from tests.store.backend import RedisBackend
from tests.store.lua import LEASE, TTL_MS, evaluate, field, take


async def test_renewed(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    word, now = await evaluate(real, "renew", [LEASE], "n1", epoch, 123_456)
    assert word == b"renewed"
    assert await field(real, "expires") == b"%d" % (now + 123_456)
    assert (await field(real, "owner"), await field(real, "nonce")) == (b"one", b"n1")


async def test_a_released_lease_keeps_epoch_version_and_position(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    await real.call("HSET", LEASE, "version", "41", "committed", "7-3")
    word, now = await evaluate(real, "renew", [LEASE], "n1", epoch, 0)
    assert word == b"renewed"
    assert dict(zip(*[iter(await real.call("HGETALL", LEASE))] * 2, strict=True)) == {
        b"owner": b"",
        b"nonce": b"",
        b"epoch": epoch,
        b"version": b"41",
        b"expires": b"0",
        b"ttl": b"%d" % TTL_MS,
        b"committed": b"7-3",
        b"outages": b"",
        b"rules": b"r1",
        b"served": b"%d" % now,
    }


async def test_a_released_lease_has_no_holder(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    await evaluate(real, "renew", [LEASE], "n1", epoch, 0)
    # Not even a caller that knows the empty nonce can renew it.
    refused = await evaluate(real, "renew", [LEASE], "", epoch, TTL_MS)
    assert refused == [b"expired", b"", epoch]


async def test_refused(real: RedisBackend) -> None:
    assert await evaluate(real, "renew", [LEASE], "n1", 5, TTL_MS) == [b"unseeded"]
    _, epoch, *_ = await take(real)
    before = await real.dump()
    fenced = [b"fenced", b"one", epoch]
    assert await evaluate(real, "renew", [LEASE], "n2", epoch, TTL_MS) == fenced
    assert await evaluate(real, "renew", [LEASE], "n1", int(epoch) + 1, TTL_MS) == fenced
    assert await real.dump() == before
    await real.call("HSET", LEASE, "expires", await real.now_ms())
    before = await real.dump()
    expired = [b"expired", b"one", epoch]
    for ttl_ms in (TTL_MS, 0):
        assert await evaluate(real, "renew", [LEASE], "n1", epoch, ttl_ms) == expired
    assert await real.dump() == before


async def test_refused_when_the_owner_is_missing(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    await real.call("HDEL", LEASE, "owner")
    refused = await evaluate(real, "renew", [LEASE], "n2", epoch, TTL_MS)
    assert refused == [b"fenced", b"", epoch]
    await real.call("HSET", LEASE, "expires", await real.now_ms())
    refused = await evaluate(real, "renew", [LEASE], "n1", epoch, TTL_MS)
    assert refused == [b"expired", b"", epoch]
