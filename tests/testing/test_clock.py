"""The clock of a test: it stands still, moves when told to, and gives the time back at the end."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from fabric.testing.clock import Clock

PATIENCE_S = 60.0


@asynccontextmanager
async def stopped(
    patience_s: float = PATIENCE_S, on_standstill: Callable[[], None] = lambda: None
) -> AsyncIterator[Clock]:
    """A clock that stands still."""
    clock = Clock(patience_s, on_standstill)
    clock.start()
    try:
        yield clock
    finally:
        clock.stop()


async def test_time_stands_still() -> None:
    async with stopped() as clock:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.to_thread(time.sleep, 0.01)
        assert loop.time() == before
        await clock.settle()
        assert loop.time() == before
        assert clock.passed_s() == 0


async def test_timers_fire_in_order_each_at_its_own_time() -> None:
    fired: list[tuple[str, float]] = []

    async with stopped() as clock:

        async def sleep(name: str, *pauses_s: float) -> None:
            for pause_s in pauses_s:
                await asyncio.sleep(pause_s)
                fired.append((name, round(clock.passed_s(), 3)))

        began = time.monotonic()
        tasks = [asyncio.create_task(sleep("a", 3, 3)), asyncio.create_task(sleep("b", 4, 100))]
        await clock.advance(10)
        assert fired == [("a", 3), ("b", 4), ("a", 6)]
        await clock.advance(94)
        assert fired[3:] == [("b", 104)]
        await asyncio.gather(*tasks)
        assert time.monotonic() - began < 3


async def test_a_timeout_is_a_timer_and_one_that_is_cancelled_does_not_count() -> None:
    async with stopped() as clock:
        event = asyncio.Event()
        waiting = asyncio.create_task(asyncio.wait_for(event.wait(), 30))
        other = asyncio.create_task(asyncio.wait_for(asyncio.Event().wait(), 30))
        await clock.advance(29)
        event.set()
        await waiting
        await clock.advance(2)
        with pytest.raises(TimeoutError):
            await other


async def test_work_in_other_threads_comes_in_when_it_is_done() -> None:
    async with stopped():
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()


async def test_timers_set_before_stand_still_and_go_on_afterwards() -> None:
    loop = asyncio.get_running_loop()
    fired = asyncio.Event()
    before = loop.call_later(0.05, fired.set)
    async with stopped() as clock:
        await clock.advance(1_000)
        assert not fired.is_set()
        left = asyncio.create_task(asyncio.sleep(0.05))
        await clock.settle()
    assert not fired.is_set()
    assert 0 < before.when() - loop.time() <= 0.05
    async with asyncio.timeout(10):
        await fired.wait()
        await left
    assert loop.time() == pytest.approx(time.monotonic(), abs=1)


async def test_two_tasks_can_move_it() -> None:
    async with stopped() as clock:
        await asyncio.gather(clock.advance(10), clock.advance(5), clock.settle())
        assert clock.passed_s() == pytest.approx(15)


async def test_one_clock_at_a_time() -> None:
    async with stopped():
        with pytest.raises(RuntimeError, match="one fabric at a time"):
            Clock(PATIENCE_S, lambda: None).start()


async def test_what_never_comes_to_rest_is_an_error() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110 - this is the fault to be found
            await asyncio.sleep(0)

    async with stopped() as clock:
        spinning = asyncio.create_task(spin())
        with pytest.raises(RuntimeError, match="never comes to rest"):
            await clock.settle()
        spinning.cancel()
        await asyncio.gather(spinning, return_exceptions=True)


async def test_a_standstill_is_reported_once() -> None:
    reports: list[float] = []
    reported = asyncio.Event()

    def report() -> None:
        reports.append(time.monotonic())
        reported.set()

    began = time.monotonic()
    async with stopped(0.1, report) as clock:
        for _ in range(3):
            await asyncio.to_thread(time.sleep, 0.06)
            await clock.settle()
        await reported.wait()
        await asyncio.to_thread(time.sleep, 0.3)
    assert len(reports) == 1
    assert reports[0] - began >= 0.28
    assert not any(one.name == "fabric-test-clock" for one in threading.enumerate())
