"""What a caller of the store does while servers change places: asks again until it works."""

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
    """Make a call until it works; note what it raised before.

    It may only say that the server cannot be reached, or does not do it for now.
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
    """Send one entry, without insisting."""
    (entry_id,) = await store.emit(partition, [[b"n", b"%d" % number]], MANY)
    return entry_id


async def emitted(store: RedisStore, partition: int = 0) -> list[int]:
    """The numbers that are in the ingress, in their order."""
    key = store.namespace.partition(partition).signals
    return [int(fields[1]) for _, fields in await store.entries(key, b"-", b"+", MANY)]
