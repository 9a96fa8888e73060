"""Retrying calls of the store while servers fail over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from fabric.errors import ServerError, UnavailableError, UnreachableError
from fabric.store.redis import RedisStore
from tests.support.waiting import CONDITION_SECONDS_MAX

T = TypeVar("T")

#: Seconds between two tries.
PAUSE_SECONDS = 0.05

#: More signals than any test sends.
MANY = 100_000


async def outlast(call: Callable[[], Awaitable[T]], errors: list[ServerError] | None = None) -> T:
    """Repeat a call until it succeeds; append the errors before that to `errors`.

    Only errors that mean "unreachable" or "not now" are allowed.
    """
    noted = errors if errors is not None else []
    try:
        async with asyncio.timeout(CONDITION_SECONDS_MAX):
            while True:
                try:
                    return await call()
                except (UnreachableError, UnavailableError) as error:
                    noted.append(error)
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        pytest.fail(f"did not work again: {noted[-3:]}")


async def emit(store: RedisStore, number: int, partition: int = 0) -> bytes:
    """Send one entry, without a retry."""
    (entry_id,) = await store.emit(partition, [[b"n", b"%d" % number]], MANY)
    return entry_id


async def emitted(store: RedisStore, partition: int = 0) -> list[int]:
    """Return the numbers in the ingress, in order."""
    key = store.namespace.partition(partition).signals
    return [int(fields[1]) for _, fields in await store.entries(key, b"-", b"+", MANY)]
