"""Read, decide, commit: batches, pipelining, timers and draining, on the memory store."""

import asyncio

from fabric.core.rules import Rules
from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import Batch
from fabric.store.read_size import COUNT_FIRST
from fabric.store.state import hashes
from tests.support.waiting import eventually
from tests.workers.troubled import PARTITION, TroubledStore, now_ms, working
from workers.handler import COMMIT_BYTES_MAX


async def progress(
    store: TroubledStore, count: int, session: str = "s", emitter: str = "A"
) -> None:
    for number in range(count):
        await store.say(session, emitter, "PROGRESS", f'{{"percent": {number % 100}}}')


async def test_the_next_batch_is_decided_while_one_is_committed() -> None:
    store = TroubledStore()
    async with working(store) as work:
        await progress(store, 1)
        await eventually(store.is_settled, "the first is through")
        store.gate.clear()
        before = len(work.decided)
        await progress(store, 1)
        await eventually(lambda: len(work.decided) == before + 1, "it is decided")
        await eventually(lambda: store.under_way == 1, "its commit is under way")
        await progress(store, 1)
        await eventually(lambda: len(work.decided) == before + 2, "so is the next")
        assert store.log("s") == ["1-0 PROGRESS"]
        store.gate.set()
        await eventually(store.is_settled, "all are through")
    assert store.log("s") == [f"{n}-0 PROGRESS" for n in (1, 2, 3)]
    assert store.under_way_max == 1


async def test_reads_grow_while_signals_are_small() -> None:
    store = TroubledStore()
    await progress(store, 1_000)
    async with working(store, batch_signals_max=200):
        await eventually(store.is_settled, "all are through")
    counts = [count for count, _ in store.reads]
    assert counts[:4] == [COUNT_FIRST, 2 * COUNT_FIRST, 4 * COUNT_FIRST, 200]
    assert max(counts) == 200
    assert len(store.log("s")) == 1_000


async def test_reads_are_bounded_in_bytes() -> None:
    store = TroubledStore()
    text = "x" * 30_000
    for _ in range(60):
        await store.say("s", "A", "PARTIAL_RESULT", f'{{"partial": {{"text": "{text}"}}}}')
    async with working(store, batch_bytes_max=65_536):
        await eventually(store.is_settled, "all are through")
    full = [size for _, size in store.reads if size]
    assert full[0] > 65_536, "the size is not known before the first"
    assert max(full[1:]) <= 65_536
    assert len(store.log("s")) == 60


async def test_commits_are_bounded_in_bytes() -> None:
    store = TroubledStore()
    text = "x" * 400_000
    for _ in range(12):
        await store.say("s", "A", "PARTIAL_RESULT", f'{{"partial": {{"text": "{text}"}}}}')
    async with working(store) as work:
        await eventually(store.is_settled, "all are through")
    sizes = [size for taken, size in work.decided if taken]
    assert sum(taken for taken, _ in work.decided) == 12
    assert len(sizes) > 1
    assert max(sizes) <= COMMIT_BYTES_MAX + 2 * 400_100
    assert store.log("s") == [f"{n}-0 PARTIAL_RESULT" for n in range(1, 13)]


async def test_sessions_that_do_not_fit_in_memory_are_read_again() -> None:
    store = TroubledStore()
    async with working(store, sessions_cached_max=1):
        for _ in range(4):
            for name in ("a", "b", "c"):
                await progress(store, 1, session=name)
                await eventually(store.is_settled, "one is through")
    for name in ("a", "b", "c"):
        assert store.log(name) == [f"{n}-0 PROGRESS" for n in (1, 2, 3, 4)]


async def test_all_sessions_of_a_batch_are_read_at_once() -> None:
    store = TroubledStore()
    for number in range(COUNT_FIRST):
        await progress(store, 1, session=f"s{number}")
    async with working(store, sessions_cached_max=3):
        await eventually(store.is_settled, "all are through")
        assert store.hashes_read == [COUNT_FIRST * len(hashes(PARTITION.session("s")))]
        # Those used last are kept.
        await progress(store, 1, session=f"s{COUNT_FIRST - 1}")
        await eventually(store.is_settled, "one is through")
        assert len(store.hashes_read) == 1
        await progress(store, 1, session="s0")
        await eventually(store.is_settled, "another one is through")
        assert len(store.hashes_read) == 2


