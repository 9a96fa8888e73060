"""Waiting for what other tasks, threads and processes bring about: a condition and a deadline."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

#: Seconds for a condition to come true; a slow machine needs a few, only a failure takes them all.
CONDITION_SECONDS_MAX = 30.0
#: Seconds between two looks at it.
POLL_SECONDS = 0.01
#: Seconds for one whole test that runs on an event loop.
TEST_SECONDS_MAX = 120.0


def until(
    condition: Callable[[], object],
    what: str | Callable[[], str] = "the condition",
    seconds_max: float = CONDITION_SECONDS_MAX,
) -> None:
    """Wait until the condition is true; fail, saying what did not come true."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_SECONDS)


async def eventually(
    condition: Callable[[], object | Awaitable[object]],
    what: str | Callable[[], str] = "the condition",
) -> None:
    """Wait until the condition, which may be a coroutine function, is true; fail if never."""
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
    """Run a test that is a coroutine function on an event loop of its own; for a conftest's hook.

    A task that such a test leaves behind fails it: whatever it started, it must end.
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
