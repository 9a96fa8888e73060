"""Everything that agents and workers need from a store but leases and commits, on every store."""

import asyncio
import json

import pytest

from fabric.core.limits import COUNTER_MAX, ENTRY_FIELDS_MAX, INCARNATIONS_SKIPPED_MAX
from fabric.errors import CallerError, ExhaustedError, OverloadedError, TamperedError
from fabric.store.channels import KEYS_AT_ONCE
from fabric.store.keys import SYNTHESIZERS, Namespace
from fabric.store.port import BEGINNING
from tests.store.backend import (
    ORCHESTRATORS,
    Backend,
    commit,
    hold,
    note,
    plain,
)

NAMES = Namespace().partition(0)
KEYS = NAMES.session("s")

#: Longest time that a read may block here, ms; each ends when an entry comes.
BLOCK_MS = 5_000


async def test_signals_are_appended_unchanged_and_in_order(backend: Backend) -> None:
    store = backend.open()
    entries = [[b"a", b"\xff\x00\r\n"], [b"b", b"", b"b", b"2"], [b"", b"\xe2\x82"]]
    ids = await store.emit(0, entries, 10)
    ids += await store.emit(0, entries[:1], 10)
    found = plain(await store.entries(NAMES.signals, b"-", b"+", 10))
    assert found == list(zip(ids, [*entries, entries[0]], strict=True))
    milliseconds = [int(entry_id.partition(b"-")[0]) for entry_id in ids]
    assert milliseconds == sorted(milliseconds)
    assert len(set(ids)) == 4


async def test_a_full_ingress_refuses_signals(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, [[b"a", b"1"]] * 3, 3)
    before = await backend.dump()
    for entries in ([[b"a", b"2"]], [[b"a", b"2"]] * 5):
        with pytest.raises(OverloadedError, match="3 are allowed"):
            await store.emit(0, entries, 3)
    assert await backend.dump() == before
    # Other partitions have room, and so has this one after a commit.
    await store.emit(1, [[b"a", b"2"]], 3)
    await commit(store, lease, upto=ids[0])
    await store.emit(0, [[b"a", b"2"]] * 5, 3)
    assert await store.length(NAMES.signals) == 7


@pytest.mark.parametrize("fields", [0, 1, 3, 2 * ENTRY_FIELDS_MAX + 2, 10_000])
async def test_an_entry_that_a_script_would_fail_on_refuses_the_others_too(
    backend: Backend, fields: int
) -> None:
    """A retried dead letter of 5,000 fields is such an entry: all or none are appended."""
    store = backend.open()
    with pytest.raises(CallerError):
        await store.emit(0, [[b"a", b"1"], [b"x"] * fields], 10)
    assert await backend.dump() == {}


async def test_entries_go_to_the_stream_that_a_group_of_workers_reads(backend: Backend) -> None:
    store = backend.open()
    (entry_id,) = await store.emit(0, [[b"a", b"1"]], 1, SYNTHESIZERS)
    assert plain(await store.read(0, SYNTHESIZERS, BEGINNING, 10, 0)) == [(entry_id, [b"a", b"1"])]
    assert await store.read(0, ORCHESTRATORS, BEGINNING, 10, 0) == []
    await store.emit(0, [[b"a", b"1"]], 1)
    with pytest.raises(OverloadedError, match="results holds 1 "):
        await store.emit(0, [[b"a", b"2"]], 1, SYNTHESIZERS)


