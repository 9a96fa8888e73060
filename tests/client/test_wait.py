"""Waiting for what others produce, in both orders, with timeouts, and withdrawing."""

import asyncio
from collections.abc import Callable

import pytest

from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.errors import DependencyFailedError, WaitTimeoutError
from fabric.store import connection
from fabric.testing import InProcessFabric
from tests.client.fleet import S, after, blocked, fleet, in_process, is_blocked, logged
from tests.support.keyspace import add, records, rows
from tests.support.proxy import Proxy
from tests.support.proxy_fault import Fault, carrying
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


def waiters(server: RunningServer | InProcessFabric, name: str = "x") -> dict[str, str]:
    """Return the agents that wait for it."""
    found = records(server, S.dependencies).get(name, {}).get("waiters", {})
    assert isinstance(found, dict)
    return found


async def nobody_waits(fabric: InProcessFabric) -> None:
    await fabric.settle()
    assert not waiters(fabric)


async def test_the_wait_comes_first() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A", produces=["x"]) as maker,
        fabric.agent("B") as waiter,
    ):
        waiting = asyncio.create_task(waiter.wait_for("x", reason="needs it", timeout=20))
        await fabric.settle()
        assert await is_blocked(waiter)
        assert rows(fabric, S.log, type="BLOCKED")[0].payload == {"on": "x", "reason": "needs it"}
        await maker.resolve("x", location="x.py")
        assert await waiting == "x.py"
        assert waiters(fabric) == {}


async def test_the_dependency_comes_first() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as maker,
        fabric.agent("B") as waiter,
    ):
        await maker.resolve("x", location="x.py")
        assert await waiter.wait_for("x", timeout=20) == "x.py"
        # It is known now: no signal is needed.
        before = len(rows(fabric, S.log))
        assert await waiter.wait_for("x", timeout=20) == "x.py"
        assert len(rows(fabric, S.log)) == before


async def test_its_producer_completes() -> None:
    async with in_process() as fabric, fabric.agent("B") as waiter:
        async with fabric.agent("A", produces=["x"]):
            waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
            await fabric.settle()
            assert await is_blocked(waiter)
        assert await waiting is None


async def test_several_waits_at_once() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A") as maker,
        fabric.agent("B") as waiter,
    ):
        names = [f"x{number}" for number in range(20)]
        waiting = [asyncio.create_task(waiter.wait_for(name, timeout=20)) for name in names]
        await fabric.settle()
        assert len(rows(fabric, S.log, type="BLOCKED")) == 20
        for name in reversed(names):
            await maker.resolve(name, location=f"{name}.py")
        assert await asyncio.gather(*waiting) == [f"{name}.py" for name in names]


async def test_a_time_out_names_the_producer_and_its_state() -> None:
    async with (
        in_process() as fabric,
        fabric.agent("A", produces=["x"]) as maker,
        fabric.agent("B") as waiter,
    ):
        await maker.progress(40)
        await fabric.settle()
        with pytest.raises(WaitTimeoutError) as caught:
            await after(fabric, 0.2, waiter.wait_for("x", timeout=0.2))
        words = str(caught.value)
        assert words.startswith("B waited 0.2 s for x: to be produced by A, active at 40 %, ")
        assert caught.value.exit_code == 7
        await nobody_waits(fabric)
        assert records(fabric, S.agents)["B"]["status"] == "active"


async def test_a_time_out_says_that_nobody_produces_it() -> None:
    async with in_process() as fabric, fabric.agent("B") as waiter:
        with pytest.raises(WaitTimeoutError, match="nobody has declared to produce it"):
            await after(fabric, 0.1, waiter.wait_for("x", timeout=0.1))
        await nobody_waits(fabric)


async def test_its_producer_fails() -> None:
    async with in_process() as fabric, fabric.agent("B") as waiter:
        async with fabric.agent("A", produces=["x"]) as maker:
            waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
            await fabric.settle()
            assert await is_blocked(waiter)
            await maker.fail("no columns")
        with pytest.raises(DependencyFailedError, match="A failed to produce x: no columns"):
            await waiting
        await nobody_waits(fabric)
        # It has failed already, so the answer is immediate.
        with pytest.raises(DependencyFailedError, match="A failed to produce x"):
            await waiter.wait_for("x", timeout=20)


async def test_a_failure_reported_to_an_earlier_incarnation_is_over() -> None:
    """The producer has started again since; an old message ends no new wait."""
    async with in_process() as fabric:
        for emitter, kind, payload in (
            ("A", "STARTED", '{"produces": ["x"]}'),
            ("B", "BLOCKED", '{"on": "x"}'),
            ("A", "FAILED", '{"error": "once"}'),
        ):
            add(fabric, session="s", type=kind, emitter=emitter, payload=payload)
        await fabric.settle()
        assert rows(fabric, S.inbox("B"), type="FAILED")
        async with (
            fabric.agent("A", produces=["x"]) as maker,
            fabric.agent("B") as waiter,
        ):
            waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
            await fabric.settle()
            assert await is_blocked(waiter)
            await maker.resolve("x", location="x.py")
            assert await waiting == "x.py"


