"""Commits, on every store: all or nothing, and only by the holder of the lease."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from fabric.errors import (
    ExhaustedError,
    FabricError,
    FencedError,
    MissingInputError,
    SignalError,
    TamperedError,
    UnseededError,
)
from fabric.store.keys import Namespace
from fabric.store.port import BEGINNING, Batch, Lease
from fabric.wire import record
from fabric.wire.entry import decode
from fabric.wire.stored import text
from tests.store.backend import (
    ORCHESTRATORS,
    Backend,
    Store,
    commit,
    hold,
    lapse,
    note,
    plain,
)

NAMES = Namespace().partition(0)
KEYS = NAMES.session("s")

#: The last id of all.
LAST = "18446744073709551615-18446744073709551615"

#: The result of every kind of write, by key.
WRITTEN = {
    KEYS.log: ("stream", [(b"1-0", [b"a", b"1"]), (b"1-1", [b"a", b"2"]), (b"2-0", [b"b", b"3"])]),
    KEYS.agents: ("hash", [(b"A", b"one"), (b"C", b"\xff\x00")]),
    NAMES.deadlines: ("zset", [(b"s:x", 1_767_123_000_123)]),
}


def every_write() -> Batch:
    batch = Batch()
    batch.append(KEYS.log, "1-0", ("a",), (1,))
    batch.append(KEYS.log, "1-1", ("a",), ("2",))
    batch.append(KEYS.log, "2-0", (b"b",), ("3",))
    batch.write("HSET", KEYS.agents, ("A", "one", "B", 2, "C", text(b"\xff\x00")))
    batch.write("HDEL", KEYS.agents, ("B", "never there"))
    batch.write("ZADD", NAMES.deadlines, (1_767_123_000_123, "s:x", 5, "s:y"))
    batch.write("ZREM", NAMES.deadlines, ("s:y",))
    return batch


async def test_every_write_takes_effect(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    before_ms = await backend.now_ms()
    now_ms = await commit(store, lease, every_write())
    assert before_ms <= now_ms <= await backend.now_ms()
    dump = await backend.dump()
    assert {key: dump[key] for key in WRITTEN} == WRITTEN


@pytest.mark.parametrize(
    "values",
    [
        (b"", b"\x00", "é".encode(), b'{"x": "\\u0000"}', b"x" * 70_000),
        (b"\xff", "é", b"\xc0\x80", b"text", b"\xed\xa0\x80"),
        (2**53 - 1, -1, 0, 1_767_123_000_123, "x" * 300),
        tuple(b"%d" % number * 1_000 for number in range(5)),
    ],
)
async def test_a_batch_holds_every_value(
    backend: Backend, values: tuple[str | bytes | int, ...]
) -> None:
    """Text, bytes that are none, whole numbers, and values that are large on average."""
    store = backend.open()
    lease = await hold(store)
    batch = every_write()
    entry = [text(value) if isinstance(value, bytes) else value for value in values]
    batch.append(KEYS.log, "3-0", ("a", b"\xff", "c", "d", "e"), entry)
    batch.write("HSET", KEYS.meta, ("a", entry[0], "b", entry[1], "c", entry[2]))
    batch.size_bytes = sum(len(str(value)) for value in values)
    await commit(store, lease, batch)
    dump = await backend.dump()
    raw = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    assert {key: dump[key] for key in WRITTEN if key != KEYS.log} == {
        key: value for key, value in WRITTEN.items() if key != KEYS.log
    }
    assert dump[KEYS.log][1][-1][1][1::2] == raw
    assert dump[KEYS.log][1][-1][1][2] == b"\xff"
    assert dict(dump[KEYS.meta][1]) == dict(zip((b"a", b"b", b"c"), raw, strict=False))


async def test_a_second_batch_builds_on_the_first(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    await commit(store, lease, every_write())
    batch = Batch()
    batch.append(KEYS.log, "3-0", ("c",), ("4",))
    batch.write("HSET", KEYS.agents, ("A", "two"))
    batch.write("HDEL", KEYS.agents, ("C",))
    batch.write("ZREM", NAMES.deadlines, ("s:x",))
    await commit(store, lease, batch, version=1)
    dump = await backend.dump()
    assert dump[KEYS.agents] == ("hash", [(b"A", b"two")])
    assert dump[KEYS.log][1][-1] == (b"3-0", [b"c", b"4"])
    assert NAMES.deadlines not in dump


SENT = [
    [b"session", b"s", b"type", b"PROGRESS", b"emitter", b"A", b"payload", b'{"percent": 5}'],
    [b"payload", b"{", b"\xff", b"\x00", b"session", b"s"],
    [b"emitter", b"A", b"payload", b'{"x": "\xc3\xa9"}', b"type", b"PROGRESS", b"session", b"s"],
]


def copying(ids: list[bytes], flats: list[list[bytes]]) -> Batch:
    """Log what can be decoded, put the rest into `dead`: everything copied from the input."""
    batch = Batch(is_copying=True)
    for number, (entry_id, flat) in enumerate(zip(ids, flats, strict=True), 1):
        batch.take(entry_id)
        try:
            signal = decode(flat)
        except SignalError:
            letter = record.dead_letter(flat, "JSON", "why", NAMES.signals, entry_id, copies=True)
            batch.append(NAMES.dead, "*", *letter)
            continue
        copies = record.copies_of(signal)
        batch.append(KEYS.log, f"{number}-0", *record.logged_signal(signal, 7, copies))
        result = record.result(signal, None, b"", f"{number}-0", 7, copies)
        batch.append(NAMES.results, "*", *result)
    batch.write("HSET", KEYS.agents, ("A", "one"))
    return batch


async def test_values_are_copied_from_the_input(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, SENT, 10)
    batch = copying(ids, SENT)
    assert not {b'{"percent": 5}', b"{"} & {*batch.operations}, "they are not sent again"
    await commit(store, lease, batch, upto=ids[-1])
    dump = await backend.dump()
    assert dump[KEYS.log][1] == [
        (b"1-0", [b"kind", b"signal", *SENT[0], b"ms", b"7"]),
        (b"3-0", [b"kind", b"signal", *SENT[2], b"ms", b"7"]),
    ]
    assert [fields[-4:] for _, fields in dump[NAMES.results][1]] == [
        [b"payload", b'{"percent": 5}', b"percent", b""],
        [b"payload", b'{"x": "\xc3\xa9"}', b"percent", b""],
    ]
    assert record.sent_fields(dump[NAMES.dead][1][0][1]) == SENT[1]


@pytest.mark.parametrize("gone", [[0], [1], [2], [0, 1, 2]])
async def test_input_that_is_gone_refuses_the_whole_commit(
    backend: Backend, gone: list[int]
) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, [*SENT, SENT[0]], 10)
    assert await store.delete_entries(NAMES.signals, [ids[number] for number in gone]) == len(gone)
    before = await backend.dump()
    with pytest.raises(MissingInputError, match=re.escape(NAMES.signals)):
        await commit(store, lease, copying(ids[:3], SENT), upto=ids[2])
    assert await backend.dump() == before
    # What is left is decided again, under the same lease and version.
    left = [number for number in range(3) if number not in gone]
    again = copying([ids[number] for number in left], [SENT[number] for number in left])
    await commit(store, lease, again, upto=ids[2])


async def test_input_is_not_read_again_when_nothing_is_copied(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, SENT, 10)
    batch = every_write()
    batch.is_copying, batch.inputs = True, ids
    await store.delete_entries(NAMES.signals, ids)
    await commit(store, lease, batch, upto=ids[-1])
    assert KEYS.log in await backend.dump()


async def test_a_commit_must_build_on_the_last_one(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    await commit(store, lease)
    for version in (0, 2):
        with pytest.raises(FencedError, match=r"another commit came first \(version 1\)"):
            await commit(store, lease, version=version)
    await commit(store, lease, version=1)


async def _fenced(backend: Backend, store: Store, lease: Lease) -> Lease:
    await lapse(backend, store, lease)
    await hold(backend.open(), "two")
    return lease


async def _expired(backend: Backend, store: Store, lease: Lease) -> Lease:
    await lapse(backend, store, lease)
    return lease


async def _superseded(backend: Backend, store: Store, lease: Lease) -> Lease:
    await commit(store, lease)
    return lease


async def _unseeded(backend: Backend, store: Store, lease: Lease) -> Lease:
    await backend.drop(NAMES.lease(ORCHESTRATORS))
    return lease


async def _foreign(backend: Backend, store: Store, lease: Lease) -> Lease:
    return replace(lease, nonce="somebody else's")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_fenced, FencedError),
        (_expired, FencedError),
        (_superseded, FencedError),
        (_unseeded, UnseededError),
        (_foreign, FencedError),
    ],
)
async def test_a_refused_commit_writes_nothing(
    backend: Backend,
    spoil: Callable[[Backend, Store, Lease], Awaitable[Lease]],
    error: type[FabricError],
) -> None:
    store = backend.open()
    lease = await hold(store)
    (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
    lease = await spoil(backend, store, lease)
    before = await backend.dump()
    with pytest.raises(error):
        await commit(store, lease, every_write(), upto=entry_id)
    assert await backend.dump() == before


@pytest.mark.parametrize("key", [*WRITTEN, NAMES.signals])
@pytest.mark.parametrize("found", ["string", "hash", "zset", "stream"])
async def test_a_key_of_another_type_refuses_the_whole_commit(
    backend: Backend, key: str, found: str
) -> None:
    expected = WRITTEN.get(key, ("stream", None))[0]
    store = backend.open()
    lease = await hold(store)
    await backend.put(key, found)
    before = await backend.dump()
    if found == expected == "stream" and key != NAMES.signals:
        # Its entry has a higher id than ours.
        with pytest.raises(ExhaustedError):
            await commit(store, lease, every_write(), upto=b"5-0")
        assert await backend.dump() == before
        return
    if found == expected:
        await commit(store, lease, every_write(), upto=b"5-0")
        return
    with pytest.raises(TamperedError) as caught:
        await commit(store, lease, every_write(), upto=b"5-0")
    assert (caught.value.key, caught.value.found, caught.value.expected) == (key, found, expected)
    assert await backend.dump() == before
    # After it was moved away, commits continue.
    await backend.drop(key)
    await commit(store, lease, every_write(), upto=b"5-0")


async def test_the_group_follows_what_a_commit_acknowledges(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, [[b"a", b"1"]] * 3, 10)
    assert await backend.position(NAMES.signals, ORCHESTRATORS) == BEGINNING
    for version, entry_id in enumerate(ids):
        await commit(store, lease, version=version, upto=entry_id)
        assert await backend.position(NAMES.signals, ORCHESTRATORS) == entry_id
        assert (await hold(backend.open(), "one")).committed == entry_id
        lease = await hold(store, "one")


async def test_a_commit_that_acknowledges_nothing_leaves_the_input_as_it_is(
    backend: Backend,
) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, [[b"a", b"1"]] * 2, 10)
    await commit(store, lease, upto=ids[0])
    await commit(store, lease, every_write(), version=1)
    assert await backend.position(NAMES.signals, ORCHESTRATORS) == ids[0]
    assert (await backend.dump())[NAMES.signals] == ("stream", [(ids[1], [b"a", b"1"])])


async def test_the_input_is_trimmed_up_to_what_is_committed_and_never_above(
    backend: Backend,
) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, [[b"n", b"%d" % n] for n in range(300)], 1_000)
    for version, (upto, drained) in enumerate(
        [(0, True), (10, False), (250, False), (251, True), (252, False), (299, True)]
    ):
        await commit(store, lease, version=version, upto=ids[upto], drained=drained)
        left = [i for i, _ in await store.entries(NAMES.signals, b"-", b"+", 1_000)]
        # While more is waiting, only whole nodes are trimmed: some committed entries may remain.
        assert left == ids[upto + 1 :] if drained else left[-(299 - upto) :] == ids[upto + 1 :]
        read = [i for i, _ in await store.read(0, ORCHESTRATORS, ids[upto], 1_000, 0)]
        assert read == ids[upto + 1 :]


async def test_the_lowest_and_the_highest_ids_can_be_committed(backend: Backend) -> None:
    """Ids made by hand: a script that failed on them would have written half of the batch."""
    store = backend.open()
    lease = await hold(store)
    top = 2**64 - 1
    for version, entry_id in enumerate([b"5-%d" % top, b"6-0", b"%d-%d" % (top, top - 1)]):
        await backend.append(NAMES.signals, entry_id.decode(), b"a", b"1")
        await commit(store, lease, note(KEYS.log), version=version, upto=entry_id)
        assert await store.length(NAMES.signals) == 0
        assert await store.length(KEYS.log) == version + 1


@pytest.mark.parametrize("accident", ["group destroyed", "input deleted"])
async def test_a_commit_restores_its_group(backend: Backend, accident: str) -> None:
    store = backend.open()
    lease = await hold(store)
    (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
    if accident == "group destroyed":
        await backend.destroy_group(NAMES.signals, ORCHESTRATORS)
    else:
        await backend.drop(NAMES.signals)
    await commit(store, lease, every_write(), upto=entry_id)
    assert await backend.position(NAMES.signals, ORCHESTRATORS) == entry_id
    await backend.pass_ms(1)
    (after,) = await store.emit(0, [[b"a", b"2"]], 10)
    assert plain(await store.read(0, ORCHESTRATORS, entry_id, 10, 0)) == [(after, [b"a", b"2"])]


@pytest.mark.parametrize("by_hand", ["900-5", "3-0", LAST])
@pytest.mark.parametrize("which", ["log", "inbox", "dead"])
async def test_an_entry_made_by_hand_beyond_ours_refuses_the_whole_commit(
    backend: Backend, which: str, by_hand: str
) -> None:
    store = backend.open()
    lease = await hold(store)
    key = {"log": KEYS.log, "inbox": KEYS.inbox("A"), "dead": NAMES.dead}[which]
    await backend.append(key, by_hand, b"by", b"hand")
    batch = Batch()
    batch.append(KEYS.log, "3-0", ("number",), (3,))
    batch.append(KEYS.inbox("A"), "3-1", ("number",), (3,))
    batch.write("HSET", KEYS.agents, ("A", "{}"))
    batch.append(NAMES.dead, "*", ("code",), ("X",))
    before = await backend.dump()
    if by_hand != LAST and (which == "dead" or (which, by_hand) == ("inbox", "3-0")):
        await commit(store, lease, batch)
        return
    with pytest.raises(ExhaustedError) as caught:
        await commit(store, lease, batch)
    assert caught.value.key == key
    assert await backend.dump() == before
