"""A channel after its server was replaced: some readers need to know."""

import pytest
from redis.asyncio.connection import ConnectionPool

from fabric.errors import UnavailableError
from fabric.store import address
from fabric.store.connection import Channel, Server
from tests.support.servers import RunningServer


def way(server: RunningServer) -> Server:
    return Server(ConnectionPool(**address.parse(server.url, "test").options))


async def test_a_channel_that_raises_on_reconnect_does_so_once(server: RunningServer) -> None:
    served = way(server)
    channel = Channel(served, raises_on_reconnect=True)
    assert await channel.call("PING") == b"PONG"
    served.generation += 1
    with pytest.raises(UnavailableError, match="another one"):
        await channel.call("PING")
    assert await channel.call("PING") == b"PONG"
    await channel.drop()
    await served.pool.disconnect()


async def test_any_other_channel_reconnects_silently(server: RunningServer) -> None:
    served = way(server)
    channel = Channel(served)
    assert await channel.call("PING") == b"PONG"
    served.generation += 1
    assert await channel.call("PING") == b"PONG"
    await channel.drop()
    await served.pool.disconnect()
