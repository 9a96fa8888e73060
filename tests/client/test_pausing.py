"""Integrations and checkpoints: who leads, who pauses, who is held, and what ends it."""

import asyncio

import pytest

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.rules import BarrierPolicy, CheckpointMode, Rules
from fabric.core.signal import SignalType
from fabric.errors import BarrierError, NotAllowedError, WaitTimeoutError
from tests.client.fleet import S, blocked, connected, fleet
from tests.support.keyspace import records, rows
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


def state(server: RunningServer, name: str = "release") -> str:
    """Where a barrier stands."""
    return str(records(server, S.barriers).get(name, {}).get("state"))


async def gathering(server: RunningServer, name: str = "release") -> None:
    await eventually(lambda: state(server, name) == "gathering", f"{name} gathers")


async def test_a_checkpoint_without_a_pause(server: RunningServer) -> None:
    async with fleet(server.url) as fabric, fabric.agent("A") as agent:
        await agent.ready(timeout=20)
        await agent.checkpoint("c", timeout=20)
        # Its own signal has come back, so it is in the log.
        assert [row.payload for row in rows(server, S.log, type="CHECKPOINT_REACHED", kind="signal")
                ] == [{}, {"checkpoint": "c"}]  # fmt: skip


async def test_nobody_answers(server: RunningServer) -> None:
    async with connected(server.url) as fabric, fabric.agent("A") as agent:
        with pytest.raises(WaitTimeoutError, match="at c: no orchestrator has handled it"):
            await agent.checkpoint("c", timeout=0.1)
        with pytest.raises(WaitTimeoutError, match="for x: no orchestrator has handled it"):
            await agent.writing("x", timeout=0.1).__aenter__()
        with pytest.raises(WaitTimeoutError, match="at release: no orchestrator has handled it"):
            await agent.integrating("release", timeout=0.1).__aenter__()


async def test_a_checkpoint_that_is_refused_does_not_hang(server: RunningServer) -> None:
    rules = Rules(checkpoints=CheckpointMode.ENFORCE)
    async with (
        fleet(server.url, rules=rules) as fabric,
        fabric.agent("A", task_type="Code Review") as agent,
    ):
        with pytest.raises(NotAllowedError, match="issues_found does not follow the start"):
            await agent.checkpoint("issues_found")
        await agent.checkpoint("files_read", timeout=20)


async def test_all_meet_one_waiting_and_one_late(server: RunningServer) -> None:
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
        fleet(server.url) as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("MEMBER") as member,
        fabric.agent("WAITER") as waiter,
        fabric.agent("MAKER") as maker,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(wait(waiter))
        await blocked(waiter)

        async def lead() -> None:
            async with leader.integrating("release", timeout=20):
                said.append("integrates")
                await maker.emit(SignalType.PROGRESS, {"percent": 1})
                await eventually(lambda: rows(server, S.log, type="PROGRESS"), "all is handled")
                said.append("integrated")

        leading = group.create_task(lead())
        await gathering(server)
        group.create_task(join(fabric))
        await eventually(
            lambda: "LATE" in records(server, S.barriers)["release"].get("held", []), "it is held"
        )
        await maker.resolve("x", location="x.py")
        group.create_task(work(member))
        await eventually(
            lambda: len(records(server, S.barriers)["release"].get("arrived", {})) == 2,
            "both have arrived",
        )
        assert said == []
        await maker.checkpoint("done", timeout=20)
        await leading
    assert said[:2] == ["integrates", "integrated"]
    assert set(said[2:]) == {"member goes on", "waiter goes on", "late one goes on"}


async def test_what_is_answered_at_once_is_no_arrival(server: RunningServer) -> None:
    """The barrier has not met it: who would wait there for its end would wait for itself."""
    async with (
        fleet(server.url) as fabric,
        fabric.agent("LEAD") as leader,
        fabric.agent("A") as agent,
    ):
        entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
        await gathering(server)
        async with agent.writing("x", timeout=20):
            pass
        assert state(server) == "gathering"
        arriving = asyncio.create_task(agent.checkpoint("c", timeout=20))
        await entering
        await leader.emit(SignalType.INTEGRATED, {"name": "release"})
        await arriving


