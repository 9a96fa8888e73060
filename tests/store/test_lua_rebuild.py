"""rebuild.lua: every result word; `test_rebuild.py` has what it does, on every store."""

from typing import Any

from fabric.store.keys import Namespace
from tests.store.backend import RedisBackend
from tests.store.lua import GROUP, LEASE, SIGNALS, TTL_MS, evaluate, field, take

NAMES = Namespace().partition(0)


async def rebuild(
    real: RedisBackend,
    epoch: Any,
    key: str = SIGNALS,
    *,
    nonce: str = "n1",
    place: Any = "",
    entries: int = 10,
    size: int = 1_000_000,
) -> Any:
    bound, of = NAMES.bound(key)
    keys = [LEASE, key, NAMES.copy(key), NAMES.aside(key), bound]
    reader = NAMES.reader(key) or ""
    limits = (entries, size, TTL_MS)
    return await evaluate(real, "rebuild", keys, nonce, epoch, TTL_MS, of, reader, *limits, place)


async def test_rebuilt(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    for number in range(1, 4):
        await real.call("XADD", SIGNALS, f"{number}-0", "n", number)
    await real.call("HSET", LEASE, "committed", "1-0")
    word, now, count = await rebuild(real, epoch)
    assert (word, count) == (b"rebuilt", 2)
    assert await field(real, "expires") == b"%d" % (now + TTL_MS)
    assert await field(real, "committed") == b"0-0"
    assert await real.position(SIGNALS, GROUP) == b"0-0"
    assert [i for i, _ in await real.call("XRANGE", SIGNALS, "-", "+")] == [b"2-0", b"3-0"]
    assert await real.call("XLEN", NAMES.aside(SIGNALS)) == 3
    assert 0 < await real.call("PTTL", NAMES.aside(SIGNALS)) <= TTL_MS
    assert not await real.call("EXISTS", NAMES.copy(SIGNALS))


async def test_copying(real: RedisBackend) -> None:
    """A step ends after so many entries, or so many bytes, counted in tens."""
    _, epoch, *_ = await take(real)
    for number in range(1, 36):
        await real.call("XADD", SIGNALS, f"{number}-0", "n", "x" * 100)
    word, _, count, place = await rebuild(real, epoch)
    assert (word, count) == (b"copying", 10)
    word, _, count, place = await rebuild(real, epoch, place=place, entries=100, size=1_500)
    assert (word, count) == (b"copying", 30)
    assert await real.call("XLEN", SIGNALS) == 35
    assert (await rebuild(real, epoch, place=place))[::2] == [b"rebuilt", 35]
    assert await real.call("XLEN", SIGNALS) == 35


async def test_refused(real: RedisBackend) -> None:
    await real.call("XADD", SIGNALS, "1-0", "a", "1")
    before = await real.dump()
    assert await rebuild(real, 5) == [b"unseeded"]
    assert await real.dump() == before
    _, epoch, *_ = await take(real)
    before = await real.dump()
    assert await rebuild(real, epoch, nonce="n2") == [b"fenced", b"one", epoch]
    assert await rebuild(real, int(epoch) - 1) == [b"fenced", b"one", epoch]
    assert await real.dump() == before
    await real.put(NAMES.dead, "hash")
    before = await real.dump()
    tampered = [b"tampered", NAMES.dead.encode(), b"hash", b"stream"]
    assert await rebuild(real, epoch, NAMES.dead) == tampered
    assert await real.dump() == before
    await real.call("HSET", LEASE, "expires", await real.now_ms())
    before = await real.dump()
    assert await rebuild(real, epoch) == [b"expired", b"one", epoch]
    assert await real.dump() == before


async def test_an_entry_with_more_fields_than_a_script_can_pass_on(real: RedisBackend) -> None:
    """It is no signal; the whole of it is kept aside."""
    _, epoch, *_ = await take(real)
    many = [part for number in range(20_000) for part in (f"f{number}", "1")]
    await real.call("XADD", SIGNALS, "1-0", *many)
    assert (await rebuild(real, epoch))[0] == b"rebuilt"
    ((_, fields),) = await real.call("XRANGE", SIGNALS, "-", "+")
    assert fields == [part.encode() for part in many[:7_000]]
    ((_, fields),) = await real.call("XRANGE", NAMES.aside(SIGNALS), "-", "+")
    assert len(fields) == len(many)
