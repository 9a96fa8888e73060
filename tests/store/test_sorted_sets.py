"""Sorted sets, on every store: timers by time, sessions by activity, names in pages."""

import pytest

from fabric.store.keys import SYNTHESIZERS, Namespace
from fabric.store.port import Batch
from tests.store.backend import ORCHESTRATORS, Backend, commit, hold

NAMES = Namespace().partition(0)
KEYS = NAMES.session("s")


async def test_timers_come_soonest_first(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    base = 1_767_123_000_000
    timers = {"s:c": 30, "s:a": 10, "t:b": 10, "s:late": 9_999}
    for timer, ms in timers.items():
        batch.write("ZADD", NAMES.deadlines, (base + ms, timer))
    await commit(store, lease, batch)
    assert await store.due(0, ORCHESTRATORS, base + 9, 10) == []
    assert await store.due(0, ORCHESTRATORS, base + 10, 10) == [
        (b"s:a", base + 10),
        (b"t:b", base + 10),
    ]
    assert await store.due(0, ORCHESTRATORS, base + 500, 2) == [
        (b"s:a", base + 10),
        (b"t:b", base + 10),
    ]
    assert [timer for timer, _ in await store.due(0, ORCHESTRATORS, 2**53, 10)][-2:] == [
        b"s:c",
        b"s:late",
    ]
    assert await store.due(1, ORCHESTRATORS, 2**53, 10) == []


async def test_each_group_of_workers_has_timers_of_its_own(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    batch.write("ZADD", NAMES.deadlines, (5, "s:silence:A"))
    batch.write("ZADD", NAMES.timers(SYNTHESIZERS), (7, "s:sweep:A"))
    await commit(store, lease, batch)
    assert NAMES.timers(ORCHESTRATORS) == NAMES.deadlines
    assert await store.due(0, ORCHESTRATORS, 10, 10) == [(b"s:silence:A", 5)]
    assert await store.due(0, SYNTHESIZERS, 10, 10) == [(b"s:sweep:A", 7)]
    assert await store.due(0, SYNTHESIZERS, 6, 10) == []
    await backend.put(NAMES.deadlines, "string")
    assert await store.due(0, SYNTHESIZERS, 10, 10) == [(b"s:sweep:A", 7)]


@pytest.mark.parametrize("names", [["s"], ["s", "t", "nobody"]])
async def test_timers_of_sessions_come_in_one_walk(backend: Backend, names: list[str]) -> None:
    store = backend.open()
    batch = Batch()
    for name in ("s", "t", "st", "s2"):
        batch.write(
            "ZADD", NAMES.deadlines, [part for n in range(300) for part in (n, f"{name}:x:{n}")]
        )
    batch.write("ZADD", NAMES.deadlines, (1, ":retention", 2, "s"))
    await commit(store, await hold(store), batch)
    found = await store.timers_of_each(0, ORCHESTRATORS, names)
    assert {name: len(timers) for name, timers in found.items()} == {
        name: 0 if name == "nobody" else 300 for name in names
    }
    assert all(one.startswith(f"{name}:x:".encode()) for name in names for one in found[name])
    assert await store.timers_of_each(0, SYNTHESIZERS, names) == {name: [] for name in names}


#: Names whose order as text differs from that as bytes, or that are prefixes of others.
MEMBERS = ["a:/x", "a:/x/y", "a:/x/\u00e9", "a:/x0", "a:/\uffee", "a:/\U0001f600", "b:", "b:/x"]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("prefix", ["", "a:", "a:/x", "a:/x/", "b:", "b:/", "c:", "\u00e9"])
async def test_members_come_in_pages_in_the_order_of_their_bytes(
    backend: Backend, prefix: str, count: int
) -> None:
    store = backend.open()
    batch = Batch()
    for name in MEMBERS:
        batch.write("ZADD", KEYS.said("A"), (0, name))
    await commit(store, await hold(store), batch)
    found: list[str] = []
    while page := await store.members(KEYS.said("A"), prefix, found[-1] if found else "", count):
        assert len(page) <= count
        found += page
    assert found == sorted((n for n in MEMBERS if n.startswith(prefix)), key=str.encode)


async def test_a_removed_member_does_not_end_the_pages(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    batch.write("ZADD", KEYS.said("A"), [part for n in range(6) for part in (0, f"a:{n}")])
    await commit(store, lease, batch)
    (first, second) = await store.members(KEYS.said("A"), "a:", "", 2)
    batch = Batch()
    batch.write("ZREM", KEYS.said("A"), (first, second, "a:2"))
    await commit(store, lease, batch, version=lease.version + 1)
    assert await store.members(KEYS.said("A"), "a:", second, 2) == ["a:3", "a:4"]


async def test_scores_come_highest_first(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    batch.write("ZADD", NAMES.sessions, (5, "b", 7, "a", 5, "c", 2**53 - 1, "d"))
    await commit(store, lease, batch)
    expected = [(b"d", 2**53 - 1), (b"a", 7), (b"c", 5), (b"b", 5)]
    assert await store.scores(NAMES.sessions) == expected
