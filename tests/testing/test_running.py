"""The fabric inside a test: real decisions, real syntheses, and time only as the test moves it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

import fabric as public
from fabric.core.record import AgentStatus
from fabric.core.rules import Rules
from fabric.errors import ConfigError, DeadlockError, WaitTimeoutError
from fabric.testing import InProcessFabric, StandstillError, running, running_sync
from tests.support.waiting import until


async def statuses(fabric: InProcessFabric) -> dict[str, str]:
    """What each agent is, by name."""
    return {name: one.status.value for name, one in (await fabric.session().agents()).items()}


async def test_it_is_a_fabric_with_agents_log_and_synthesis() -> None:
    async with running() as fabric:
        assert isinstance(fabric, public.Fabric)
        async with fabric.agent("A", stream="s1") as agent:
            await agent.partial_result({"findings": [{"key": "port", "value": 1}]})
            await agent.progress(50)
        await fabric.settle()
        assert await statuses(fabric) == {"A": "completed"}
        found = await fabric.session().synthesis()
        assert found.is_final
        assert found.findings["port"].value == 1
        log = await fabric.log()
        signals = [one for one in log if one["kind"] == "signal"]
        assert [(one["id"], one["type"]) for one in signals][:3] == [
            ("1-0", "STARTED"), ("2-0", "PARTIAL_RESULT"), ("3-0", "PROGRESS"),
        ]  # fmt: skip
        assert signals[2]["payload"] == {"percent": 50}
        assert await fabric.dead_letters() == []


async def test_agents_that_wait_for_each_other_meet_without_any_time_passing() -> None:
    async with running() as fabric:
        async with fabric.agent("A", produces=["schema"]) as a, fabric.agent("B") as b:
            waiting = asyncio.create_task(b.wait_for("schema"))
            await fabric.settle()
            assert await statuses(fabric) == {"A": "active", "B": "blocked"}
            await a.resolve("schema", location="schema.sql")
            assert await waiting == "schema.sql"
            async with a.writing("x.py"):
                second = asyncio.create_task(b.wait_for("x.py"))
                await fabric.settle()
                assert not second.done()
            await second
        types = [message.type for message in await fabric.messages("B")]
        assert "DEPENDENCY_RESOLVED" in types
        assert fabric.now == datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_deadlock_is_found() -> None:
    async with (
        running() as fabric,
        fabric.agent("A") as a,
        fabric.agent("B") as b,
        a.writing("x"),
        b.writing("y"),
    ):
        waits = [asyncio.create_task(a.wait_for("y")), asyncio.create_task(b.wait_for("x"))]
        await fabric.settle()
        (failed,) = [wait for wait in waits if wait.done()]
        with pytest.raises(DeadlockError):
            await failed
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def test_an_hour_passes_in_a_moment_and_agents_stay_alive() -> None:
    began = time.monotonic()
    async with running() as fabric, fabric.agent("A"):
        await fabric.advance(3_600)
        assert await statuses(fabric) == {"A": "active"}
        beats = [one for one in await fabric.log() if one["type"] == "HEARTBEAT"]
        assert len(beats) >= 3_600 / (fabric.settings.heartbeat_ms / 1000) - 2
        assert fabric.now == datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert time.monotonic() - began < 30


async def test_an_agent_that_falls_silent_is_given_up() -> None:
    async with running("[liveness]\nsilence_ms_max = 60_000\n") as fabric:
        await fabric.emit([{"type": "STARTED", "emitter": "mute"}])
        await fabric.advance(59)
        assert await statuses(fabric) == {"mute": "active"}
        await fabric.advance(2)
        assert await statuses(fabric) == {"mute": AgentStatus.DEAD.value}
        assert (await fabric.session().synthesis()).is_final


async def test_a_wait_that_ends_by_its_timeout_tells_times_of_this_clock() -> None:
    async with running() as fabric, fabric.agent("A", produces=["d"]), fabric.agent("B") as b:
        waiting = asyncio.create_task(b.wait_for("d", timeout=25))
        await fabric.advance(24)
        assert not waiting.done()
        await fabric.advance(1)
        with pytest.raises(WaitTimeoutError, match=r"A, active, last heard of \d s ago"):
            await waiting


async def test_the_same_test_gives_the_same_log() -> None:
    async def play() -> list[dict[str, Any]]:
        async with running(partitions=4) as fabric:
            async with fabric.agent("A") as a, fabric.agent("B") as b:
                await asyncio.gather(a.progress(1), b.progress(2), a.ready(), b.ready())
                await fabric.advance(100)
            await fabric.settle()
            return await fabric.log()

    assert await play() == await play()


async def test_a_signal_that_is_refused_is_a_dead_letter() -> None:
    async with running() as fabric:
        # The way around every check of the client's.
        await fabric.store.emit(0, [[b"session", b"test", b"type", b"NONSENSE"]], 10)
        await fabric.settle()
        (letter,) = await fabric.dead_letters()
        assert letter.type == "NONSENSE"


async def test_sessions_are_apart() -> None:
    async with running(session="one", partitions=8) as fabric:
        async with fabric.agent("A"), fabric.agent("A", session="two"):
            await fabric.settle()
        assert (await fabric.log())[0]["session"] == "one"
        assert (await fabric.log("two"))[0]["session"] == "two"


async def test_rules_are_those_given_and_faults_in_them_are_told() -> None:
    async with running(Rules(silence_ms_max=1_000)) as fabric:
        assert fabric.rules.silence_ms_max == 1_000
    with pytest.raises(ConfigError, match="line 2: "):
        running("[liveness]\nsilence_ms_max = 'soon'\n")
    with pytest.raises(ConfigError, match="no such setting: heartbeat"):
        running(heartbeat=1)
    with pytest.raises(ConfigError, match="heartbeat_ms"):
        running(heartbeat_ms=-1)


async def test_neither_hook_nor_refiner_is_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = Rules(hook=("/nowhere",), refiners=("nobody",), refine_pause_ms=10)
    async with running(rules) as fabric, fabric.agent("A") as agent:
        asking = asyncio.create_task(agent.escalate("Which?", id="q", timeout=10))
        await fabric.settle()
        assert list(await fabric.session().escalations()) == ["q"]
        await fabric.emit(
            [
                {
                    "type": "DECIDED",
                    "emitter": "me",
                    "payload": {"escalation": "q", "decision": "x"},
                }
            ]
        )
        assert await asking == "x"
        await fabric.advance(10)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_reducer_of_the_test_is_used() -> None:
    def spread(values: Sequence[Any]) -> Any:
        return max(values) - min(values)

    rules = '[[synthesis.merges]]\npath = "/n"\nreducer = "spread"\n'
    async with running(rules, reducers={"spread": spread}) as fabric:
        async with fabric.agent("A") as a, fabric.agent("B") as b:
            await a.partial_result({"n": 3})
            await b.partial_result({"n": 10})
        await fabric.settle()
        found = (await fabric.session().synthesis()).document
        assert found["document"]["/n"]["value"] == 7


async def test_a_test_that_waits_for_time_is_told_so() -> None:
    with pytest.raises(StandstillError, match="advance"):
        async with running(patience=0.05) as fabric, fabric.agent("A") as agent:
            await agent.wait_for("nothing", timeout=5)
    # Time passes again.
    await asyncio.sleep(0.01)


async def test_a_slow_test_does_not_stand_still() -> None:
    async with running(patience=0.01):
        for _ in range(10):
            time.sleep(0.01)  # noqa: ASYNC251 - as on a busy machine, the loop has something to run
            await asyncio.sleep(0)


async def test_an_error_of_the_test_ends_it_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        async with running() as fabric, fabric.agent("A"):
            raise ZeroDivisionError
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _next(generator: AsyncIterator[InProcessFabric]) -> InProcessFabric:
    return await anext(generator)


async def test_it_can_be_a_fixture_that_is_set_up_and_torn_down_in_other_tasks() -> None:
    async def fixture() -> AsyncIterator[InProcessFabric]:
        async with running() as fabric:
            yield fabric

    generator = fixture()
    fabric = await asyncio.create_task(_next(generator))
    async with fabric.agent("A") as agent:
        await agent.ready()
        await fabric.advance(60)
    with pytest.raises((StopAsyncIteration, RuntimeError)):
        await asyncio.create_task(_next(generator))


async def test_a_test_that_waits_for_time_is_told_so_by_its_fixture() -> None:
    fabric = running(patience=0.05)
    await asyncio.create_task(fabric.__aenter__())

    async def wait() -> None:
        async with fabric.agent("A") as agent:
            await agent.wait_for("nothing", timeout=5)

    waiting = asyncio.create_task(wait())
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(StandstillError):
        await asyncio.create_task(fabric.__aexit__(None, None, None))


def test_without_an_event_loop() -> None:
    with running_sync("[liveness]\nsilence_ms_max = 60_000\n") as fabric:
        assert isinstance(fabric, public.SyncFabric)
        with fabric.agent("A", produces=["d"]) as a, fabric.agent("B") as b:
            with ThreadPoolExecutor() as threads:
                waiting = threads.submit(b.wait_for, "d", timeout=3_600)
                fabric.settle()
                until(
                    lambda: (
                        (found := fabric.session().agents().get("B"))
                        and found.status is AgentStatus.BLOCKED
                    )
                )
                fabric.advance(3_000)
                assert not waiting.done()
                a.resolve("d", location="here")
                assert waiting.result() == "here"
            assert [one.type for one in fabric.messages("B")][-1] == "RESUME"
        fabric.emit([{"type": "STARTED", "emitter": "mute"}])
        fabric.advance(61)
        assert fabric.session().agents()["mute"].status is AgentStatus.DEAD
        fabric.settle()
        assert fabric.session().synthesis().is_final
        assert fabric.now == datetime(2026, 1, 1, 0, 51, 1, tzinfo=UTC)
        assert [one["type"] for one in fabric.log()[:2]] == ["RULES", "STARTED"]
        assert fabric.dead_letters() == []


def test_without_an_event_loop_a_wait_for_time_ends_too() -> None:
    with pytest.raises(StandstillError):  # noqa: SIM117 - the inner one is what the call raises
        with running_sync(patience=0.05) as fabric, fabric.agent("A") as agent:
            agent.wait_for("nothing", timeout=5)
