"""A channel: what its requests see when replies are late, and connections or servers end."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from fabric.errors import (
    ReconnectedError,
    UnavailableError,
    UnreachableError,
    UnsupportedServerError,
)
from fabric.store import address, connection
from fabric.store.connection import Channel, ConfirmedChannel, Server
from fabric.store.exchange import Exchange
from tests.support.servers import RunningServer
from tests.support.waiting import eventually


def way(server: RunningServer) -> Server:
    return Server(ConnectionPool(**address.parse(server.url, "test").options))


async def test_a_channel_that_raises_on_reconnect_does_so_once(server: RunningServer) -> None:
    served = way(server)
    channel = Channel(served, raises_on_reconnect=True)
    assert await channel.call("PING") == b"PONG"
    served.generation += 1
    with pytest.raises(ReconnectedError, match="another one"):
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


async def test_a_connection_that_the_server_closed_is_opened_again(server: RunningServer) -> None:
    """An idle connection that the server closes is no trouble, and no request fails for it."""
    served = way(server)
    channel, other = Channel(served), Channel(served)
    own = await channel.call("CLIENT", "ID")
    await other.call("CLIENT", "KILL", "ID", own)
    await eventually(lambda: not channel.is_connected)
    assert await channel.call("CLIENT", "ID") != own
    await channel.drop()
    await other.drop()
    await served.pool.disconnect()


async def test_several_commands_are_one_request(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[bytes] = []
    send = Exchange.request

    async def request(exchange: Exchange, packed: bytes, *limits: Any) -> list[Any]:
        requests.append(packed)
        return await send(exchange, packed, *limits)

    monkeypatch.setattr(Exchange, "request", request)
    served = way(server)
    channel = Channel(served)
    replies = await channel.call_all([("SET", "x", 1), ("HGETALL", "x"), ("GET", "x")])
    assert (replies[0], replies[2], len(requests)) == (b"OK", b"1", 1)
    assert isinstance(replies[1], RedisError), "an error is a reply like others"
    await channel.call("DEL", "x")
    await channel.drop()
    await served.pool.disconnect()


async def test_requests_at_once_end_with_the_connection(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = way(server)
    channel = Channel(served)
    monkeypatch.setattr(connection, "REPLY_MS_MAX", 50)
    with pytest.raises(UnreachableError, match="no reply within 50 ms"):
        await channel.call_all([("PING",), ("BLPOP", "no-such-list", 0.2)])
    monkeypatch.undo()
    assert await channel.call_all([("ECHO", "a"), ("ECHO", "b")]) == [b"a", b"b"]
    waiting = asyncio.create_task(channel.call_all([("BLPOP", "no-such-list", 0.2)]))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await channel.call("PING") == b"PONG"
    await channel.drop()
    await served.pool.disconnect()


async def test_a_server_that_refuses_wait_is_named_with_the_setting(server: RunningServer) -> None:
    served = way(server)
    channel = ConfirmedChannel(served, "", 1)
    emitting = ("EVAL", "return {'emitted', '1-0'}", 0)
    channel._wait = b"NO-SUCH-WAIT 1\r\n"
    with pytest.raises(UnsupportedServerError, match="which the setting wait_replicas needs"):
        await channel.call(*emitting)
    channel._wait = b"WAIT many 1\r\n"
    with pytest.raises(UnavailableError, match=r"of 1 replicas .*WAIT was refused \(.*integer"):
        await channel.call(*emitting)
    await channel.drop()
    await served.pool.disconnect()


async def test_a_late_reply_is_never_taken_for_another(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = way(server)
    channel = Channel(served)
    assert await channel.call("PING") == b"PONG"
    monkeypatch.setattr(connection, "REPLY_MS_MAX", 50)
    with pytest.raises(UnreachableError, match="no reply within 50 ms"):
        await channel.call("BLPOP", "no-such-list", 0.2)
    monkeypatch.undo()
    assert await channel.call("PING") == b"PONG"

    waiting = asyncio.create_task(channel.call("BLPOP", "no-such-list", 0.2, block_ms=200))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await channel.call("PING") == b"PONG"
    await channel.drop()
    await served.pool.disconnect()


async def test_a_shorter_limit_is_kept_after_a_longer_one(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One watchdog serves all requests: that of a blocking read must not delay the next one's."""
    served = way(server)
    channel = Channel(served)
    await channel.call("PING", block_ms=3_600_000)
    monkeypatch.setattr(connection, "REPLY_MS_MAX", 50)
    with pytest.raises(UnreachableError):
        await channel.call("BLPOP", "no-such-list", 0)
    await served.pool.disconnect()


async def test_a_reply_that_comes_slowly_is_waited_for(server: RunningServer) -> None:
    """The limit is for a connection on which nothing moves: a slow link takes its time."""
    served = way(server)
    exchange = Exchange(await served.connect())
    waiting = asyncio.create_task(exchange.request(b"BLPOP no-such-list 0\r\n", 0.4))
    for piece in (b"*2\r\n", b"$1\r\n", b"a\r\n", b"$2\r\n", b"bc\r\n"):
        await asyncio.sleep(0.2)  # the link, not a synchronisation
        exchange.data_received(piece)
    assert await waiting == [[b"a", b"bc"]]
    await served.pool.disconnect()


async def test_a_released_connection_serves_the_driver_again(server: RunningServer) -> None:
    served = way(server)
    channel = Channel(served)
    own = await channel.call("CLIENT", "ID")
    await channel.release()
    again = await served.connect()
    await again.send_command("CLIENT", "ID")
    assert await again.read_response() == own
    await served.pool.release(again)
    assert await channel.call("CLIENT", "ID") == own
    await channel.drop()
    await served.pool.disconnect()


async def test_an_unexpected_reply_ends_the_connection(server: RunningServer) -> None:
    served = way(server)
    channel = Channel(served)
    link = await served.connect()
    exchange = Exchange(link)
    assert await exchange.request(b"PING\r\n", 5) == [b"PONG"]
    assert await exchange.request(b"PING\r\nECHO a\r\n", 5, 2) == [b"PONG", b"a"]
    with suppress(RedisError):  # both replies may come together
        await exchange.request(b"PING\r\nPING\r\n", 5)
    await eventually(lambda: not exchange.is_open)
    with pytest.raises(RedisError, match="closed"):
        await exchange.request(b"PING\r\n", 5)
    await served.pool.disconnect()
    await channel.drop()
