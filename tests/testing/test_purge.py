"""Deleting a session, with both workers: what is gone is gone whole, and its name begins anew."""

from typing import Any

import pytest

from fabric.ops.overview import candidates
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS
from fabric.testing import InProcessFabric, running
from fabric.testing.store import MemoryStore


async def say(fabric: InProcessFabric, kind: str, by: str = "eva", **payload: Any) -> None:
    await fabric.emit([{"type": kind, "emitter": by, "payload": payload}])
    await fabric.settle()


async def work(fabric: InProcessFabric, session: str = "test", agents: int = 3) -> None:
    for number in range(agents):
        async with fabric.agent(f"A{number}", session=session, produces=["x"]) as agent:
            await agent.partial_result({"findings": [{"key": f"k{number}", "value": 1}]})
            await agent.resolve("x", location="x.py")
    await fabric.settle()


def left(fabric: InProcessFabric, session: str = "test") -> list[str]:
    data = fabric.store.data  # type: ignore[attr-defined]  # the store in memory
    return sorted(key for key in data.keys if key.startswith(f"fabric:{{0}}:{session}:"))


async def test_nothing_is_left_and_nothing_else_is_touched() -> None:
    async with running() as fabric:
        await work(fabric)
        await work(fabric, "test2")
        other = left(fabric, "test2")
        await say(fabric, "RUN_PURGED")
        assert left(fabric) == []
        assert left(fabric, "test2") == other
        partition = fabric.store.namespace.partition(0)
        listed = [name for name, _ in await fabric.store.scores(partition.sessions)]
        assert listed == [b"test2"]
        for group in (ORCHESTRATORS, SYNTHESIZERS):
            timers = await fabric.store.scores(partition.timers(group))
            assert not [timer for timer, _ in timers if timer.startswith(b"test:")]

        await work(fabric)
        log = await fabric.log()
        assert (log[0]["id"], log[0]["type"]) == ("1-0", "STARTED")
        found = await fabric.session().synthesis()
        assert (found.revision > 0, sorted(found.findings)) == (True, ["k0", "k1", "k2"])


@pytest.mark.parametrize("kind", ["RUN_PURGED", "RUN_CLOSED"])
async def test_what_is_gone_is_not_begun_by_another_end(kind: str) -> None:
    """Its sender has repeated it, because it did not hear of the first one."""
    async with running() as fabric:
        await work(fabric)
        await say(fabric, "RUN_PURGED")
        await say(fabric, kind)
        (letter,) = await fabric.dead_letters()
        assert letter.code == "CLOSED"
        assert letter.reason == "there is no session test to close or delete"
        assert left(fabric) == []


async def test_more_keys_than_one_slice_has_go_too(monkeypatch: Any) -> None:
    monkeypatch.setattr("workers.purge.SLICE_KEYS", 3)
    async with running() as fabric:
        await work(fabric)
        await say(fabric, "RUN_PURGED")
        assert left(fabric) == []


async def test_sessions_that_are_deleted_together_take_one_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walks: list[str] = []
    for name in ("named_each", "timers_of_each"):
        walk = getattr(MemoryStore, name)

        def counted(*given: Any, name: str = name, walk: Any = walk) -> Any:
            walks.append(name)
            return walk(*given)

        monkeypatch.setattr(MemoryStore, name, counted)
    async with running() as fabric:
        for number in range(30):
            await work(fabric, f"s{number}", agents=1)
        asked = {"type": "RUN_PURGED", "emitter": "eva"}
        await fabric.emit([{**asked, "session": f"s{number}"} for number in range(30)])
        await fabric.settle()
        assert [left(fabric, f"s{number}") for number in range(30)] == [[]] * 30
    # One of each for each kind of worker; one more where a batch was cut in two.
    assert len(walks) <= 8


async def test_a_session_at_work_is_not_deleted() -> None:
    async with running() as fabric, fabric.agent("A"):
        await fabric.settle()
        before = left(fabric)
        await say(fabric, "RUN_PURGED")
        assert set(before) <= set(left(fabric))
        (letter,) = await fabric.dead_letters()
        assert letter.code == "OPEN"
        assert "A still work in test: close it first" in letter.reason


async def test_what_comes_for_it_meanwhile_is_refused() -> None:
    async with running() as fabric:
        await work(fabric)
        late = {"type": "STARTED", "emitter": "B"}
        await fabric.emit([{"type": "RUN_PURGED", "emitter": "eva"}, late])
        await fabric.settle()
        assert left(fabric) == []
        (letter,) = await fabric.dead_letters()
        assert letter.code == "CLOSED"


async def test_a_run_that_was_opened_is_not_deleted_before_it_has_ended() -> None:
    async with running() as fabric:
        await say(fabric, "RUN_OPENED")
        await say(fabric, "RUN_PURGED")
        (letter,) = await fabric.dead_letters()
        assert letter.code == "OPEN"
        assert letter.reason == "nobody has come to run 1 of test yet: close it first"
        await say(fabric, "RUN_CLOSED")
        await say(fabric, "RUN_PURGED")
        assert left(fabric) == []


@pytest.mark.parametrize("way", ["comes", "is absent", "is closed"])
async def test_a_run_whose_agents_have_ended_is_open_while_others_are_expected(way: str) -> None:
    async with running() as fabric:
        await say(fabric, "RUN_OPENED", expect=["A0", "B"], deadline_ms=60_000)
        await work(fabric, agents=1)
        (found,) = await candidates(fabric.store, 1, ["test"], 0)
        assert (found.is_open, found.awaited, found.at_work) == (True, ["B"], [])
        assert await candidates(fabric.store, 1, [], 0) == []
        await say(fabric, "RUN_PURGED")
        (letter,) = await fabric.dead_letters()
        assert letter.code == "OPEN"
        assert letter.reason == "B is expected in test, and has not come: close it first"
        match way:
            case "comes":
                async with fabric.agent("B"):
                    await fabric.settle()
                    assert (await candidates(fabric.store, 1, ["test"], 0))[0].at_work == ["B"]
                await fabric.settle()
            case "is absent":
                await fabric.advance(61)
            case "is closed":
                await say(fabric, "RUN_CLOSED")
        (found,) = await candidates(fabric.store, 1, [], 0)
        assert (found.is_open, found.is_closed) == (False, way == "is closed")
        await say(fabric, "RUN_PURGED")
        assert left(fabric) == []


async def test_the_next_run_is_open_before_anybody_has_come() -> None:
    async with running() as fabric:
        await work(fabric)
        await say(fabric, "RUN_CLOSED")
        assert [one.name for one in await candidates(fabric.store, 1, [], 0)] == ["test"]
        await say(fabric, "RUN_OPENED")
        assert await candidates(fabric.store, 1, [], 0) == []
        await say(fabric, "RUN_PURGED")
        assert (await fabric.dead_letters())[0].code == "OPEN"


@pytest.mark.parametrize("how", ["by the workers", "by hand"])
async def test_what_is_being_deleted_is_not_open(how: str) -> None:
    async with running() as fabric:
        await work(fabric)
        data, keys = fabric.memory.data, fabric.session().keys
        for key in left(fabric):
            del data.keys[key]
        if how == "by the workers":
            data.hash(keys.meta)[b"purging"] = b"1"
        (found,) = await candidates(fabric.store, 1, [], 0)
        assert (found.is_open, found.events) == (False, 0)
