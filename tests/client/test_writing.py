"""Writing what nobody else writes: in turn, all or none, released however the block ends."""

import asyncio

import pytest

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.core.signal import SignalType
from fabric.errors import CallerError, DeadlockError, WaitTimeoutError
from fabric.testing import InProcessFabric
from tests.client.fleet import S, after, blocked, fleet, in_process, is_blocked
from tests.support.keyspace import add, records, rows
from tests.support.servers import RunningServer


def claims(fabric: InProcessFabric) -> dict[str, list[str]]:
    """Return each claim, held or waiting."""
    found = records(fabric, S.claims).values()
    return {claim["agent"]: claim["writes"] for claim in found}


async def nobody_claims(fabric: InProcessFabric) -> None:
    await fabric.settle()
    assert not claims(fabric)


async def test_a_free_resource_is_granted_at_once_and_released() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        async with agent.writing("./config.py", "src/", timeout=20) as grant:
            assert set(grant.resources) == {"config.py", "src/**"}
            assert grant.token > 0
            was_current = grant.is_current
            assert set(claims(fabric)["A"]) == {"config.py", "src/**"}
        assert (was_current, grant.is_current) == (True, False)
        await nobody_claims(fabric)
        async with agent.writing("config.py", timeout=20) as again:
            assert again.token > grant.token


async def test_nothing_to_write() -> None:
    async with in_process() as fabric:
        agent = fabric.agent("A")
        with pytest.raises(CallerError, match="name at least one"):
            agent.writing()


async def test_priority_settles_a_conflict() -> None:
    order: list[tuple[str, int]] = []

    async def write(agent: Agent) -> None:
        async with agent.writing("config.py", timeout=20) as grant:
            order.append((agent.name, grant.token))

    async with (
        in_process() as fabric,
        fabric.agent("A") as holder,
        fabric.agent("LOW", priority=1) as low,
        fabric.agent("HIGH", priority=9) as high,
        asyncio.TaskGroup() as group,
        holder.writing("config.py", timeout=20) as grant,
    ):
        group.create_task(write(low))
        await fabric.settle()
        assert await is_blocked(low)
        group.create_task(write(high))
        await fabric.settle()
        assert await is_blocked(high)
        assert grant.is_current
    assert [name for name, _ in order] == ["HIGH", "LOW"]
    assert grant.token < order[0][1] < order[1][1]
    assert rows(fabric, S.log, type="CONFLICT_DETECTED")


async def test_never_two_inside(server: RunningServer) -> None:
    inside: set[str] = set()
    tokens: list[int] = []

    async def work(fabric: Fabric, name: str) -> None:
        async with fabric.agent(name) as agent:
            for _ in range(3):
                async with agent.writing("counter", timeout=100) as grant:
                    assert not inside, f"{name} comes in to {inside}"
                    inside.add(name)
                    tokens.append(grant.token)
                    await asyncio.sleep(0)
                    await agent.progress(50)
                    inside.remove(name)

    async with fleet(server.url) as fabric, asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(work(fabric, f"A{number}"))
    assert len(tokens) == 90
    assert tokens == sorted(set(tokens))


async def test_one_agent_gets_the_deadlock_error_and_the_other_goes_on() -> None:
    done: list[str] = []
    refused: list[DeadlockError] = []
    both_hold = asyncio.Barrier(2)

    async def work(agent: Agent, first: str, second: str) -> None:
        try:
            async with agent.writing(first, timeout=20):
                await both_hold.wait()
                async with agent.writing(second, timeout=20):
                    done.append(agent.name)
        except DeadlockError as error:
            refused.append(error)
            done.append(f"{agent.name} gave way")

    async with (
        in_process() as fabric,
        fabric.agent("A", priority=5) as one,
        fabric.agent("B", priority=1) as other,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(work(one, "x", "y"))
        group.create_task(work(other, "y", "x"))
    assert sorted(done) == ["A", "B gave way"]
    (error,) = refused
    assert set(error.cycle) == {"A", "B"}
    assert " → ".join([*error.cycle, error.cycle[0]]) in str(error)
    assert error.exit_code == 5
    await nobody_claims(fabric)


async def test_a_time_out_names_the_holder() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as holder,
        fabric.agent("B") as other,
    ):
        async with holder.writing("config.py", timeout=20):
            with pytest.raises(WaitTimeoutError) as caught:
                await after(fabric, 0.5, other.writing("config.py", timeout=0.5).__aenter__())
            assert str(caught.value) == (
                "B waited 0.5 s for config.py: A has it; B was number 1 in line"
            )
            await fabric.settle()
            assert set(claims(fabric)) == {"A"}
        async with other.writing("config.py", timeout=20):
            assert set(claims(fabric)) == {"B"}


