"""enroll.lua: the incarnation, and what it depends on."""

import pytest

from tests.store.backend import RedisBackend
from tests.store.lua import evaluate

HANDED = "fabric:{0}:s:incarnations"
AGENTS = "fabric:{0}:s:agents"
RETIRED = "fabric:{0}:s:retired"
LEASE = "fabric:{0}:lease"


async def enroll(real: RedisBackend, agent: str = "A") -> object:
    return await evaluate(real, "enroll", [HANDED, AGENTS, RETIRED, LEASE], agent, 1_000)


async def test_incarnations_rise(real: RedisBackend) -> None:
    assert [await enroll(real) for _ in range(3)] == [1, 2, 3]
    assert await enroll(real, "B") == 1
    assert await real.call("HGETALL", HANDED) == [b"A", b"3", b"B", b"1"]


async def test_it_is_above_that_of_an_agent_that_is_no_longer_kept(real: RedisBackend) -> None:
    await real.call("HSET", RETIRED, "A", '{"incarnation":7,"log":3}')
    assert await enroll(real) == 8


@pytest.mark.parametrize(
    ("floor", "given"), [("4", [5, 6]), ("1000", [1_001, 1]), ("1001", [1, 2]), ("word", [1, 2])]
)
async def test_in_a_new_session_it_is_above_those_of_sessions_that_were_deleted(
    real: RedisBackend, floor: str, given: list[int]
) -> None:
    await real.call("HSET", LEASE, "incarnation_floor", floor)
    assert [await enroll(real) for _ in given] == given
    await real.call("HSET", AGENTS, "B", '{"incarnation":2}')
    assert await enroll(real, "B") == 3


@pytest.mark.parametrize(
    ("handed", "record", "given"),
    [
        (None, '{"incarnation":7}', 8),
        ("3", '{"incarnation":7}', 8),
        ("9", '{"incarnation":7}', 10),
        ("9", "spoilt", 10),
        ("9", '{"incarnation":{}}', 10),
        ("9", "null", 10),
        (None, '{"incarnation":1767123000000}', 1_767_123_000_001),
        # Numbers that somebody has written into the hash, and that no signal may carry.
        ("1000", None, 1_001),
        ("1001", None, 1),
        ("9007199254740991", None, 1),
        ("9007199254740991", '{"incarnation":7}', 8),
        ("-5", '{"incarnation":7}', 8),
        ("8.5", '{"incarnation":7}', 8),
        ("word", '{"incarnation":7}', 8),
        ("nan", '{"incarnation":7}', 8),
        ("inf", '{"incarnation":7}', 8),
    ],
)
async def test_it_is_above_the_last_one_handed_out_and_the_current_one(
    real: RedisBackend, handed: str | None, record: str | None, given: int
) -> None:
    if handed:
        await real.call("HSET", HANDED, "A", handed)
    if record:
        await real.call("HSET", AGENTS, "A", record)
    assert await enroll(real) == given
    # Written out in full, as every reader of the hash expects.
    assert await real.call("HGET", HANDED, "A") == b"%d" % given
