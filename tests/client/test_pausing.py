"""Integrations and checkpoints: leading, pausing, being held, and what ends each."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.policy import BarrierPolicy, CheckpointMode
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.errors import (
    BarrierError,
    DeadlockError,
    DependencyFailedError,
    NotAllowedError,
    WaitTimeoutError,
)
from fabric.testing import InProcessFabric
from tests.client.fleet import S, after, connected, in_process, is_blocked
from tests.client.test_questions import decide
from tests.support.keyspace import records, rows
from tests.support.servers import RunningServer


def state(fabric: InProcessFabric, name: str = "release") -> str:
    """Return a barrier's state."""
    return str(records(fabric, S.barriers).get(name, {}).get("state"))


async def gathering(fabric: InProcessFabric, name: str = "release") -> None:
    await fabric.settle()
    assert state(fabric, name) == "gathering"


async def test_a_checkpoint_without_a_pause() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        await agent.ready(timeout=20)
        await agent.checkpoint("c", timeout=20)
        # The signal itself has come back, so it is in the log.
        assert [row.payload for row in rows(fabric, S.log, type="CHECKPOINT_REACHED", kind="signal")
                ] == [{}, {"checkpoint": "c"}]  # fmt: skip


async def test_nobody_answers(server: RunningServer) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        with pytest.raises(WaitTimeoutError, match="at c: no orchestrator has handled it"):
            await agent.checkpoint("c", timeout=0.1)
        with pytest.raises(WaitTimeoutError, match="for x: no orchestrator has handled it"):
            await agent.writing("x", timeout=0.1).__aenter__()
        with pytest.raises(WaitTimeoutError, match="at release: no orchestrator has handled it"):
            await agent.integrating("release", timeout=0.1).__aenter__()


async def test_a_checkpoint_that_is_refused_does_not_hang() -> None:
    rules = Rules(checkpoints=CheckpointMode.ENFORCE)
    async with (
        in_process(rules) as fabric,
        fabric.agent("A", task_type="Code Review") as agent,
    ):
        with pytest.raises(NotAllowedError, match="issues_found does not follow the start"):
            await agent.checkpoint("issues_found")
        await agent.checkpoint("files_read", timeout=20)


