"""reseed.lua: every result word."""

import pytest

from tests.store.backend import RedisBackend
from tests.store.lua import GROUP, LEASE, SIGNALS, evaluate, field, take


async def reseed(real: RedisBackend, remembered: int = 0) -> list[bytes]:
    reply = await evaluate(real, "reseed", [LEASE, SIGNALS], GROUP, remembered)
    assert isinstance(reply, list)
    return reply


async def test_reseeded(real: RedisBackend) -> None:
    before_ms = await real.now_ms()
    word, epoch, committed = await reseed(real)
    assert (word, committed) == (b"reseeded", b"0-0")
    assert before_ms <= int(epoch) <= await real.now_ms()
    assert await field(real, "epoch") == epoch
    # The lease has no holder, and the next one counts on from its epoch.
    taken = await take(real, seed=0)
    assert taken[:2] == [b"acquired", b"%d" % (int(epoch) + 1)]


async def test_the_epoch_is_above_the_remembered_one(real: RedisBackend) -> None:
    remembered = await real.now_ms() + 3_600_000
    assert (await reseed(real, remembered))[1] == b"%d" % (remembered + 1)


async def test_version_and_position_of_the_lease_are_kept(real: RedisBackend) -> None:
    await real.call(
        "HSET", LEASE, "owner", "one", "nonce", "n1", "version", "41", "committed", "7-3"
    )
    assert (await reseed(real))[2] == b"7-3"
    assert await field(real, "version") == b"41"
    assert (await field(real, "owner"), await field(real, "nonce")) == (b"", b"")
    # Tokens of the lost history are not handed out again.
    assert await field(real, "server") == b"another"


@pytest.mark.parametrize("epoch", ["", "?", "1e9", "-5", "9" * 16])
async def test_an_epoch_that_is_no_number_of_ours_is_replaced(
    real: RedisBackend, epoch: str
) -> None:
    await real.call("HSET", LEASE, "epoch", epoch)
    assert (await reseed(real))[0] == b"reseeded"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("version", "9" * 15, "9" * 15),
        ("version", "9" * 16, "0"),
        ("version", "many", "0"),
        ("committed", "7", "0-0"),
        ("committed", "7-x", "0-0"),
    ],
)
async def test_a_damaged_field_starts_again(
    real: RedisBackend, name: str, value: str, kept: str
) -> None:
    await real.call("HSET", LEASE, name, value)
    await reseed(real)
    assert await field(real, name) == kept.encode()


async def test_the_position_comes_from_the_group(real: RedisBackend) -> None:
    await real.call("XADD", SIGNALS, "9-0", "a", "1")
    # The server lists groups in alphabetical order.
    for group, position in (("another", "8-0"), (GROUP, "7-3"), ("some others", "6-0")):
        await real.call("XGROUP", "CREATE", SIGNALS, group, position)
    assert (await reseed(real))[2] == b"7-3"


async def test_seeded(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    before = await real.dump()
    assert await reseed(real) == [b"seeded", epoch]
    assert await real.dump() == before


@pytest.mark.parametrize("kind", ["string", "zset", "stream"])
async def test_tampered(real: RedisBackend, kind: str) -> None:
    await real.put(LEASE, kind)
    before = await real.dump()
    assert await reseed(real) == [b"tampered", LEASE.encode(), kind.encode(), b"hash"]
    assert await real.dump() == before
