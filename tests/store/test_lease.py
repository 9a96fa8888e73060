"""Leases, on every store: one holder at a time, and every new one under a higher epoch."""

import asyncio
from dataclasses import replace

import pytest

from fabric.errors import FencedError, UnseededError
from fabric.store.keys import SYNTHESIZERS, Namespace
from fabric.store.port import BEGINNING, Held, Lease
from tests.store.backend import (
    LONG_MS,
    ORCHESTRATORS,
    SHORT_MS,
    Backend,
    commit,
    hold,
    lapse,
    plain,
)

NAMES = Namespace().partition(0)


async def test_a_free_lease_is_taken(backend: Backend) -> None:
    store = backend.open()
    before_ms = await backend.now_ms()
    lease = await hold(store)
    assert (lease.partition, lease.group, lease.owner) == (0, ORCHESTRATORS, "one")
    assert (lease.version, lease.committed) == (0, BEGINNING)
    assert before_ms <= lease.now_ms <= await backend.now_ms()
    assert lease.expires_ms == lease.now_ms + LONG_MS
    # A first epoch is the server's time: above any epoch that a lost server can have handed out.
    assert before_ms <= lease.epoch <= lease.now_ms


async def test_a_held_lease_is_not_taken_and_names_its_holder(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lease = await hold(first, "one")
    for owner in ("two", "oneone", "o"):
        answer = await second.acquire(0, ORCHESTRATORS, owner, "n", LONG_MS)
        assert isinstance(answer, Held)
        assert (answer.owner, answer.epoch) == ("one", lease.epoch)
        assert 0 < answer.remaining_ms <= LONG_MS
    await commit(first, lease)


async def test_its_owner_may_take_it_again_and_the_old_lease_is_void(backend: Backend) -> None:
    """A worker that lost the reply, or restarted under the same name, must not wait."""
    store = backend.open()
    first = await hold(store)
    second = await hold(store)
    assert second.epoch > first.epoch
    with pytest.raises(FencedError):
        await store.renew(first, LONG_MS)
    with pytest.raises(FencedError):
        await commit(store, first)
    await store.renew(second, LONG_MS)


async def test_a_released_lease_is_free_immediately(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lease = await hold(first, "one")
    await first.release(lease)
    with pytest.raises(FencedError):
        await first.renew(lease, LONG_MS)
    with pytest.raises(FencedError):
        await commit(first, lease)
    assert (await hold(second, "two")).epoch > lease.epoch


async def test_an_expired_lease_is_free(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lease = await hold(first, "one")
    await lapse(backend, first, lease)
    with pytest.raises(FencedError, match="expired"):
        await first.renew(lease, LONG_MS)
    with pytest.raises(FencedError, match="expired"):
        await commit(first, lease)
    assert (await hold(second, "two")).epoch > lease.epoch
    with pytest.raises(FencedError, match="fenced; two holds epoch"):
        await commit(first, lease)


async def test_a_renewed_lease_does_not_expire(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lease = await hold(first, "one", ttl_ms=SHORT_MS)
    before_ms = await backend.now_ms()
    now_ms = await first.renew(lease, LONG_MS)
    assert before_ms <= now_ms <= await backend.now_ms()
    await backend.pass_ms(SHORT_MS + 1)
    assert isinstance(await second.acquire(0, ORCHESTRATORS, "two", "n", LONG_MS), Held)
    await first.renew(lease, LONG_MS)


async def test_every_commit_renews_the_lease(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lease = await hold(first, "one", ttl_ms=SHORT_MS)
    await commit(first, lease, ttl_ms=LONG_MS)
    await backend.pass_ms(SHORT_MS + 1)
    assert isinstance(await second.acquire(0, ORCHESTRATORS, "two", "n", LONG_MS), Held)
    await commit(first, lease, version=lease.version + 1)


async def test_releasing_a_lost_lease_leaves_it_to_its_holder(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lost = await hold(first, "one")
    await lapse(backend, first, lost)
    held = await hold(second, "two")
    with pytest.raises(FencedError):
        await first.release(lost)
    await commit(second, held)


async def test_the_nonce_and_the_epoch_must_both_be_right(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    for wrong in (
        replace(lease, nonce="another"),
        replace(lease, nonce=""),
        replace(lease, epoch=lease.epoch + 1),
        replace(lease, epoch=lease.epoch - 1),
    ):
        with pytest.raises(FencedError, match="fenced"):
            await store.renew(wrong, LONG_MS)
        with pytest.raises(FencedError, match="fenced"):
            await commit(store, wrong)
    await commit(store, lease)


async def test_epochs_rise_whoever_held_the_lease_and_however_it_ended(backend: Backend) -> None:
    stores = [backend.open(), backend.open()]
    epochs = []
    for number in range(6):
        store = stores[number % 2]
        lease = await hold(store, f"owner {number % 2}")
        epochs.append(lease.epoch)
        await (store.release(lease) if number % 3 else lapse(backend, store, lease))
    assert epochs == sorted(set(epochs))


async def test_version_and_position_go_on_with_the_next_holder(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lease = await hold(first, "one")
    (entry_id,) = await first.emit(0, [[b"a", b"1"]], 10)
    await commit(first, lease, upto=entry_id)
    await commit(first, lease, version=1)
    await first.release(lease)
    taken = await hold(second, "two")
    assert (taken.version, taken.committed) == (2, entry_id)


async def test_partitions_and_groups_are_leased_separately(backend: Backend) -> None:
    store = backend.open()
    leases = [await hold(store, "one"), await hold(store, "two", partition=1)]
    for partition in (0, 1):
        other = await store.acquire(partition, SYNTHESIZERS, "three", f"n{partition}", LONG_MS)
        assert isinstance(other, Lease)
        leases.append(other)
    for lease in leases:
        await commit(store, lease)


async def test_of_many_that_ask_at_once_one_gets_the_lease(backend: Backend) -> None:
    stores = [backend.open() for _ in range(5)]
    answers = await asyncio.gather(
        *(
            store.acquire(0, ORCHESTRATORS, f"owner {number}", f"n{number}", LONG_MS)
            for number, store in enumerate(stores)
        )
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Held"] * 4 + ["Lease"]


async def test_without_its_epoch_a_partition_stays_stopped(backend: Backend) -> None:
    """It fails closed, because stale workers could not be told from new ones."""
    store = backend.open()
    lease = await hold(store)
    await backend.drop(NAMES.lease(ORCHESTRATORS))
    for owner in ("one", "two"):
        with pytest.raises(UnseededError):
            await store.acquire(0, ORCHESTRATORS, owner, "n", LONG_MS)
    with pytest.raises(UnseededError):
        await store.renew(lease, LONG_MS)
    with pytest.raises(UnseededError):
        await commit(store, lease)
    assert NAMES.lease(ORCHESTRATORS) not in await backend.dump()
    # Other partitions continue, and new ones may be used for the first time.
    await commit(store, await hold(store, partition=1))


async def test_after_a_flush_everything_starts_again_under_a_higher_epoch(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    lost = await hold(first, "one")
    await commit(first, lost)
    await backend.flush()
    with pytest.raises(UnseededError):
        await commit(first, lost, version=1)
    await backend.pass_ms(1)
    taken = await hold(second, "two")
    assert taken.epoch > lost.epoch
    assert taken.version == 0
    with pytest.raises(FencedError):
        await commit(first, lost, version=1)
    with pytest.raises(FencedError):
        await first.renew(lost, LONG_MS)


async def test_an_input_that_was_deleted_is_read_from_its_new_beginning(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
    await commit(store, lease, upto=entry_id)
    await backend.drop(NAMES.signals)
    # Made by hand, so its id is below everything that was committed.
    await backend.append(NAMES.signals, "1-1", b"a", b"2")
    taken = await hold(store)
    assert taken.committed == BEGINNING
    found = await store.read(0, ORCHESTRATORS, taken.committed, 10, 0)
    assert plain(found) == [(b"1-1", [b"a", b"2"])]
    assert await backend.position(NAMES.signals, ORCHESTRATORS) == BEGINNING


async def test_a_deleted_input_is_created_again_with_its_group(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
    await commit(store, lease, upto=entry_id)
    await backend.drop(NAMES.signals)
    taken = await hold(store)
    assert taken.committed == BEGINNING
    await backend.append(NAMES.signals, "1-1", b"a", b"2")
    assert len(await store.read(0, ORCHESTRATORS, taken.committed, 10, 0)) == 1


async def test_the_group_is_where_the_lease_says(backend: Backend) -> None:
    store = backend.open()
    lease = await hold(store)
    ids = await store.emit(0, [[b"a", b"1"]] * 3, 10)
    await commit(store, lease, upto=ids[1])
    await backend.destroy_group(NAMES.signals, ORCHESTRATORS)
    taken = await hold(store)
    assert taken.committed == ids[1]
    assert await backend.position(NAMES.signals, ORCHESTRATORS) == ids[1]
    assert [i for i, _ in await store.read(0, ORCHESTRATORS, taken.committed, 9, 0)] == ids[2:]
