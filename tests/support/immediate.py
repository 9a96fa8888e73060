"""Run coroutines that never wait, such as those of the in-memory store, without an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_now(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that must not wait for anything."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
    raise AssertionError("it waits")


def collect_now(items: AsyncIterator[T]) -> list[T]:
    """Return all items of an asynchronous iterator that must not wait for anything."""

    async def collect() -> list[T]:
        return [item async for item in items]

    return run_now(collect())
