"""An agent hears of its refused signals, and a storm of them makes no storm of notices."""

import msgspec

from fabric.core.rules import Rules
from fabric.ops.replay import Replay
from fabric.wire.record import UNREADABLE_TYPE
from tests.support.waiting import eventually
from tests.workers.troubled import PARTITION, TroubledStore, working

KEYS = PARTITION.session("s")


async def after(*payloads: str, emitter: str = "A") -> TroubledStore:
    """What PROGRESS of `emitter` with these payloads leaves, once A has started."""
    store = TroubledStore()
    async with working(store):
        await store.say("s", "A", "STARTED")
        for payload in payloads:
            await store.say("s", emitter, "PROGRESS", payload)
        await eventually(store.is_settled, "all are through")
    return store


async def test_an_entry_that_is_no_signal_reaches_its_sender_as_a_notice() -> None:
    store = await after('{"percent": 700}')
    (notice,) = store.rows(KEYS.inbox("A"))
    told = msgspec.json.decode(notice["payload"])
    assert (notice["type"], told["code"]) == ("NOTICE", "VALUE")
    assert "percent: got 700" in told["reason"]
    assert await store.length(PARTITION.dead) == 1
    logged = store.rows(KEYS.log)[-2]
    assert (logged["kind"], logged["type"]) == ("refused", UNREADABLE_TYPE)


async def test_a_storm_of_bad_entries_makes_no_storm_of_notices() -> None:
    store = await after(*["["] * 200)
    assert await store.length(PARTITION.dead) == 200
    assert len(store.rows(KEYS.inbox("A"))) < 10


async def test_replay_tells_the_sender_too() -> None:
    store = await after("[", '{"percent": 5}')
    replay = Replay(KEYS)
    for entry in await store.entries(KEYS.log, b"0-0", b"+", 100):
        replay.take(entry)
    replay.finish()
    assert replay.session.agents.records["A"].percent == 5


async def test_nobody_unknown_is_told() -> None:
    store = await after("[", emitter="NOBODY")
    assert await store.length(PARTITION.dead) == 1
    assert store.rows(KEYS.inbox("NOBODY")) == []


async def test_a_storm_of_signals_is_kept_and_others_are_heard() -> None:
    store = TroubledStore()
    for _ in range(1_000):
        await store.say("s", "A", "PROGRESS")
    await store.say("other", "B", "STARTED")
    async with working(store, rules=Rules(signals_per_second_max=5)):
        await eventually(store.is_settled, "all are through")
    assert store.log("other")[-1] == "2-0 STARTED"
    letters = store.rows(PARTITION.dead)
    assert {letter["code"] for letter in letters} == {"RATE"}
    assert len({letter["id"] for letter in letters}) == len(letters)
    heard = [row for row in store.rows(KEYS.log) if row["kind"] == "signal"]
    assert len(heard) + len(letters) == 1_000
    assert len(store.rows(KEYS.log)) < 100
    replay = Replay(KEYS)
    for entry in await store.entries(KEYS.log, b"0-0", b"+", 10_000):
        replay.take(entry)
    replay.finish()
