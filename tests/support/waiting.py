"""Waiting until other tasks, threads or processes make a condition true, with a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

#: Seconds for a condition to become true; a slow machine needs a few, only a failure needs all.
CONDITION_SECONDS_MAX = 30.0
#: Seconds between two checks.
POLL_SECONDS = 0.01
#: Seconds for one whole test that runs on an event loop.
TEST_SECONDS_MAX = 120.0


def until(
    condition: Callable[[], object],
    what: str | Callable[[], str] = "the condition",
    seconds_max: float = CONDITION_SECONDS_MAX,
) -> None:
    """Wait until the condition is true; fail with the name of what did not become true."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_SECONDS)


async def eventually(
    condition: Callable[[], object | Awaitable[object]],
    what: str | Callable[[], str] = "the condition",
) -> None:
    """Wait until a condition, possibly a coroutine function, is true; fail after the deadline."""
    deadline = time.monotonic() + CONDITION_SECONDS_MAX
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(POLL_SECONDS)


def run_coroutine_test(item: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function on its own event loop; for a hook in conftest.py.

    A test that leaves a task behind fails: it must end what it started.
    """
    if not inspect.iscoroutinefunction(item.obj):
        return None
    arguments: dict[str, Any] = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}

    async def run() -> set[str]:
        async with asyncio.timeout(TEST_SECONDS_MAX):
            await item.obj(**arguments)
        return {str(task.get_coro()) for task in asyncio.all_tasks() - {asyncio.current_task()}}

    left = asyncio.run(run())
    assert not left, f"still running at the end of the test: {left}"
    return True
