"""commit.lua: every result word, and groups that a person has changed."""

from typing import Any

import pytest

from fabric.errors import UnavailableError
from fabric.store.commit import packed
from tests.store.backend import RedisBackend
from tests.store.lua import GROUP, LEASE, SIGNALS, TTL_MS, evaluate, field, take

LOG = "fabric:{0}:s:log"
AGENTS = "fabric:{0}:s:agents"

TOP = 2**64 - 1
#: The last id of all.
LAST = f"{TOP}-{TOP}"


async def commit(
    real: RedisBackend,
    epoch: Any,
    *writes: Any,
    keys: tuple[str, ...] = (),
    types: str = "",
    forms: tuple[Any, ...] = (0,),
    nonce: str = "n1",
    version: int = 0,
    upto: str = "",
    floor: str = "",
    trim: str = "=",
    copied: tuple[str, ...] = (),
) -> Any:
    return await evaluate(
        real, "commit", [LEASE, SIGNALS, *keys],
        nonce, epoch, version, TTL_MS, GROUP, upto, floor, trim, types,
        len(copied), " ".join(copied), *packed((*forms, *writes)),
    )  # fmt: skip


async def test_committed(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    before_ms = await real.now_ms()
    word, now = await commit(
        real, epoch,
        *(0, 0, "1-0", "x", "y"), *("HSET", 1, 2, "A", "one"),
        *(1, 0, "*", "z"), *(0, 0, "*", "", "2"),
        keys=(LOG, AGENTS), types="stream1-0 hash", forms=(2, 2, "a", "b", "", 1, "c", ""),
    )  # fmt: skip
    assert word == b"committed"
    assert before_ms <= now <= await real.now_ms()
    assert await field(real, "version") == b"1"
    assert await field(real, "expires") == b"%d" % (now + TTL_MS)
    assert await field(real, "committed") == b"0-0"
    assert [fields for _, fields in await real.call("XRANGE", LOG, "-", "+")] == [
        [b"a", b"x", b"b", b"y"],
        [b"c", b"z"],
        [b"a", b"", b"b", b"2"],
    ]
    assert await real.call("HGETALL", AGENTS) == [b"A", b"one"]


#: Forms that copy: all fields of an entry with two, between one before and one behind them; and one
#: that copies in another order, one field twice; and one that copies nothing.
FORMS = (
    *(3, 4, "kind", "a", "b", "ms", "-1 0 1 -1"),
    *(3, "y", "x", "y2", "1 0 1"),
    *(1, "n", ""),
)


async def fill(real: RedisBackend, count: int) -> tuple[str, ...]:
    """Add entries to the input; return their ids."""
    ids = tuple(f"{number}-1" for number in range(1, count + 1))
    for number, entry_id in enumerate(ids, 1):
        await real.call("XADD", SIGNALS, entry_id, "a", f"x{number}", "b", b"\xff\x00%d" % number)
    return ids


async def test_values_are_copied_from_the_input(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    ids = await fill(real, 3)
    word, _ = await commit(
        real, epoch,
        *(0, 0, "1-0", 0, "signal", 7), *(2, 1, "*", "by value"), *(1, 0, "1-1", 0),
        *(0, 0, "2-0", 2, "refused", ""), *("HSET", 2, 2, "A", "one"),
        keys=(LOG, "letters", AGENTS), types="stream1-0 stream* hash", forms=FORMS, copied=ids,
        upto=ids[-1], floor=ids[-1],
    )  # fmt: skip
    assert word == b"committed"
    assert [fields for _, fields in await real.call("XRANGE", LOG, "-", "+")] == [
        [b"kind", b"signal", b"a", b"x1", b"b", b"\xff\x001", b"ms", b"7"],
        [b"y", b"\xff\x001", b"x", b"x1", b"y2", b"\xff\x001"],
        [b"kind", b"refused", b"a", b"x3", b"b", b"\xff\x003", b"ms", b""],
    ]
    assert (await real.call("XRANGE", "letters", "-", "+"))[0][1] == [b"n", b"by value"]
    assert await real.call("HGETALL", AGENTS) == [b"A", b"one"]


@pytest.mark.parametrize("gone", [["1-1"], ["2-1"], ["3-1"], ["1-1", "2-1", "3-1"]])
async def test_nothing_is_written_when_an_entry_to_copy_from_is_gone(
    real: RedisBackend, gone: list[str]
) -> None:
    """Only the second one is copied from: all that were decided must be there."""
    _, epoch, *_ = await take(real)
    *ids, _ = await fill(real, 4)
    await real.call("XDEL", SIGNALS, *gone)
    before = await real.dump()
    write: dict[str, Any] = {"keys": (LOG,), "types": "1-0", "forms": FORMS, "copied": tuple(ids)}
    reply = await commit(real, epoch, 0, 0, "1-0", 1, "signal", 7, upto=ids[-1], **write)
    assert reply == [b"missing", SIGNALS.encode()]
    assert await real.dump() == before


async def test_nothing_is_written_when_an_entry_more_is_there(real: RedisBackend) -> None:
    """As after somebody has made the stream anew, under ids that they chose."""
    _, epoch, *_ = await take(real)
    first, _, last = await fill(real, 3)
    before = await real.dump()
    write: dict[str, Any] = {"keys": (LOG,), "types": "1-0", "forms": FORMS}
    reply = await commit(
        real, epoch, 0, 0, "1-0", 1, "signal", 7, copied=(first, last), upto=last, **write
    )
    assert reply == [b"missing", SIGNALS.encode()]
    assert await real.dump() == before


async def test_a_batch_that_copies_is_undone_too(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    ids = await fill(real, 2)
    await real.call("XADD", LOG, "7-0", "n", "0")
    await real.call("XDEL", LOG, "7-0")
    before = await real.dump()
    reply = await commit(
        real, epoch,
        *(0, 0, "5-0", 0, "signal", 1), *(1, 0, "5-1", 1), *(2, 0, "5-2", "x"),
        *(0, 1, "5-0", 0, "signal", 1),
        keys=("other", LOG), types="stream5-0 stream5-0", forms=FORMS, copied=ids,
    )  # fmt: skip
    assert reply == [b"exhausted", LOG.encode()]
    assert await real.call("XLEN", "other") == 0
    assert {key: value for key, value in (await real.dump()).items() if key != "other"} == before


async def test_out_of_memory(real: RedisBackend) -> None:
    """Else timers would take effect, and the lease would last, while no agent can be heard."""
    _, epoch, *_ = await take(real)
    await real.call("HSET", AGENTS, "A", "one")
    before = await real.dump()
    await real.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(UnavailableError, match="out of memory"):
            await commit(real, epoch, "HDEL", 0, 1, "A", keys=(AGENTS,), types="hash")
    finally:
        await real.call("CONFIG", "SET", "maxmemory", "0")
    assert await real.dump() == before


async def test_a_version_of_many_digits_keeps_counting(real: RedisBackend) -> None:
    """By default Lua would write 1e+15."""
    _, epoch, *_ = await take(real)
    for version in (999_999_999_999, 99_999_999_999_998):
        await real.call("HSET", LEASE, "version", version)
        assert (await commit(real, epoch, version=version))[0] == b"committed"
        assert await field(real, "version") == b"%d" % (version + 1)


async def test_refused(real: RedisBackend) -> None:
    write: dict[str, Any] = {"keys": (AGENTS,), "types": "hash", "upto": "9-0", "floor": "9-1"}
    hset = ("HSET", 0, 2, "A", "one")
    assert await commit(real, 5, *hset, **write) == [b"unseeded"]
    assert await real.dump() == {}
    _, epoch, *_ = await take(real)
    before = await real.dump()
    fenced = [b"fenced", b"one", epoch]
    assert await commit(real, epoch, *hset, nonce="n2", **write) == fenced
    assert await commit(real, epoch, *hset, nonce="", **write) == fenced
    assert await commit(real, int(epoch) - 1, *hset, **write) == fenced
    assert await commit(real, epoch, *hset, version=1, **write) == [b"superseded", b"0"]
    assert await real.dump() == before
    await real.put(AGENTS, "zset")
    before = await real.dump()
    tampered = [b"tampered", AGENTS.encode(), b"zset", b"hash"]
    assert await commit(real, epoch, *hset, **write) == tampered
    assert await real.dump() == before
    await real.call("HSET", LEASE, "expires", await real.now_ms())
    before = await real.dump()
    assert await commit(real, epoch, *hset, **write) == [b"expired", b"one", epoch]
    assert await real.dump() == before


async def test_refused_when_the_owner_is_missing(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    await real.call("HDEL", LEASE, "owner")
    assert await commit(real, epoch, nonce="n2") == [b"fenced", b"", epoch]
    await real.call("HSET", LEASE, "expires", await real.now_ms())
    assert await commit(real, epoch) == [b"expired", b"", epoch]


async def test_the_last_of_many_keys_is_checked_before_the_first_is_written(
    real: RedisBackend,
) -> None:
    _, epoch, *_ = await take(real)
    keys = tuple(f"fabric:{{0}}:s:inbox:{number}" for number in range(300))
    await real.put(keys[-1], "string")
    before = await real.dump()
    writes = [part for number in range(300) for part in (0, number, "1-0", "x")]
    reply = await commit(
        real, epoch, *writes, keys=keys, types=" ".join(["stream1-0"] * 300), forms=(1, 1, "a", "")
    )
    assert reply == [b"tampered", keys[-1].encode(), b"string", b"stream"]
    assert await real.dump() == before


async def test_a_key_that_must_exist_and_is_gone_is_found_before_anything_is_written(
    real: RedisBackend,
) -> None:
    _, epoch, *_ = await take(real)
    before = await real.dump()
    writes = (0, 0, "1-0", "x", "HSET", 1, 2, "A", "1")
    for types, key, kind in (
        ("stream!1-0 hash", LOG, "stream"),
        ("stream1-0 hash!", AGENTS, "hash"),
    ):
        reply = await commit(
            real, epoch, *writes, keys=(LOG, AGENTS), types=types, forms=(1, 1, "a", "")
        )
        assert reply == [b"tampered", key.encode(), b"none", kind.encode()]
        assert await real.dump() == before


async def test_entries_that_another_program_read_are_acknowledged(real: RedisBackend) -> None:
    """A program that reads with the group removes nothing, and leaves nothing pending."""
    _, epoch, *_ = await take(real)
    for number in range(1, 5):
        await real.call("XADD", SIGNALS, f"{number}-0", "a", "1")
    await real.call("XREADGROUP", "GROUP", GROUP, "other", "COUNT", 4, "STREAMS", SIGNALS, ">")
    assert (await real.call("XPENDING", SIGNALS, GROUP))[0] == 4
    await commit(real, epoch, upto="3-0", floor="3-1")
    pending = await real.call("XPENDING", SIGNALS, GROUP, "-", "+", 10)
    assert [entry[0] for entry in pending] == [b"4-0"]
    assert await real.position(SIGNALS, GROUP) == b"3-0"
    assert [i for i, _ in await real.call("XRANGE", SIGNALS, "-", "+")] == [b"4-0"]
    await commit(real, epoch, version=1, upto="4-0", floor="4-1")
    assert (await real.call("XPENDING", SIGNALS, GROUP))[0] == 0


async def test_very_many_pending_entries_are_acknowledged_over_several_commits(
    real: RedisBackend,
) -> None:
    _, epoch, *_ = await take(real)
    add = "for i = 1, 1500 do redis.call('XADD', KEYS[1], i .. '-0', 'a', '1') end"
    await real.call("EVAL", add, 1, SIGNALS)
    await real.call("XREADGROUP", "GROUP", GROUP, "other", "COUNT", 1500, "STREAMS", SIGNALS, ">")
    await commit(real, epoch, upto="1500-0")
    assert (await real.call("XPENDING", SIGNALS, GROUP))[0] == 500
    await commit(real, epoch, version=1, upto="1500-0")
    assert (await real.call("XPENDING", SIGNALS, GROUP))[0] == 0


async def test_only_whole_nodes_are_trimmed_while_more_is_waiting(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    add = "for i = 1, 250 do redis.call('XADD', KEYS[1], i .. '-0', 'a', '1') end"
    await real.call("EVAL", add, 1, SIGNALS)
    await commit(real, epoch, upto="120-0", floor="120-1", trim="~")
    left = await real.call("XLEN", SIGNALS)
    assert 130 < left < 250
    await commit(real, epoch, version=1, upto="120-0", floor="120-1", trim="=")
    assert await real.call("XLEN", SIGNALS) == 130


@pytest.mark.parametrize("last", ["5-0", "7-3", LAST])
async def test_a_stream_with_an_entry_beyond_ours_is_found_before_anything_is_written(
    real: RedisBackend, last: str
) -> None:
    _, epoch, *_ = await take(real)
    await real.call("XADD", LOG, last, "by", "hand")
    before = await real.dump()
    writes = (0, 0, "5-0", "1", 0, 1, "5-0", "2")
    reply = await commit(
        real,
        epoch,
        *writes,
        keys=("other", LOG),
        types="stream5-0 stream5-0",
        forms=(1, 1, "n", ""),
    )
    assert reply == [b"exhausted", LOG.encode()]
    assert await real.dump() == before


@pytest.mark.parametrize("last", ["7-0", LAST])
async def test_a_batch_is_undone_when_ids_were_used_and_deleted(
    real: RedisBackend, last: str
) -> None:
    """No entry shows it, so the entry that is refused is the first sign."""
    _, epoch, *_ = await take(real)
    await real.call("XADD", LOG, "4-0", "n", "0")
    await real.call("XADD", LOG, last, "by", "hand")
    await real.call("XDEL", LOG, last)
    await real.call("XADD", "other", "4-0", "n", "0")
    before = await real.dump()
    reply = await commit(
        real, epoch,
        *(0, 0, "5-0", "1", 0, 0, "5-1", "2", 0, 1, "*", "3", 0, 2, "5-0", "4"),
        *("HSET", 3, 2, "A", "one"),
        keys=("other", "letters", LOG, AGENTS), types="stream5-0 stream* stream5-0 hash",
        forms=(1, 1, "n", ""),
        upto="9-0", floor="9-1",
    )  # fmt: skip
    assert reply == [b"exhausted", LOG.encode()]
    assert await real.call("XLEN", "letters") == 0
    assert {key: value for key, value in (await real.dump()).items() if key != "letters"} == before


async def test_the_last_ids_end_in_the_middle_of_a_batch(real: RedisBackend) -> None:
    _, epoch, *_ = await take(real)
    await real.call("XADD", "letters", f"{TOP}-{TOP - 2}", "by", "hand")
    await real.call("XDEL", "letters", f"{TOP}-{TOP - 2}")
    writes = [part for _ in range(3) for part in (0, 0, "*", "1")]
    reply = await commit(
        real, epoch, *writes, keys=("letters",), types="stream*", forms=(1, 1, "n", "")
    )
    assert reply == [b"exhausted", b"letters"]
    assert await real.call("XLEN", "letters") == 0
    assert await field(real, "version") == b"0"