async def test_timers_fire() -> None:
    store = TroubledStore()
    async with working(store, rules=Rules(undeclared_grace_ms=20)):
        await store.say("s", "A", "BLOCKED", '{"on": "schema"}')
        await eventually(lambda: store.rows(PARTITION.session("s").inbox("A")), "A is told")
    (told,) = store.rows(PARTITION.session("s").inbox("A"))
    assert (told["type"], told["id"], told["cause"]) == ("ESCALATE", "3-2", "3-0")
    asked = ["3-0 TIMER", "3-1 ESCALATE", "3-2 ESCALATE"]
    assert store.log("s") == ["1-0 RULES", "2-0 BLOCKED", *asked]
    assert await store.has_no_timer()


async def test_a_backlog_makes_no_agent_look_silent() -> None:
    """Timers that came due while no worker ran wait for the signals sent meanwhile."""
    store, batch = TroubledStore(), Batch()
    form = ("session", "type", "emitter")
    apart_ms, count = 2_000, 4 * COUNT_FIRST
    for back in range(count, 0, -1):
        entry_id = f"{now_ms() - apart_ms * (back - 1)}-{count - back}"
        batch.append(PARTITION.signals, entry_id, form, ("s", "PROGRESS", "A"))
    store.data.apply(batch, now_ms())
    rules = Rules(silence_ms_min=apart_ms * 10, silence_ms_max=apart_ms * 10)
    async with working(store, rules=rules):
        await eventually(store.is_settled, "all are through")
    assert store.log("s") == ["1-0 RULES", *(f"{n}-0 PROGRESS" for n in range(2, count + 2))]


async def test_timers_fire_while_signals_come() -> None:
    store = TroubledStore()
    async with working(store, rules=Rules(undeclared_grace_ms=20)):
        await store.say("s", "A", "BLOCKED", '{"on": "schema"}')
        while not store.rows(PARTITION.session("s").inbox("A")):
            await progress(store, 5, session="other")
            await asyncio.sleep(0)
        await eventually(store.is_settled, "all are through")
    assert "3-1 ESCALATE" in store.log("s")


async def test_a_timer_set_by_one_worker_is_fired_by_the_next() -> None:
    store = TroubledStore()
    rules = Rules(undeclared_grace_ms=100)
    async with working(store, rules=rules):
        await store.say("s", "A", "BLOCKED", '{"on": "schema"}')
        await eventually(store.is_settled, "it waits")
    assert await store.timers() == [b"s:undeclared:schema"]
    next_store = TroubledStore(store.data)
    async with working(next_store, rules=rules):
        await eventually(lambda: "3-1 ESCALATE" in store.log("s"), "A is told")


async def test_a_timer_that_no_longer_applies_leaves_no_trace() -> None:
    store = TroubledStore()
    async with working(store, rules=Rules(undeclared_grace_ms=50)):
        await store.say("s", "A", "BLOCKED", '{"on": "schema"}')
        await store.say("s", "B", "DEPENDENCY_RESOLVED", '{"dependency_id": "schema"}')
        await eventually(store.is_settled, "both are through")
        await eventually(store.has_no_timer, "the timer is gone")
    assert not any("TIMER" in line for line in store.log("s"))


async def test_stopping_drains() -> None:
    """Everything decided is committed before the lease is given up."""
    store = TroubledStore()
    async with working(store) as work:
        await progress(store, 1)
        await eventually(store.is_settled, "the lease is held")
        store.gate.clear()
        await progress(store, 1)
        await eventually(lambda: store.under_way == 1, "a commit is under way")
        work.stop.set()
        await asyncio.sleep(0)
        assert not work.running.done()
        lease = store.data.hash(PARTITION.lease(ORCHESTRATORS))
        assert lease[b"owner"] == b"replica"
        store.gate.set()
        await work.running
    assert store.log("s") == ["1-0 PROGRESS", "2-0 PROGRESS"]
    assert lease[b"owner"] == b""
    assert store.data.sorted_set(store.namespace.replicas(ORCHESTRATORS)) == {}


async def test_signals_after_the_stop_are_left_for_the_next_worker() -> None:
    store = TroubledStore()
    async with working(store):
        await progress(store, 3)
        await eventually(store.is_settled, "three are through")
    await progress(store, 2)
    async with working(TroubledStore(store.data)):
        await eventually(store.is_settled, "the others too")
    assert store.log("s") == [f"{n}-0 PROGRESS" for n in range(1, 6)]