async def test_a_producer_is_told_once() -> None:
    async with (
        in_process(Rules(undeclared_grace_ms=10)) as fabric,
        fabric.agent("B") as waiter,
    ):
        waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
        await fabric.advance(0.02)
        assert rows(fabric, S.inbox("B"), type="ESCALATE")
        add(
            fabric, session="s", type="DEPENDENCY_RESOLVED", emitter="A",
            payload='{"dependency_id": "x"}',
        )  # fmt: skip
        assert await waiting is None


async def test_cancelling_withdraws_the_wait() -> None:
    async with in_process() as fabric, fabric.agent("B") as waiter:
        waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
        await fabric.settle()
        assert await is_blocked(waiter)
        assert set(waiters(fabric)) == {"B"}
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await nobody_waits(fabric)
        assert records(fabric, S.agents)["B"]["status"] == "active"
        await waiter.progress(50)


async def test_a_wait_that_starts_again_at_once_stays(server: RunningServer) -> None:
    """Withdrawing the first must not withdraw the second."""
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as maker,
        fabric.agent("B") as waiter,
    ):
        for _ in range(20):
            try:
                async with asyncio.timeout(0.02):
                    await waiter.wait_for("x")
            except TimeoutError:
                continue
        waiting = asyncio.create_task(waiter.wait_for("x", timeout=20))
        await asyncio.sleep(0)
        await waiter.progress(50)
        await eventually(lambda: rows(server, S.log, type="PROGRESS"), "all before is handled")
        await eventually(lambda: set(waiters(server)) == {"B"}, "it waits")
        await maker.resolve("x", location="x.py")
        assert await waiting == "x.py"


async def test_two_tasks_of_one_agent_wait_for_one_thing() -> None:
    """One of them gives up; the other still gets it."""
    async with (
        in_process() as fabric,
        fabric.agent("A", produces=["x"]) as maker,
        fabric.agent("B") as waiter,
    ):
        long = asyncio.create_task(waiter.wait_for("x", timeout=20))
        short = asyncio.create_task(waiter.wait_for("x", timeout=0.1))
        await fabric.advance(0.1)
        with pytest.raises(WaitTimeoutError):
            await short
        await waiter.progress(1)
        await fabric.settle()
        assert rows(fabric, S.log, type="PROGRESS")
        assert set(waiters(fabric)) == {"B"}
        await maker.resolve("x", location="x.py")
        assert await long == "x.py"


@pytest.mark.slow
async def test_the_time_out_holds_during_an_outage(
    server: RunningServer,
    proxy: Callable[[RunningServer], Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    between = proxy(server)
    async with fleet(between.url, emit_limit_ms=600_000) as fabric:
        agent = fabric.agent("B")
        await agent.__aenter__()
        waiting = asyncio.create_task(agent.wait_for("x", timeout=2))
        await blocked(agent)
        monkeypatch.setattr(connection, "REPLY_MS_MAX", 300)
        between.refuse()
        with pytest.raises(WaitTimeoutError, match="who is to produce it is not known"):
            await waiting
        between.accept()
        await eventually(lambda: not waiters(server), "it withdraws")
        await agent.__aexit__(None, None, None)


async def test_a_wait_survives_an_outage(server: RunningServer) -> None:
    async with (
        fleet(server.url) as fabric,
        fabric.agent("A") as maker,
        fabric.agent("B") as waiter,
    ):
        waiting = asyncio.create_task(waiter.wait_for("x", timeout=30))
        await blocked(waiter)
        server.cli("CLIENT", "KILL", "SKIPME", "yes")
        await maker.resolve("x", location="x.py")
        assert await waiting == "x.py"


async def test_a_cancelled_signal_is_not_mixed_up_with_the_next(
    server: RunningServer, proxy: Callable[[RunningServer], Proxy]
) -> None:
    """The next request must not take the reply that was under way for its own."""
    between = proxy(server)
    async with fleet(between.url) as fabric, fabric.agent("A") as agent:
        held = between.fault(Fault.DELAY_REPLY, carrying(b"PROGRESS"))
        sending = asyncio.create_task(agent.progress(1))
        await eventually(lambda: held.landed, "the reply is under way")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        second = await agent.emit(SignalType.PROGRESS, {"percent": 2})
        between.lift(held)
        third = await agent.emit(SignalType.PROGRESS, {"percent": 3})
        assert second != third
        signals = await logged(server, 4)
        assert [row.payload.get("percent") for row in signals[1:4]] == [1, 2, 3]
