"""An outage is no agent's silence: the worker that comes after it moves every timer."""

import msgspec

from fabric.core.record import AgentRecord, AgentStatus
from fabric.core.rules import Rules
from fabric.ops.replay import Replay
from fabric.store.keys import ORCHESTRATORS
from fabric.wire.record import OUTAGE_TYPE
from tests.support.waiting import eventually
from tests.workers.troubled import PARTITION, TroubledStore, working

KEYS = PARTITION.session("s")
#: Much longer than the agents may be silent.
OUTAGE_MS = 80_000
RULES = Rules(silence_ms_min=30_000, silence_ms_max=30_000, hold_ms_max=45_000)


async def lived() -> TroubledStore:
    """A session in which A holds a file and B waits for it, when the worker stops."""
    store = TroubledStore()
    async with working(store, rules=RULES):
        for name in ("A", "B"):
            await store.say("s", name, "STARTED")
            await store.say("s", name, "INTENT", '{"writes": ["config.py"]}')
        await eventually(store.is_settled, "all are through")
    return store


def outages(store: TroubledStore) -> list[dict[str, str]]:
    return [row for row in store.rows(KEYS.log) if row["type"] == OUTAGE_TYPE]


async def test_nobody_is_declared_dead_for_an_outage() -> None:
    after = TroubledStore((await lived()).data, ahead_ms=OUTAGE_MS)
    async with working(after, rules=RULES):
        await eventually(lambda: outages(after), "the timers have moved")
        await after.say("s", "A", "HEARTBEAT")
        await eventually(after.is_settled, "the heartbeat is accepted")
    (outage,) = outages(after)
    assert abs(int(outage["outage_ms"]) - OUTAGE_MS) < 10_000
    types = [row["type"] for row in after.rows(KEYS.log)]
    assert "FAILED" not in types
    assert types[-1] == "HEARTBEAT"
    assert await after.length(PARTITION.dead) == 0


async def test_what_was_sent_meanwhile_is_decided_after_the_timers_moved() -> None:
    lived_store = await lived()
    meanwhile = TroubledStore(lived_store.data, ahead_ms=OUTAGE_MS // 2)
    await meanwhile.say("s", "A", "PROGRESS", '{"percent": 50}')
    after = TroubledStore(lived_store.data, ahead_ms=OUTAGE_MS)
    async with working(after, rules=RULES):
        await eventually(after.is_settled, "it is decided")
    types = [row["type"] for row in after.rows(KEYS.log)]
    assert types.index(OUTAGE_TYPE) < types.index("PROGRESS")
    assert len(outages(after)) == 1


async def test_time_counts_again_after_the_outage() -> None:
    """The holder never speaks again: it is declared dead a silence after the outage."""
    lived_store = await lived()
    between = TroubledStore(lived_store.data, ahead_ms=OUTAGE_MS)
    async with working(between, rules=RULES):
        await eventually(lambda: outages(between), "the timers have moved")
        await eventually(between.is_settled, "that is committed")
    # Within a lease: no outage, only silence.
    data = lived_store.data
    lease = data.hash(PARTITION.lease(ORCHESTRATORS))
    for field in (b"served", b"expires"):
        lease[field] = b"%d" % (int(lease[field]) + RULES.silence_ms_max)
    late = TroubledStore(data, ahead_ms=OUTAGE_MS + RULES.silence_ms_max)
    async with working(late, rules=RULES):
        await eventually(
            lambda: [row for row in late.rows(KEYS.log) if row["type"] == "FAILED"], "A is dead"
        )
    assert len(outages(late)) == 1


async def test_a_replay_moves_the_same_timers() -> None:
    lived_store = await lived()
    after = TroubledStore(lived_store.data, ahead_ms=OUTAGE_MS)
    async with working(after, rules=RULES):
        await eventually(lambda: outages(after), "the timers have moved")
        await eventually(after.is_settled, "that is committed")
    replay = Replay(KEYS)
    for entry in await after.entries(KEYS.log, b"-", b"+", 1_000):
        assert replay.take(entry)
    replay.finish()
    assert replay.session.agents.records["A"].status is AgentStatus.ACTIVE
    (stored,) = await after.hashes([KEYS.agents])
    for name, agent in replay.session.agents.records.items():
        assert msgspec.json.decode(stored[name.encode()], type=AgentRecord) == agent
