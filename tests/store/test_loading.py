"""A server that restarted and is still loading: requests fail until it has read its data."""

import asyncio
from collections.abc import Callable

import pytest

from fabric.errors import ServerError, UnavailableError
from fabric.store.redis import RedisStore
from tests.support.outage import emit, emitted, outlast
from tests.support.servers import RunningServer, flavours

#: Keys in the snapshot, and the delay for each in microseconds: three seconds in all. The server
#: answers each time it has read two more megabytes.
KEYS = 300
KEY_BYTES = 100_000
KEY_DELAY_US = 10_000


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("flavour", flavours())
async def test_a_server_that_is_loading(start: Callable[..., RunningServer], flavour: str) -> None:
    server = start(flavour, "--rdbcompression", "no")
    for number in range(KEYS):
        server.cli("SET", f"k{number}", "x" * KEY_BYTES)
    store = RedisStore(server.url)
    try:
        await emit(store, 1)
        server.cli("SAVE")
        server.kill()
        server.options += ("--key-load-delay", str(KEY_DELAY_US))
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        errors: list[ServerError] = []
        await outlast(lambda: emit(store, 2), errors)
        await starting
        loading = [error for error in errors if "loading" in str(error)]
        assert loading, errors
        assert all(isinstance(error, UnavailableError) for error in loading)
        assert await emitted(store) == [1, 2]
    finally:
        await store.close()