async def test_incarnations_rise(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    assert [await store.enroll(0, "s", "A") for _ in range(3)] == [1, 2, 3]
    assert await other.enroll(0, "s", "A") == 4
    assert await store.enroll(0, "s", "B: two") == 1
    assert await store.enroll(0, "another", "A") == 1


async def test_one_of_those_that_take_a_copy_over_at_once_succeeds(backend: Backend) -> None:
    stores = [backend.open() for _ in range(4)]
    key = stores[0].namespace.workspace("h:/w")
    for number in (1, 2):
        taken = await asyncio.gather(
            *(store.occupy(key, number, f"s{at}", 7) for at, store in enumerate(stores)),
            return_exceptions=True,
        )
        assert [type(one) for one in taken if one is not None] == [ExhaustedError] * 3
        ((entry_id, fields),) = plain(await stores[0].entries(key, b"-", b"+", 10))
        assert entry_id == b"%d-1" % number
        assert fields == [b"session", b"s%d" % taken.index(None), b"ms", b"7"]


async def test_agents_that_enroll_at_once_get_different_incarnations(backend: Backend) -> None:
    stores = [backend.open() for _ in range(4)]
    handed = await asyncio.gather(*(store.enroll(0, "s", "A") for store in stores for _ in "12345"))
    assert sorted(handed) == list(range(1, 21))


@pytest.mark.parametrize("present", [5, 2**32, COUNTER_MAX - 1])
async def test_an_incarnation_is_above_the_current_one(backend: Backend, present: int) -> None:
    """The agent numbered its starts itself, and now lets the fabric do it."""
    store = backend.open()
    await store.enroll(0, "s", "A")
    await backend.set_field(KEYS.agents, "A", json.dumps({"incarnation": present}).encode())
    assert await store.enroll(0, "s", "A") == present + 1
    await backend.set_field(KEYS.agents, "A", b'{"incarnation": 1}')
    # Far above what is heard: somebody has written it.
    is_far = present > INCARNATIONS_SKIPPED_MAX
    assert await store.enroll(0, "s", "A") == (2 if is_far else present + 2)


@pytest.mark.parametrize(
    "spoilt", [b"", b"{", b"[1]", b"7", b'{"incarnation": null}', b"{}", b"\xff"]
)
async def test_a_damaged_record_does_not_stop_enrolling(backend: Backend, spoilt: bytes) -> None:
    store = backend.open()
    await backend.set_field(KEYS.agents, "A", spoilt)
    assert [await store.enroll(0, "s", "A") for _ in range(2)] == [1, 2]


async def test_input_is_read_from_a_position(backend: Backend) -> None:
    store = backend.open()
    assert await store.read(0, ORCHESTRATORS, BEGINNING, 10, 0) == []
    ids = await store.emit(0, [[b"n", b"%d" % n] for n in range(5)], 10)
    for position in range(5):
        found = await store.read(0, ORCHESTRATORS, ids[position], 2, 0)
        assert [i for i, _ in found] == ids[position + 1 : position + 3]
    # Reading removes nothing.
    assert len(await store.read(0, ORCHESTRATORS, BEGINNING, 10, 0)) == 5
    assert len(await backend.open().read(0, ORCHESTRATORS, BEGINNING, 10, 0)) == 5
    assert await store.read(0, "synthesizers", BEGINNING, 10, 0) == []


async def test_a_read_waits_for_the_first_entry(backend: Backend) -> None:
    store, other = backend.open(), backend.open()
    reading = asyncio.create_task(store.read(0, ORCHESTRATORS, BEGINNING, 10, BLOCK_MS))
    following = asyncio.create_task(store.read_streams({KEYS.log: BEGINNING}, 10, BLOCK_MS))
    # Either may come first; in both cases the read ends with the entry.
    (entry_id,) = await other.emit(0, [[b"a", b"1"]], 10)
    assert plain(await reading) == [(entry_id, [b"a", b"1"])]
    await commit(other, await hold(other), note(KEYS.log))
    assert list(await following) == [KEYS.log]


async def test_a_read_ends_when_no_entry_comes(backend: Backend) -> None:
    store = backend.open()
    assert await store.read(0, ORCHESTRATORS, BEGINNING, 10, 20) == []
    assert await store.read_streams({KEYS.log: BEGINNING, KEYS.broadcast: b"5-0"}, 10, 20) == {}


async def test_several_streams_are_followed_at_once(backend: Backend) -> None:
    store = backend.open()
    for number in range(1, 4):
        await backend.append(KEYS.inbox("A"), f"{number}-0", b"n", b"%d" % number)
        await backend.append(KEYS.broadcast, f"{number}-1", b"n", b"%d" % number)
    after = {KEYS.inbox("A"): b"1-0", KEYS.broadcast: b"3-1", KEYS.inbox("B"): BEGINNING}
    found = await store.read_streams(after, 10, 0)
    assert {key: [i for i, _ in entries] for key, entries in found.items()} == {
        KEYS.inbox("A"): [b"2-0", b"3-0"]
    }
    found = await store.read_streams(dict.fromkeys(after, BEGINNING), 2, 0)
    assert {key: len(entries) for key, entries in found.items()} == {
        KEYS.inbox("A"): 2,
        KEYS.broadcast: 2,
    }


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (b"-", b"+", [b"1-0", b"1-1", b"2-0", b"2-1", b"3-0"]),
        (b"1-1", b"2-0", [b"1-1", b"2-0"]),
        (b"(1-1", b"(3-0", [b"2-0", b"2-1"]),
        (b"2", b"2", [b"2-0", b"2-1"]),
        (b"(1", b"2", [b"1-1", b"2-0", b"2-1"]),
        (b"2-1", b"1-0", []),
        (b"4-0", b"+", []),
        (b"-", b"0-1", []),
    ],
)
async def test_ranges(backend: Backend, first: bytes, last: bytes, found: list[bytes]) -> None:
    store = backend.open()
    for entry_id in ("1-0", "1-1", "2-0", "2-1", "3-0"):
        await backend.append(KEYS.log, entry_id, b"a", b"1")
    entries = plain(await store.entries(KEYS.log, first, last, 10))
    assert entries == [(entry_id, [b"a", b"1"]) for entry_id in found]
    newest = await store.entries(KEYS.log, first, last, 10, newest_first=True)
    assert [i for i, _ in newest] == found[::-1]
    assert [i for i, _ in await store.entries(KEYS.log, first, last, 2)] == found[:2]
    newest = await store.entries(KEYS.log, first, last, 2, newest_first=True)
    assert [i for i, _ in newest] == found[::-1][:2]


