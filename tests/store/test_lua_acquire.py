"""acquire.lua: every result word, and the lease afterwards."""

import pytest

from fabric.errors import TamperedError
from tests.store.backend import RedisBackend
from tests.store.lua import GROUP, LEASE, SIGNALS, TTL_MS, evaluate, field, take


async def test_acquired(real: RedisBackend) -> None:
    before_ms = await real.now_ms()
    word, epoch, version, committed, expires, now, outages, before = await take(real)
    assert (word, version, committed) == (b"acquired", b"0", b"0-0")
    assert (outages, before) == (b"", b"")
    assert before_ms <= now <= await real.now_ms()
    assert int(epoch) == now
    assert int(expires) == now + TTL_MS
    assert dict(zip(*[iter(await real.call("HGETALL", LEASE))] * 2, strict=True)) == {
        b"owner": b"one",
        b"nonce": b"n1",
        b"epoch": epoch,
        b"version": b"0",
        b"expires": expires,
        b"ttl": b"%d" % TTL_MS,
        b"committed": b"0-0",
        b"outages": b"",
        b"rules": b"r1",
    }


async def test_the_lease_keeps_the_rules_of_its_holder(real: RedisBackend) -> None:
    await take(real)
    await real.call("HSET", LEASE, "rules", "r0")
    assert (await take(real))[7] == b"r0"
    assert await field(real, "rules") == b"r1"


async def test_numbers_are_written_out_in_full(real: RedisBackend) -> None:
    """By default Lua would write 1e+15."""
    await real.call("HSET", LEASE, "epoch", "999999999999998")
    assert (await take(real, seed=0))[1] == b"999999999999999"
    assert await field(real, "epoch") == b"999999999999999"
    assert len(await field(real, "expires")) == len(str(await real.now_ms()))