async def test_two_integrations_one_after_the_other(server: RunningServer) -> None:
    order: list[str] = []

    async def lead(agent: Agent, name: str) -> None:
        async with agent.integrating(name, timeout=20):
            order.append(name)

    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as one,
        fabric.agent("B") as other,
        fabric.agent("C") as member,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(lead(one, "first"))
        await gathering(server, "first")
        group.create_task(lead(other, "second"))
        await eventually(lambda: state(server, "second") == "queued", "the second queues")
        await member.checkpoint("c1", timeout=20)
        assert order[0] == "first"
        finishing = asyncio.create_task(one.checkpoint("after", timeout=20))
        await gathering_or_over(server, "second")
        await member.checkpoint("c2", timeout=20)
        await finishing
    assert order == ["first", "second"]


async def gathering_or_over(server: RunningServer, name: str) -> None:
    await eventually(lambda: state(server, name) != "queued", f"{name} has begun")


async def test_a_barrier_that_is_called_already(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as one,
        fabric.agent("B") as other,
    ):
        entering = asyncio.create_task(one.integrating("release", timeout=20).__aenter__())
        await gathering(server)
        with pytest.raises(BarrierError, match="A has called release already"):
            await other.integrating("release", timeout=20).__aenter__()
        # It is a member as before.
        arriving = asyncio.create_task(other.checkpoint("c", timeout=20))
        await entering
        assert not arriving.done()
        await one.emit(SignalType.INTEGRATED, {"name": "release"})
        await arriving


async def test_a_barrier_that_is_called_off_names_the_missing(server: RunningServer) -> None:
    rules = Rules(barrier_policy=BarrierPolicy.FAIL)
    async with (
        fleet(server.url, rules=rules) as fabric,
        fabric.agent("A") as one,
        fabric.agent("MISSING"),
    ):
        with pytest.raises(BarrierError, match="has passed without MISSING"):
            await one.integrating("release", deadline_ms=50, timeout=20).__aenter__()


async def test_a_block_that_raises_can_be_entered_again(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as leader,
        fabric.agent("B") as member,
    ):
        arriving: asyncio.Task[None] | None = None
        for attempt in range(2):
            entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
            if arriving is None:
                await gathering(server)
                arriving = asyncio.create_task(member.checkpoint("c", timeout=20))
            await entering
            try:
                async with leader.integrating("release", timeout=20):
                    assert state(server) == "integrating"
                    if not attempt:
                        raise ValueError("merge conflict")
            except ValueError:
                assert not arriving.done()
        assert arriving is not None
        await arriving
    assert len(rows(server, S.log, type="INTEGRATION_REQUIRED", kind="signal")) == 1


async def test_a_leader_that_fails_lets_all_go_on(server: RunningServer) -> None:
    async def lead(leader: Agent) -> None:
        async with leader, leader.integrating("release", timeout=20):
            raise ValueError("merge conflict")

    async with fleet(server.url) as fabric, fabric.agent("B") as member:
        leading = asyncio.create_task(lead(fabric.agent("A")))
        await gathering(server)
        await member.checkpoint("c", timeout=20)
        with pytest.raises(ValueError, match="merge conflict"):
            await leading


async def test_a_leader_that_gives_up_waiting_lets_all_go_on(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as leader,
        fabric.agent("B") as member,
    ):
        with pytest.raises(WaitTimeoutError, match="for all to arrive at release: B is missing"):
            await leader.integrating("release", timeout=0.5).__aenter__()
        await eventually(lambda: rows(server, S.log, type="INTEGRATED"), "it is called off")
        assert rows(server, S.log, type="INTEGRATED")[0].payload == {"name": "release", "ok": False}
        await member.checkpoint("c", timeout=20)
        entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
        await gathering(server)
        arriving = asyncio.create_task(member.checkpoint("d", timeout=20))
        await entering
        await leader.complete()
        await arriving


async def test_a_pause_that_outlasts_the_time_out_is_named(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as leader,
        fabric.agent("B") as member,
        fabric.agent("C") as missing,
    ):
        entering = asyncio.create_task(leader.integrating("release", timeout=20).__aenter__())
        await gathering(server)
        with pytest.raises(WaitTimeoutError, match="release holds it: A leads, C is missing"):
            await member.checkpoint("c", timeout=1)
        arriving = asyncio.create_task(missing.checkpoint("c", timeout=20))
        await entering
        await leader.complete()
        await arriving
