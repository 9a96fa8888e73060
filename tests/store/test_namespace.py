"""What belongs to a whole namespace, on every store: partitions, replicas, its own keys."""

import pytest

from fabric.errors import TamperedError, UnsupportedServerError
from fabric.store.keys import Namespace
from fabric.store.port import Lease
from fabric.store.redis import RedisStore
from tests.store.backend import (
    LONG_MS,
    ORCHESTRATORS,
    SHORT_MS,
    Backend,
    RedisBackend,
    commit,
    hold,
    note,
)


async def test_the_number_of_partitions_is_fixed_on_first_use(backend: Backend) -> None:
    first, second = backend.open(), backend.open()
    assert await first.partitions(4) == 4
    assert await second.partitions(64) == 4
    assert await first.partitions(1) == 4
    assert await backend.open("other").partitions(64) == 64


@pytest.mark.parametrize("value", [b"0", b"-1", b"many", b"", b"1.5"])
async def test_an_invalid_number_of_partitions_is_refused(backend: Backend, value: bytes) -> None:
    await backend.set_field(Namespace().meta, "partitions", value)
    with pytest.raises(TamperedError):
        await backend.open().partitions(1)


async def test_replicas_see_each_other_while_they_live(backend: Backend) -> None:
    store = backend.open()
    assert await store.beat(ORCHESTRATORS, "b", LONG_MS) == ["b"]
    assert await store.beat(ORCHESTRATORS, "a", LONG_MS) == ["a", "b"]
    assert await store.beat("synthesizers", "c", LONG_MS) == ["c"]
    await store.leave(ORCHESTRATORS, "b")
    await store.leave(ORCHESTRATORS, "never there")
    assert await store.beat(ORCHESTRATORS, "a", SHORT_MS) == ["a"]
    await backend.pass_ms(SHORT_MS + 1)
    assert await store.beat(ORCHESTRATORS, "d", LONG_MS) == ["d"]


async def test_two_namespaces_never_see_each_other(backend: Backend) -> None:
    one, two = backend.open("fabric"), backend.open("fabric2")
    for store in (one, two):
        await store.partitions(2)
        lease = await hold(store, "owner")
        (entry_id,) = await store.emit(0, [[b"a", b"1"]], 1)
        keys = store.namespace.partition(0).session("s")
        assert await store.enroll(0, "s", "A") == 1
        await store.set_cursor(keys.cursors, "A", b"1-0")
        await commit(store, lease, note(keys.log), upto=entry_id)
        assert await store.beat(ORCHESTRATORS, "r", LONG_MS) == ["r"]
        other = await store.acquire(0, ORCHESTRATORS, "another", "n", LONG_MS)
        assert not isinstance(other, Lease)
    before = await backend.dump()
    mine = {key for key in before if key.startswith("fabric:")}
    theirs = {key for key in before if key.startswith("fabric2:")}
    assert mine | theirs == set(before)
    assert {key.replace("fabric2:", "fabric:") for key in theirs} == mine
    for key in theirs:
        await backend.drop(key)
    assert {key: before[key] for key in mine} == await backend.dump()


async def test_keys_of_another_layout_are_not_touched(real: RedisBackend) -> None:
    await real.call("HSET", Namespace().meta, "partitions", "1", "schema", "99")
    with pytest.raises(UnsupportedServerError, match="layout"):
        await real.open().partitions(1)


async def test_the_note_of_a_copy_of_the_files_goes_a_month_after_the_last_claim(
    real: RedisBackend,
) -> None:
    store = real.open()
    key = store.namespace.workspace("h:/w")
    month_ms = 30 * 24 * 3_600_000
    await store.occupy(key, 1, "s", 7)
    assert month_ms - LONG_MS < await real.call("PTTL", key) <= month_ms
    await real.call("PEXPIRE", key, LONG_MS)
    await store.occupy(key, 2, "s", 8)
    assert await real.call("PTTL", key) > LONG_MS


async def test_an_agent_that_may_not_let_keys_go_notes_its_copy_all_the_same(
    real: RedisBackend,
) -> None:
    await real.call("ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", "+@all", "-pexpire")
    url = real.server.url.replace("://", "://few:pw@", 1)
    store = RedisStore(url)
    try:
        key = store.namespace.workspace("h:/w")
        await store.occupy(key, 1, "s", 7)
        assert await real.call("PTTL", key) == -1
    finally:
        await store.close()
        await real.call("ACL", "DELUSER", "few")