async def test_all_meet_one_waiting_and_one_late() -> None:
    said: list[str] = []

    async def work(agent: Agent) -> None:
        await agent.checkpoint("c", timeout=20)
        said.append("member goes on")

    async def wait(agent: Agent) -> None:
        assert await agent.wait_for("x", timeout=20) == "x.py"
        said.append("waiter goes on")

    async def join(fabric: Fabric) -> None:
        async with fabric.agent("LATE") as late:
            await late.ready(timeout=20)
            said.append("late one goes on")

    async with (
        in_process() as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("MEMBER") as member,
        fabric.agent("WAITER") as waiter,
        fabric.agent("MAKER") as maker,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(wait(waiter))
        await fabric.settle()
        assert await is_blocked(waiter)

        async def lead() -> None:
            async with leader.integrating("release", timeout=20):
                said.append("integrates")
                await maker.emit(SignalType.PROGRESS, {"percent": 1})
                await fabric.settle()
                assert rows(fabric, S.log, type="PROGRESS")
                said.append("integrated")

        leading = group.create_task(lead())
        await gathering(fabric)
        group.create_task(join(fabric))
        await fabric.settle()
        assert "LATE" in records(fabric, S.barriers)["release"].get("held", [])
        await maker.resolve("x", location="x.py")
        group.create_task(work(member))
        await fabric.settle()
        assert len(records(fabric, S.barriers)["release"].get("arrived", {})) == 2
        assert said == []
        await maker.checkpoint("done", timeout=20)
        await leading
    assert said[:2] == ["integrates", "integrated"]
    assert set(said[2:]) == {"member goes on", "waiter goes on", "late one goes on"}


async def test_a_wait_that_is_answered_at_once_is_not_an_arrival() -> None:
    """The barrier does not count the agent as arrived: waiting for its end would never end."""
    async with (
        in_process() as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("A") as agent,
    ):
        entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
        await gathering(fabric)
        async with agent.writing("x", timeout=20):
            pass
        assert state(fabric) == "gathering"
        arriving = asyncio.create_task(agent.checkpoint("c", timeout=20))
        await entering
        await leader.emit(SignalType.INTEGRATED, {"name": "release"})
        await arriving


@pytest.mark.parametrize(
    "wait",
    [lambda agent: agent.writing("x", timeout=20).__aenter__(),
     lambda agent: agent.wait_for("x", timeout=20)],
    ids=["writing", "wait_for"],
)  # fmt: skip
async def test_a_wait_that_a_deadlock_ends_pauses_too(
    wait: Callable[[Agent], Awaitable[object]],
) -> None:
    async with (
        in_process() as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("A", priority=9) as other,
        fabric.agent("B", priority=1) as victim,
        other.writing("x", timeout=20),
    ):
        async with victim.writing("y", timeout=20):
            waiting = asyncio.ensure_future(wait(victim))
            await fabric.settle()
            assert await is_blocked(victim)
            entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
            await gathering(fabric)
            asking = asyncio.create_task(other.writing("y", timeout=20).__aenter__())
            await entering
            await fabric.settle()
            cancelled = rows(fabric, S.inbox("B"), type="CANCEL")
            assert [row.payload["code"] for row in cancelled] == ["DEADLOCK"]
            assert not waiting.done()
            await leader.emit(SignalType.INTEGRATED, {"name": "release"})
            with pytest.raises(DeadlockError):
                await waiting
        await asking


async def test_a_wait_whose_producer_fails_pauses_too() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("B") as waiter,
    ):
        async with fabric.agent("A", produces=["x"]) as maker:
            waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
            await fabric.settle()
            assert await is_blocked(waiter)
            entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
            await gathering(fabric)
            await maker.fail("no columns")
        await entering
        await fabric.settle()
        assert rows(fabric, S.inbox("B"), type="FAILED")
        assert not waiting.done()
        await leader.emit(SignalType.INTEGRATED, {"name": "release"})
        with pytest.raises(DependencyFailedError, match="no columns"):
            await waiting


async def test_a_question_that_a_person_ends_pauses_too() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("A") as other,
        fabric.agent("B", produces=["x"]) as victim,
    ):
        asking = asyncio.create_task(victim.escalate("May I?", to="A", timeout=20))
        await fabric.settle()
        entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
        await gathering(fabric)
        waiting = asyncio.create_task(other.wait_for("x", timeout=20))
        await entering
        await fabric.settle()
        (known,) = records(fabric, S.escalations).keys() - {"B-1-1"}
        decide(fabric, known, "B")
        await fabric.settle()
        assert rows(fabric, S.inbox("B"), type="CANCEL")
        assert not asking.done()
        await leader.emit(SignalType.INTEGRATED, {"name": "release"})
        with pytest.raises(DeadlockError, match="ME has decided that B gives way"):
            await asking
        await victim.resolve("x")
        await waiting


async def test_a_wait_that_times_out_does_not_pause() -> None:
    """The caller said how long it may take."""
    async with (
        in_process() as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("B") as waiter,
    ):
        timing_out = asyncio.create_task(waiter.wait_for("x", timeout=1))
        await fabric.settle()
        async with leader.integrating("release", timeout=20):
            await fabric.advance(1)
            with pytest.raises(WaitTimeoutError, match="for x: nobody has declared"):
                await timing_out
            # The next wait makes up for it: the agent still counts as arrived.
            waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
            await leader.resolve("x")
            await fabric.settle()
            assert not waiting.done()
        await waiting


