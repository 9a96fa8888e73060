"""A run with a roster waits for those that have not come; without one, it settles first."""

import asyncio
from typing import Any

from fabric.core.event import ORCHESTRATOR
from fabric.testing import InProcessFabric, running


async def ended(fabric: InProcessFabric, *names: str) -> None:
    """Have agents start and complete, each with a finding, one after the other."""
    for name in names:
        finding = {"partial": {"findings": [{"key": name, "value": 1}]}}
        steps: list[dict[str, Any]] = [
            {"type": "STARTED", "emitter": name},
            {"type": "PARTIAL_RESULT", "emitter": name, "payload": finding},
            {"type": "COMPLETED", "emitter": name},
        ]
        await fabric.emit(steps)
        await fabric.settle()


async def complete_of(fabric: InProcessFabric) -> Any:
    return (await fabric.session().synthesis()).document["complete"]


async def test_the_synthesis_is_final_when_all_expected_agents_have_come_and_ended() -> None:
    async with running() as fabric:
        await fabric.expect("A", "B", "C")
        waiting = asyncio.create_task(fabric.session().until_final())
        for number, name in enumerate(("A", "B")):
            await ended(fabric, name)
            found = await complete_of(fabric)
            assert (found["state"], found["expected"]) == ("open", 3)
            assert found["missing"] == ["B", "C"][number:]
            assert not waiting.done()
        await ended(fabric, "C")
        assert sorted((await waiting).findings) == ["A", "B", "C"]
        found = await complete_of(fabric)
        assert (found["state"], found["awaited"], found["missing"]) == ("final", 0, [])


async def test_after_its_end_a_run_settles_and_what_comes_later_amends_it() -> None:
    async with running("[runs]\nsettle_ms = 5000") as fabric:
        waiting = asyncio.create_task(fabric.session().until_final())
        await ended(fabric, "A")
        assert (await complete_of(fabric))["state"] == "settling"
        await fabric.advance(4)
        await ended(fabric, "B")
        await fabric.advance(4)
        assert (await complete_of(fabric))["state"] == "settling"
        assert not waiting.done()
        await fabric.advance(2)
        assert sorted((await waiting).findings) == ["A", "B"]
        first = await complete_of(fabric)
        assert (first["state"], first["first_final"]) == (
            "final",
            (await fabric.session().synthesis()).revision,
        )
        await ended(fabric, "C")
        assert (await complete_of(fabric))["state"] == "settling"
        await fabric.advance(5)
        assert (await complete_of(fabric))["state"] == "amended"
        assert (await complete_of(fabric))["first_final"] == first["first_final"]


async def test_a_closed_run_expects_nobody() -> None:
    async with running("[runs]\nsettle_ms = 5000") as fabric:
        await fabric.expect("A", "B")
        await ended(fabric, "A")
        await fabric.emit([{"type": "RUN_CLOSED", "emitter": "eva"}])
        await fabric.settle()
        found = await complete_of(fabric)
        assert (found["state"], found["missing"]) == ("final", ["B"])
        await fabric.emit([{"type": "RUN_OPENED", "emitter": "eva", "payload": {"expect": ["D"]}}])
        await ended(fabric, "E")
        found = await complete_of(fabric)
        assert (found["state"], found["expected"], found["missing"]) == ("open", 1, ["D"])


async def test_a_fleet_of_100_of_which_three_never_come_and_one_sleeps() -> None:
    """The three are named at the deadline, the sleeper is not declared dead, and all is final."""
    names = [f"W{number:02}" for number in range(100)]
    absent, sleeper, workers = names[97:], names[0], names[1:97]
    rules = "[liveness]\nsilence_ms_min = 10000\nsilence_ms_max = 60000"
    async with running(rules) as fabric:
        await fabric.expect(*names, deadline_ms=120_000)
        asleep = {"type": "HEARTBEAT", "emitter": sleeper, "payload": {"expect_ms": 180_000}}
        await fabric.emit([{"type": "STARTED", "emitter": sleeper}, asleep])
        waiting = asyncio.create_task(fabric.session().until_final())
        await ended(fabric, *workers)
        roster = await fabric.session().roster()
        assert [name for name, one in roster.items() if one.is_awaited] == absent
        await fabric.advance(121)
        told = [
            one for one in await fabric.messages(sleeper) if one.payload.get("code") == "ABSENT"
        ]
        assert [one.sender for one in told] == [ORCHESTRATOR]
        assert all(name in told[0].payload["reason"] for name in absent)
        found = await complete_of(fabric)
        # The sleeper still works: named, not declared dead, not final.
        assert (found["state"], found["missing"], found["awaited"]) == ("open", absent, 0)
        await fabric.advance(58)
        assert (await fabric.session().agents())[sleeper].status == "active"
        await fabric.emit([{"type": "COMPLETED", "emitter": sleeper}])
        await fabric.settle()
        final = await waiting
        assert (len(final.findings), final.complete.missing) == (96, absent)