async def test_missing_keys_are_empty(backend: Backend) -> None:
    store = backend.open()
    assert await store.entries(KEYS.log, b"-", b"+", 10) == []
    assert await store.length(KEYS.log) == 0
    assert await store.hashes([KEYS.agents, KEYS.meta]) == [{}, {}]
    assert await store.fields(KEYS.agents, ["A", "B"]) == [None, None]
    assert await store.scores(NAMES.sessions) == []
    assert await store.due(0, ORCHESTRATORS, 2**53, 10) == []
    assert await store.due(0, SYNTHESIZERS, 2**53, 10) == []
    assert await store.members(KEYS.said("A"), "", "", 10) == []
    assert await store.delete_entries(NAMES.dead, [b"1-0"]) == 0
    # Reading creates no key.
    assert await backend.dump() == {}


async def test_hashes_come_whole_and_in_the_requested_order(backend: Backend) -> None:
    store = backend.open()
    await backend.set_field(KEYS.agents, "A", b"\xff")
    await backend.set_field(KEYS.agents, "\u00e9", b"")
    await backend.set_field(KEYS.tasks, "t", b"1")
    assert await store.hashes([KEYS.tasks, KEYS.meta, KEYS.agents]) == [
        {b"t": b"1"},
        {},
        {b"A": b"\xff", "\u00e9".encode(): b""},
    ]
    assert await store.fields(KEYS.agents, ["\u00e9", "B", "A"]) == [b"", None, b"\xff"]


async def test_many_hashes_come_in_the_requested_order(backend: Backend) -> None:
    store = backend.open()
    keys = [NAMES.session(f"s{number}").agents for number in range(2 * KEYS_AT_ONCE + 1)]
    for number, key in enumerate(keys[::2]):
        await backend.set_field(key, "A", b"%d" % number)
    found = await store.hashes(keys)
    assert found[::2] == [{b"A": b"%d" % number} for number in range(KEYS_AT_ONCE + 1)]
    assert found[1::2] == [{}] * KEYS_AT_ONCE


async def test_an_error_names_the_key_that_is_no_hash(backend: Backend) -> None:
    store = backend.open()
    await backend.put(KEYS.tasks, "string")
    with pytest.raises(TamperedError) as caught:
        await store.hashes([KEYS.agents, KEYS.tasks])
    assert (caught.value.key, caught.value.found) == (KEYS.tasks, "string")


@pytest.mark.parametrize("kind", ["string", "hash"])
async def test_reading_a_key_of_another_type_is_an_error_of_its_own(
    backend: Backend, kind: str
) -> None:
    store = backend.open()
    for key in (NAMES.signals, NAMES.deadlines, KEYS.said("A")):
        await backend.put(key, kind)
    with pytest.raises(TamperedError):
        await store.read(0, ORCHESTRATORS, BEGINNING, 10, 0)
    with pytest.raises(TamperedError):
        await store.entries(NAMES.signals, b"-", b"+", 10)
    with pytest.raises(TamperedError):
        await store.length(NAMES.signals)
    with pytest.raises(TamperedError):
        await store.emit(0, [[b"a", b"1"]], 10)
    with pytest.raises(TamperedError):
        await store.due(0, ORCHESTRATORS, 2**53, 10)
    with pytest.raises(TamperedError) as caught:
        await store.members(KEYS.said("A"), "", "", 10)
    assert caught.value.key == KEYS.said("A")


async def test_cursors(backend: Backend) -> None:
    store = backend.open()
    await store.set_cursor(KEYS.cursors, "A", b"5-0")
    await store.set_cursor(KEYS.cursors, "B: two", b"6-1")
    await store.set_cursor(KEYS.cursors, "A", b"7-0")
    assert await store.fields(KEYS.cursors, ["A", "B: two", "C"]) == [b"7-0", b"6-1", None]


async def test_entries_are_removed_by_id(backend: Backend) -> None:
    store = backend.open()
    for entry_id in ("1-0", "2-0", "3-0"):
        await backend.append(NAMES.dead, entry_id, b"a", b"1")
    assert await store.delete_entries(NAMES.dead, [b"2-0", b"9-9"]) == 1
    assert [i for i, _ in await store.entries(NAMES.dead, b"-", b"+", 10)] == [b"1-0", b"3-0"]
    assert await store.delete_entries(NAMES.dead, [b"1-0", b"3-0"]) == 2
    # The ids of deleted entries are not used again.
    await backend.append(NAMES.dead, "4-0", b"a", b"1")
    assert await store.length(NAMES.dead) == 1