async def test_two_integrations_one_after_the_other() -> None:
    order: list[str] = []

    async def lead(agent: Agent, name: str) -> None:
        async with agent.integrating(name, timeout=20):
            order.append(name)

    async with (
        in_process() as fabric,
        fabric.agent("A") as one,
        fabric.agent("B") as other,
        fabric.agent("C") as member,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(lead(one, "first"))
        await gathering(fabric, "first")
        group.create_task(lead(other, "second"))
        await fabric.settle()
        assert state(fabric, "second") == "queued"
        await member.checkpoint("c1", timeout=20)
        assert order[0] == "first"
        finishing = asyncio.create_task(one.checkpoint("after", timeout=20))
        await gathering_or_over(fabric, "second")
        await member.checkpoint("c2", timeout=20)
        await finishing
    assert order == ["first", "second"]


async def gathering_or_over(fabric: InProcessFabric, name: str) -> None:
    await fabric.settle()
    assert state(fabric, name) != "queued"


async def test_a_barrier_that_is_called_already() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as one,
        fabric.agent("B") as other,
    ):
        entering = asyncio.create_task(one.integrating("release", timeout=20).__aenter__())
        await gathering(fabric)
        with pytest.raises(BarrierError, match="A has already called release"):
            await other.integrating("release", timeout=20).__aenter__()
        # It is still a member.
        arriving = asyncio.create_task(other.checkpoint("c", timeout=20))
        await entering
        assert not arriving.done()
        await one.emit(SignalType.INTEGRATED, {"name": "release"})
        await arriving


async def test_a_cancelled_barrier_names_the_missing() -> None:
    rules = Rules(barrier_policy=BarrierPolicy.FAIL)
    async with (
        in_process(rules) as fabric,
        fabric.agent("A") as one,
        fabric.agent("MISSING"),
    ):
        calling = one.integrating("release", deadline_ms=50, timeout=20)
        with pytest.raises(BarrierError, match="has passed without MISSING"):
            await after(fabric, 0.1, calling.__aenter__())


async def test_a_block_that_raises_can_be_entered_again() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as leader,
        fabric.agent("B") as member,
    ):
        arriving: asyncio.Task[None] | None = None
        for attempt in range(2):
            entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
            if arriving is None:
                await gathering(fabric)
                arriving = asyncio.create_task(member.checkpoint("c", timeout=20))
            await entering
            try:
                async with leader.integrating("release", timeout=20):
                    assert state(fabric) == "integrating"
                    if not attempt:
                        raise ValueError("merge conflict")
            except ValueError:
                assert not arriving.done()
        assert arriving is not None
        await arriving
    assert len(rows(fabric, S.log, type="INTEGRATION_REQUIRED", kind="signal")) == 1


async def test_a_failing_leader_lets_all_go_on() -> None:
    async def lead(leader: Agent) -> None:
        async with leader, leader.integrating("release", timeout=20):
            raise ValueError("merge conflict")

    async with in_process() as fabric, fabric.agent("B") as member:
        leading = asyncio.create_task(lead(fabric.agent("A")))
        await gathering(fabric)
        await member.checkpoint("c", timeout=20)
        with pytest.raises(ValueError, match="merge conflict"):
            await leading


async def test_a_leader_that_gives_up_waiting_lets_all_go_on() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as leader,
        fabric.agent("B") as member,
    ):
        with pytest.raises(WaitTimeoutError, match="for all to arrive at release: B is missing"):
            await after(fabric, 0.5, leader.integrating("release", timeout=0.5).__aenter__())
        await fabric.settle()
        assert rows(fabric, S.log, type="INTEGRATED")
        assert rows(fabric, S.log, type="INTEGRATED")[0].payload == {"name": "release", "ok": False}
        await member.checkpoint("c", timeout=20)
        entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
        await gathering(fabric)
        arriving = asyncio.create_task(member.checkpoint("d", timeout=20))
        await entering
        await leader.complete()
        await arriving


async def test_a_timeout_during_a_pause_names_the_barrier() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as leader,
        fabric.agent("B") as member,
        fabric.agent("C") as missing,
    ):
        entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
        await gathering(fabric)
        with pytest.raises(WaitTimeoutError, match="release holds it: A leads, C is missing"):
            await after(fabric, 1, member.checkpoint("c", timeout=1))
        arriving = asyncio.create_task(missing.checkpoint("c", timeout=20))
        await entering
        await leader.complete()
        await arriving