async def test_cancelling_releases() -> None:
    async def write(agent: Agent, entered: asyncio.Event) -> None:
        async with agent.writing("config.py", timeout=20):
            entered.set()
            await asyncio.Event().wait()

    async with (
        in_process() as fabric,
        fabric.agent("A") as holder,
        fabric.agent("B") as other,
    ):
        entered = asyncio.Event()
        writing = asyncio.create_task(write(holder, entered))
        await entered.wait()
        waiting = asyncio.create_task(write(other, asyncio.Event()))
        await fabric.settle()
        assert await is_blocked(other)
        for task in (waiting, writing):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await nobody_claims(fabric)


async def test_two_blocks_of_one_agent() -> None:
    """What both use is released with the last; each has its own grant."""
    async with (
        in_process() as fabric,
        fabric.agent("A") as agent,
        fabric.agent("B") as other,
    ):
        async with agent.writing("x", "y", timeout=20):
            async with agent.writing("y", timeout=20), agent.writing("z", timeout=20) as third:
                assert third.resources == ("z",)
            await agent.progress(1)
            await fabric.settle()
            assert rows(fabric, S.log, type="PROGRESS")
            with pytest.raises(WaitTimeoutError, match="A has it"):
                await after(fabric, 0.5, other.writing("y", timeout=0.5).__aenter__())
        async with other.writing("x", "y", "z", timeout=20):
            pass


async def test_a_late_grant_of_an_abandoned_claim_is_ignored(server: RunningServer) -> None:
    """Its PROCEED comes late, during a later block for the same resource."""
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as holder,
        fabric.agent("B") as other,
    ):
        for _ in range(20):
            async with asyncio.TaskGroup() as group:
                release = asyncio.Event()
                entered = asyncio.Event()

                async def hold(entered: asyncio.Event, release: asyncio.Event) -> None:
                    async with holder.writing("x", timeout=20):
                        entered.set()
                        await release.wait()

                group.create_task(hold(entered, release))
                await entered.wait()
                waiting = asyncio.create_task(other.writing("x", timeout=20).__aenter__())
                await blocked(other)
                release.set()
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            async with other.writing("x", timeout=20) as grant:
                held = [c for c in records(server, S.claims).values() if c["state"] == "held"]
                assert [(c["agent"], c["token"]) for c in held] == [("B", grant.token)]


async def test_waiting_for_a_resource_that_another_holds() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as holder,
        fabric.agent("B") as other,
    ):
        async with holder.writing("config.py", timeout=20):
            with pytest.raises(WaitTimeoutError, match=r"for config.py: A has it"):
                await after(fabric, 0.5, other.wait_for("config.py", timeout=0.5))
            waiting = asyncio.create_task(other.wait_for("config.py", timeout=20))
            await fabric.settle()
            assert len(rows(fabric, S.log, type="BLOCKED")) == 2
            await fabric.settle()
            assert set(claims(fabric)) == {"A", "B"}
        assert await waiting is None
        assert claims(fabric) == {"B": ["config.py"]}
        await other.release("config.py")
        await nobody_claims(fabric)


async def test_a_grant_of_an_earlier_incarnation_is_ignored() -> None:
    async with in_process() as fabric, fabric.agent("A") as holder:
        async with holder.writing("x", timeout=20):
            add(fabric, session="s", type="INTENT", emitter="B", payload='{"writes": ["x"]}')
            await fabric.settle()
            assert "B" in claims(fabric)
        await fabric.settle()
        async with fabric.agent("B") as again, again.writing("x", timeout=20) as grant:
            held = [c for c in records(fabric, S.claims).values() if c["state"] == "held"]
            assert [(c["agent"], c["token"]) for c in held] == [("B", grant.token)]


async def test_resolving_a_held_resource_releases_it() -> None:
    async with in_process() as fabric, fabric.agent("A") as agent:
        async with agent.writing("x", timeout=20) as grant:
            await agent.emit(SignalType.DEPENDENCY_RESOLVED, {"dependency_id": "x"})
            await nobody_claims(fabric)
        async with agent.writing("x", timeout=20) as again:
            assert again.token > grant.token