async def test_held(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    before = await real.call("HGETALL", LEASE)
    word, owner, held, remaining = await take(real, "two", "n2")
    assert (word, owner, held) == (b"held", b"one", epoch)
    assert 0 < remaining <= TTL_MS
    assert await real.call("HGETALL", LEASE) == before


async def test_a_clock_that_was_set_back_keeps_no_holder(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    await real.call("HSET", LEASE, "expires", await real.now_ms() + 100 * TTL_MS)
    assert await take(real, "two", "n2") == [b"held", b"one", epoch, TTL_MS]
    assert int(await field(real, "expires")) <= await real.now_ms() + TTL_MS
    # A lease of an older version does not say how long it lasts.
    await real.call("HDEL", LEASE, "ttl")
    await real.call("HSET", LEASE, "expires", await real.now_ms() + 100 * TTL_MS)
    assert (await take(real, "two", "n2"))[3] > 90 * TTL_MS


async def test_unseeded(real: RedisBackend) -> None:
    assert await take(real, seed=0) == [b"unseeded"]
    assert await real.call("KEYS", "*") == []


@pytest.mark.parametrize(
    ("owner", "expires_in_ms"),
    [("one", TTL_MS), ("two", -1), ("two", 0)],
    ids=["own", "run", "just"],
)
async def test_acquired_again(real: RedisBackend, owner: str, expires_in_ms: int) -> None:
    _, epoch, *_ = await take(real)
    await real.call("HSET", LEASE, "version", "41", "committed", "7-3")
    await real.call("XADD", SIGNALS, "9-0", "a", "1")
    await real.call("HSET", LEASE, "expires", await real.now_ms() + expires_in_ms)
    word, higher, version, committed, *_ = await take(real, owner, "n2", seed=0)
    assert (word, int(higher), version, committed) == (b"acquired", int(epoch) + 1, b"41", b"7-3")
    assert await field(real, "nonce") == b"n2"


@pytest.mark.parametrize("owner", [None, ""])
async def test_a_lease_without_an_owner_is_free_however_late_it_expires(
    real: RedisBackend, owner: str | None
) -> None:
    await real.call("HSET", LEASE, "epoch", "5", "expires", await real.now_ms() + TTL_MS)
    if owner is not None:
        await real.call("HSET", LEASE, "owner", owner)
    assert (await take(real, seed=0))[:2] == [b"acquired", b"6"]


async def test_a_lease_without_an_expiry_has_expired(real: RedisBackend) -> None:
    await real.call("HSET", LEASE, "owner", "two", "epoch", "5")
    assert (await take(real, seed=0))[:2] == [b"acquired", b"6"]


async def test_a_lease_without_a_position_begins_with_the_first_entry(real: RedisBackend) -> None:
    await real.call("XADD", SIGNALS, "9-0", "a", "1")
    await real.call("HSET", LEASE, "owner", "", "epoch", "5")
    assert (await take(real, seed=0))[:4] == [b"acquired", b"6", b"0", b"0-0"]


async def test_a_free_lease_needs_no_expiry(real: RedisBackend) -> None:
    await real.call("HSET", LEASE, "owner", "", "epoch", "5")
    word, epoch, *_, outages, _ = await take(real, seed=0)
    # An older version does not say since when the lease was free, so that is no outage.
    assert (word, epoch, outages) == (b"acquired", b"6", b"")


@pytest.mark.parametrize(
    ("last", "committed", "taken"),
    [
        ("8-0", "7-3", b"7-3"),
        ("7-3", "7-3", b"7-3"),
        ("7-2", "7-3", b"0-0"),
        ("6-9", "7-3", b"0-0"),
        ("10-0", "9-5", b"9-5"),
        (None, "7-3", b"0-0"),
    ],
)
async def test_a_position_above_the_inputs_end_is_no_position(
    real: RedisBackend, last: str | None, committed: str, taken: bytes
) -> None:
    await real.call("HSET", LEASE, "owner", "", "epoch", "5", "committed", committed)
    if last:
        await real.call("XADD", SIGNALS, last, "a", "1")
    assert (await take(real))[3] == taken
    assert await real.position(SIGNALS, GROUP) == taken


async def test_a_position_stays_when_the_input_was_trimmed_completely(real: RedisBackend) -> None:
    await real.call("HSET", LEASE, "owner", "", "epoch", "5", "committed", "7-3")
    await real.call("XADD", SIGNALS, "7-3", "a", "1")
    await real.call("XTRIM", SIGNALS, "MAXLEN", 0)
    assert (await take(real))[3] == b"7-3"


async def test_an_existing_group_is_not_changed(real: RedisBackend) -> None:
    await real.call("XADD", SIGNALS, "7-3", "a", "1")
    await real.call("XGROUP", "CREATE", SIGNALS, GROUP, "5-0")
    await take(real)
    assert await real.position(SIGNALS, GROUP) == b"5-0"


async def test_a_lease_that_is_no_hash(real: RedisBackend) -> None:
    await real.put(LEASE, "string")
    before = await real.dump()
    with pytest.raises(TamperedError):
        await take(real)
    assert await real.dump() == before


async def test_an_input_that_is_no_stream_is_met_by_the_first_commit(real: RedisBackend) -> None:
    await real.put(SIGNALS, "hash")
    word, epoch, *_ = await take(real)
    assert word == b"acquired"
    commit = await evaluate(
        real, "commit", [LEASE, SIGNALS], "n1", epoch, 0, TTL_MS, GROUP, "", "", "=", "", 0
    )
    assert commit == [b"tampered", SIGNALS.encode(), b"hash", b"stream"]


async def test_a_time_without_a_holder_for_longer_than_a_lease_is_an_outage(
    real: RedisBackend,
) -> None:
    *_, now, _, _ = await take(real)
    served = now - 10 * TTL_MS
    # The last holder renewed it at `served`, and no one has since.
    await real.call("HSET", LEASE, "expires", served + TTL_MS)
    *_, again, outages, _ = await take(real, owner="two")
    assert outages.split() == [b"%d:%d" % (served, again)]
    # The holder takes it anew before it expires: the same outages, and none more.
    *_, outages, _ = await take(real, owner="two", nonce="n3")
    assert outages.split() == [b"%d:%d" % (served, again)]


async def test_an_outage_counts_from_the_moment_a_holder_gave_up(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    await evaluate(real, "renew", [LEASE], "n1", epoch, 0)
    *_, outages, _ = await take(real, owner="two", nonce="n2")
    assert outages == b""
    released = await real.now_ms() - 5 * TTL_MS
    await real.call("HSET", LEASE, "owner", "", "expires", "0", "served", released)
    *_, now, outages, _ = await take(real, owner="two", nonce="n3")
    assert outages.split() == [b"%d:%d" % (released, now)]


async def test_a_clock_that_was_put_back_hides_no_outage(real: RedisBackend) -> None:
    *_, now, _, _ = await take(real)
    hour_ms = 3_600_000
    # Somebody gave it up before the clock was put back; the last holder renewed it after that.
    renewed = now - 5 * TTL_MS
    await real.call("HSET", LEASE, "expires", renewed + TTL_MS, "served", now + hour_ms)
    *_, again, outages, _ = await take(real, owner="two", nonce="n2")
    assert outages.split() == [b"%d:%d" % (renewed, again)]
    # The other way round: its expiry is from before, and it was given up after that.
    given_up = again - 2 * TTL_MS
    await real.call("HDEL", LEASE, "outages")
    await real.call("HSET", LEASE, "owner", "", "expires", again + hour_ms, "served", given_up)
    *_, now, outages, _ = await take(real, owner="three", nonce="n3")
    assert outages.split() == [b"%d:%d" % (given_up, now)]


async def test_the_sixteen_newest_outages_are_kept(real: RedisBackend) -> None:
    await take(real)
    known = " ".join(f"{n}:{n + 1}" for n in range(1, 17))
    served = await real.now_ms() - 10 * TTL_MS
    await real.call("HSET", LEASE, "outages", known, "expires", served + TTL_MS)
    *_, now, outages, _ = await take(real, owner="two")
    assert outages.split() == [*known.encode().split()[1:], b"%d:%d" % (served, now)]


async def on(real: RedisBackend, server: str, chance: int = 5) -> int:
    """Take the lease on a server that calls itself so; return the token epoch, 0 without one."""
    where = [LEASE, SIGNALS]
    await evaluate(real, "acquire", where, "one", "n", TTL_MS, 1, GROUP, "r1", server, chance)
    return int(await real.call("HGET", LEASE, "token_epoch") or 0)


async def test_on_the_same_server_tokens_go_on(real: RedisBackend) -> None:
    assert [await on(real, "P:1") for _ in range(3)] == [0, 0, 0]
    assert await field(real, "server") == b"P:1"


async def test_on_another_server_a_token_epoch_begins(real: RedisBackend) -> None:
    await on(real, "P:1")
    before_s = await real.now_ms() // 1000
    first = await on(real, "R:2")
    assert before_s <= first // 2**21 <= await real.now_ms() // 1000
    assert first // 2**11 % 1024 == 5
    # The next one is above it, whatever the clock says; and it is a number of all digits.
    await real.call("HSET", LEASE, "token_epoch", first + 2**40)
    second = await on(real, "P:1", 7)
    assert second == first + 2**40 + 8 * 2**11
    assert await field(real, "token_epoch") == b"%d" % second
    assert await on(real, "P:1", 7) == second


async def test_two_histories_of_one_second_share_no_token(real: RedisBackend) -> None:
    for server in ("R", "S"):
        await on(real, "P")
        await real.call("HDEL", LEASE, "token_epoch")
        chance = 1 if server == "R" else 2
        epoch = await on(real, server, chance)
        assert epoch // 2**11 % 1024 == chance


async def test_a_server_that_does_not_tell_its_id(real: RedisBackend) -> None:
    """Whoever did not give the lease up may have worked on another server."""
    assert await on(real, "") == 0
    first = await on(real, "")
    assert first
    await real.call("HSET", LEASE, "owner", "")
    assert await on(real, "") == first
    assert await real.call("HGET", LEASE, "server") is None


async def test_a_lease_of_an_older_version_does_not_say_where_it_was(real: RedisBackend) -> None:
    await take(real)
    assert await on(real, "P") == 0
