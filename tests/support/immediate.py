"""Coroutines that never wait, as those of the store in memory: run to their end without a loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def done(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns. It must not wait for anything."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
    raise AssertionError("it waits")


def collected(items: AsyncIterator[T]) -> list[T]:
    """Return all that an iterator yields without waiting."""

    async def collect() -> list[T]:
        return [item async for item in items]

    return done(collect())
