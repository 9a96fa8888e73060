"""Who may commit. A test here fails for each check of the commit that is removed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from fabric.errors import FencedError, UnseededError
from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import Batch, Held, Lease
from fabric.store.redis import RedisStore
from tests.support.keyspace import LEASE, SIGNALS, add, rows, server_ms, values
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, script
from tests.support.servers import RunningServer
from tests.support.waiting import eventually
from workers.lease import HeldLease

LONG_MS = 60_000
SHORT_MS = 200

MakeProxy = Callable[[RunningServer], Proxy]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(url)
    try:
        yield store
    finally:
        await store.close()


async def take(store: RedisStore, owner: str, nonce: str, ttl_ms: int = LONG_MS) -> Lease:
    taken = await store.acquire(0, ORCHESTRATORS, owner, nonce, ttl_ms)
    assert isinstance(taken, Lease)
    return taken


def one_entry() -> Batch:
    batch = Batch()
    batch.append("fabric:{0}:results", "*", ("written",), ("yes",))
    return batch


def written(server: RunningServer) -> int:
    return len(rows(server, "fabric:{0}:results"))


async def test_one_replica_holds_it_at_a_time(server: RunningServer) -> None:
    async with connected(server.url) as store:
        first = await take(store, "a", "1")
        held = await store.acquire(0, ORCHESTRATORS, "b", "2", LONG_MS)
        assert isinstance(held, Held)
        assert (held.owner, held.epoch) == ("a", first.epoch)
        assert 0 < held.remaining_ms <= LONG_MS
        await store.release(first)
        second = await take(store, "b", "3")
        assert second.epoch > first.epoch


async def test_the_epoch_is_checked(server: RunningServer) -> None:
    """The new holder has committed nothing, and its lease is good: only the epoch differs."""
    async with connected(server.url) as store:
        old = await take(store, "a", "1", SHORT_MS)
        await eventually(lambda: server_ms(server) >= old.expires_ms, "the lease has run out")
        new = await take(store, "b", "2")
        assert (new.version, new.committed) == (old.version, old.committed)
        with pytest.raises(FencedError, match=f"under epoch {old.epoch} refused: fenced; b holds"):
            await store.commit(old, old.version, one_entry(), b"", LONG_MS, drained=True)
        with pytest.raises(FencedError, match="fenced"):
            await store.renew(old, LONG_MS)
        with pytest.raises(FencedError, match="fenced"):
            await store.release(old)
        server.cli("HSET", LEASE, "nonce", old.nonce)  # now the epoch alone differs
        with pytest.raises(FencedError, match="fenced"):
            await store.commit(old, old.version, one_entry(), b"", LONG_MS, drained=True)
        with pytest.raises(FencedError, match="fenced"):
            await store.renew(old, LONG_MS)
        server.cli("HSET", LEASE, "nonce", new.nonce)
        assert written(server) == 0
        assert values(server, LEASE)["owner"] == "b"
        await store.commit(new, new.version, one_entry(), b"", LONG_MS, drained=True)
        assert written(server) == 1


async def test_the_nonce_is_checked(server: RunningServer) -> None:
    """The same replica has taken its lease again: what it sent before is void."""
    async with connected(server.url) as store:
        old = await take(store, "a", "1")
        new = await take(store, "a", "2")
        assert new.epoch > old.epoch
        with pytest.raises(FencedError, match="fenced"):
            await store.commit(old, old.version, one_entry(), b"", LONG_MS, drained=True)
        server.cli("HSET", LEASE, "epoch", old.epoch)  # as a failover could: only the nonce differs
        with pytest.raises(FencedError, match="fenced"):
            await store.commit(old, old.version, one_entry(), b"", LONG_MS, drained=True)
        with pytest.raises(FencedError, match="fenced"):
            await store.renew(old, LONG_MS)
        assert written(server) == 0


async def test_the_expiry_is_checked_though_nobody_has_taken_over(server: RunningServer) -> None:
    async with connected(server.url) as store:
        lease = await take(store, "a", "1", SHORT_MS)
        await eventually(lambda: server_ms(server) >= lease.expires_ms, "the lease has run out")
        with pytest.raises(FencedError, match="refused: expired"):
            await store.commit(lease, lease.version, one_entry(), b"", LONG_MS, drained=True)
        with pytest.raises(FencedError, match="refused: expired"):
            await store.renew(lease, LONG_MS)
        assert written(server) == 0


async def test_the_version_is_checked(server: RunningServer) -> None:
    async with connected(server.url) as store:
        lease = await take(store, "a", "1")
        await store.commit(lease, lease.version, one_entry(), b"", LONG_MS, drained=True)
        for version in (lease.version, lease.version + 2):
            with pytest.raises(FencedError, match="another commit came first"):
                await store.commit(lease, version, one_entry(), b"", LONG_MS, drained=True)
        assert written(server) == 1


async def test_a_commit_that_reaches_the_server_twice_acts_once(
    server: RunningServer, proxy: MakeProxy
) -> None:
    between = proxy(server)
    async with connected(between.url) as store:
        lease = await take(store, "a", "1")
        twice = between.fault(Fault.REPEAT_REQUEST, script("commit"))
        await store.commit(lease, lease.version, one_entry(), b"", LONG_MS, drained=True)
        assert twice.landed == 1
        assert written(server) == 1
        await store.commit(lease, lease.version + 1, one_entry(), b"", LONG_MS, drained=True)
        assert written(server) == 2


async def test_a_lost_epoch_stops_the_partition(server: RunningServer) -> None:
    async with connected(server.url) as store:
        lease = await take(store, "a", "1")
        server.cli("DEL", LEASE)
        with pytest.raises(UnseededError, match="epoch is gone"):
            await store.commit(lease, lease.version, one_entry(), b"", LONG_MS, drained=True)
        with pytest.raises(UnseededError, match="epoch is gone"):
            await store.renew(lease, LONG_MS)
        with pytest.raises(UnseededError, match="--reseed"):
            await store.acquire(0, ORCHESTRATORS, "a", "2", LONG_MS)
        assert written(server) == 0


async def test_the_next_holder_goes_on_from_what_was_committed(server: RunningServer) -> None:
    async with connected(server.url) as store:
        first = add(server, session="s", type="PROGRESS", emitter="A").encode()
        second = add(server, session="s", type="PROGRESS", emitter="A").encode()
        lease = await take(store, "a", "1")
        await store.commit(lease, lease.version, one_entry(), first, LONG_MS, drained=True)
        await store.release(lease)
        after = await take(store, "b", "2")
        assert (after.committed, after.version) == (first, lease.version + 1)
        entries = await store.read(0, ORCHESTRATORS, after.committed, 10, 0)
        assert [entry_id for entry_id, _ in entries] == [second]


async def test_it_is_renewed_until_cancelled(server: RunningServer) -> None:
    async with connected(server.url) as store:
        held = HeldLease(store, await take(store, "a", "1", SHORT_MS), SHORT_MS)
        keeping = asyncio.create_task(held.keep())
        target_ms = server_ms(server) + 3 * SHORT_MS
        await eventually(lambda: server_ms(server) > target_ms, "three leases have gone by")
        assert not held.lost.is_set()
        assert values(server, LEASE)["owner"] == "a"
        assert int(values(server, LEASE)["expires"]) > server_ms(server)
        assert abs(held.now_ms() - server_ms(server)) < 5_000
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await held.give_up()
        assert values(server, LEASE)["owner"] == ""
        await held.give_up()  # once more does no harm


async def test_a_lost_lease_is_noticed(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server.url) as store:
        held = HeldLease(store, await take(store, "a", "1", SHORT_MS), SHORT_MS)
        server.cli("HSET", LEASE, "nonce", "somebody else's")
        with caplog.at_level(logging.WARNING, "fabric.lease"):
            await held.keep()
        assert held.lost.is_set()
        assert "lease lost" in caplog.text


async def test_a_lost_reply_to_a_renewal_is_no_lost_lease(
    server: RunningServer, proxy: MakeProxy
) -> None:
    between = proxy(server)
    async with connected(between.url) as store:
        ttl_ms = 1_000
        held = HeldLease(store, await take(store, "a", "1", ttl_ms), ttl_ms)
        cut = between.fault(Fault.CUT_REPLY, script("renew"), times=2)
        keeping = asyncio.create_task(held.keep())
        await eventually(lambda: cut.landed == 2, "two replies were lost")
        expires = values(server, LEASE)["expires"]
        await eventually(lambda: values(server, LEASE)["expires"] != expires, "it is renewed")
        assert not held.lost.is_set()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_giving_up_what_is_lost_is_no_error(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(server.url) as store:
        held = HeldLease(store, await take(store, "a", "1"), LONG_MS)
        await take(store, "a", "2")
        await held.give_up()
        assert values(server, LEASE)["nonce"] == "2"
        server.cli("DEL", LEASE)
        await held.give_up()
        assert "epoch is gone" in caplog.text
    assert SIGNALS in server.cli("KEYS", "*")
