"""A stream whose ids somebody has used up is replaced by a copy of what counts, on every store."""

import pytest

from fabric.errors import ExhaustedError, FencedError
from fabric.store import redis as redis_store
from fabric.store.keys import SYNTHESIZERS, Namespace
from fabric.store.port import BEGINNING, Batch, Lease
from fabric.store.value import SEQUENCE_MAX, parse_id
from fabric.testing.store import MemoryStore
from tests.store.backend import LONG_MS, Backend, Store, commit, hold, lapse, plain

NAMES = Namespace().partition(0)
KEYS = NAMES.session("s")
LAST = f"{SEQUENCE_MAX}-{SEQUENCE_MAX}"


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step copies ten entries."""
    monkeypatch.setattr(redis_store, "REBUILD_ENTRIES_MAX", 10)
    monkeypatch.setattr(MemoryStore, "rebuild_entries_max", 10)


async def rebuild(store: Store, lease: Lease, key: str, steps: int = 1_000) -> int:
    """Rebuild a stream, in at most so many steps; return how many entries were copied."""
    place: bytes | None = b""
    entries = 0
    while place is not None and steps:
        step = await store.rebuild(lease, key, place, LONG_MS)
        place, entries, steps = step.place, step.entries, steps - 1
    return entries


async def content(store: Store, key: str) -> list[list[bytes]]:
    return [list(fields) for _, fields in await store.entries(key, b"-", b"+", 10_000)]


async def emit(store: Store, first: int, last: int) -> list[bytes]:
    return await store.emit(0, [[b"n", b"%d" % n] for n in range(first, last)], 10_000)


def numbers(first: int, last: int) -> list[list[bytes]]:
    return [[b"n", b"%d" % n] for n in range(first, last)]


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("poison", [LAST, f"{SEQUENCE_MAX}-{SEQUENCE_MAX - 3}"])
async def test_an_ingress_is_carried_over_in_order(backend: Backend, poison: str) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await emit(store, 0, 35)
    await commit(store, lease, upto=ids[4])
    await backend.append(NAMES.signals, poison, b"n", b"35")
    left = SEQUENCE_MAX - parse_id(poison.encode())[1]
    await emit(store, 36, 36 + left)
    with pytest.raises(ExhaustedError):
        await emit(store, 0, 1)
    assert await store.exhausted(0) == NAMES.signals
    assert await rebuild(store, lease, NAMES.signals) == 31 + left
    assert await store.exhausted(0) is None
    found = await store.read(0, "orchestrators", BEGINNING, 1_000, 0)
    assert [fields for _, fields in plain(found)] == numbers(5, 36 + left)
    # Ids that are not in the future stay: they say when a signal came in.
    assert [entry_id for entry_id, _ in found[:30]] == ids[5:]
    assert max(parse_id(entry_id) for entry_id, _ in found)[0] <= await backend.now_ms() + 1
    again = await hold(store)
    assert again.committed == BEGINNING
    assert len(await content(store, NAMES.aside(NAMES.signals))) >= 31
    (new,) = await emit(store, 99, 100)
    await commit(store, again, version=1, upto=new)
    assert await store.length(NAMES.signals) == 0


async def test_a_call_of_several_signals_goes_in_as_a_whole_or_not_at_all(
    backend: Backend,
) -> None:
    store = backend.open()
    await backend.append(NAMES.signals, f"{SEQUENCE_MAX}-{SEQUENCE_MAX - 2}", b"n", b"0")
    with pytest.raises(ExhaustedError):
        await emit(store, 1, 4)
    assert await content(store, NAMES.signals) == numbers(0, 1)


@pytest.mark.usefixtures("small_steps")
async def test_a_worker_killed_in_the_middle_leaves_nothing_that_counts(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    await emit(store, 0, 35)
    await backend.append(NAMES.signals, LAST, b"n", b"35")
    for steps in (1, 2, 3):
        await rebuild(store, lease, NAMES.signals, steps)
        await lapse(backend, store, lease)
        other = await hold(store, "two")
        with pytest.raises(FencedError):
            await rebuild(store, lease, NAMES.signals)
        lease = other
    assert await rebuild(store, lease, NAMES.signals) == 36
    assert await content(store, NAMES.signals) == numbers(0, 36)


@pytest.mark.usefixtures("small_steps")
async def test_results_that_are_read_meanwhile_do_not_come_back(backend: Backend) -> None:
    """The orchestrator replaces the input of the synthesizer, which works on it."""
    store = backend.open()
    lease = await hold(store)
    reader = await store.acquire(0, SYNTHESIZERS, "reader", "n", LONG_MS)
    assert isinstance(reader, Lease)
    ids = await store.emit(0, numbers(0, 35), 1_000, SYNTHESIZERS)
    await backend.append(NAMES.results, LAST, b"n", b"35")
    place = (await store.rebuild(lease, NAMES.results, b"", LONG_MS)).place
    await store.commit(reader, 0, Batch(), ids[20], LONG_MS, drained=False)
    while place is not None:
        place = (await store.rebuild(lease, NAMES.results, place, LONG_MS)).place
    assert await content(store, NAMES.results) == numbers(21, 36)
    # What it has read since may not be committed: its ids mean nothing in the copy.
    with pytest.raises(FencedError):
        await store.commit(reader, 1, Batch(), ids[30], LONG_MS, drained=False)
    again = await store.acquire(0, SYNTHESIZERS, "another", "n2", LONG_MS)
    assert isinstance(again, Lease)
    assert (again.committed, again.outages) == (BEGINNING, ())


async def test_results_that_were_read_up_to_the_last_id(backend: Backend) -> None:
    """Nothing lies behind it, and a server refuses even to look there."""
    store = backend.open()
    lease = await hold(store)
    reader = await store.acquire(0, SYNTHESIZERS, "reader", "n", LONG_MS)
    assert isinstance(reader, Lease)
    await backend.append(NAMES.results, LAST, b"by", b"hand")
    await store.commit(reader, 0, Batch(), LAST.encode(), LONG_MS, drained=False)
    assert await store.entries(NAMES.results, b"(" + LAST.encode(), b"+", 1) == []
    assert await rebuild(store, lease, NAMES.results) == 0
    (new,) = await store.emit(0, numbers(0, 1), 10, SYNTHESIZERS)
    assert await content(store, NAMES.results) == numbers(0, 1)
    again = await store.acquire(0, SYNTHESIZERS, "another", "n2", LONG_MS)
    assert isinstance(again, Lease)
    await store.commit(again, 1, Batch(), new, LONG_MS, drained=False)


@pytest.mark.usefixtures("small_steps")
async def test_the_last_id_ends_a_step(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    for number in range(9):
        await backend.append(NAMES.dead, "*", b"n", b"%d" % number)
    await backend.append(NAMES.dead, LAST, b"n", b"9")
    assert await rebuild(store, lease, NAMES.dead) == 10
    assert await content(store, NAMES.dead) == numbers(0, 10)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("by_hand", ["26-0", "900-5", LAST])
async def test_a_log_keeps_what_the_fabric_has_written(backend: Backend, by_hand: str) -> None:
    store = backend.open()
    lease = await hold(store)
    batch = Batch()
    for number in range(1, 26):
        batch.append(KEYS.log, f"{number}-0", ("n",), (number,))
        batch.append(KEYS.log, f"{number}-1", ("n",), (number,))
    batch.write("HSET", KEYS.meta, ("log", 25))
    await commit(store, lease, batch)
    before = plain(await store.entries(KEYS.log, b"-", b"+", 100))
    await backend.append(KEYS.log, by_hand, b"by", b"hand")
    assert await rebuild(store, lease, KEYS.log) == 50
    assert plain(await store.entries(KEYS.log, b"-", b"+", 100)) == before
    assert (await content(store, NAMES.aside(KEYS.log)))[-1] == [b"by", b"hand"]
    batch = Batch()
    batch.append(KEYS.log, "26-0", ("n",), (26,))
    await commit(store, lease, batch, version=1)
    assert plain(await store.entries(KEYS.log, b"(25-1", b"+", 9)) == [(b"26-0", [b"n", b"26"])]


async def test_a_stream_with_nothing_of_ours_is_put_aside(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    await backend.append(KEYS.inbox("A"), LAST, b"by", b"hand")
    assert await rebuild(store, lease, KEYS.inbox("A")) == 0
    assert KEYS.inbox("A") not in await backend.dump()
    # Nothing is left to do the second time, as after a lost reply.
    assert await rebuild(store, lease, KEYS.inbox("A")) == 0


async def test_dead_letters_are_all_kept(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    for entry_id in ("5-0", f"{SEQUENCE_MAX}-0", LAST):
        await backend.append(NAMES.dead, entry_id, b"code", entry_id.encode())
    assert await store.exhausted(0) == NAMES.dead
    before = await content(store, NAMES.dead)
    assert await rebuild(store, lease, NAMES.dead) == 3
    assert await content(store, NAMES.dead) == before
    batch = Batch()
    batch.append(NAMES.dead, "*", ("code",), ("X",))
    await commit(store, lease, batch)
    assert (await content(store, NAMES.dead))[3:] == [[b"code", b"X"]]
