"""Connections to the primary that sentinels name and that reports itself as the primary.

redis-py asks the sentinels each time it makes a connection. So when the primary dies, is demoted or
moves, a channel drops its connection and the next one leads to the new primary.

We also ask the sentinels from time to time. After a planned failover (SENTINEL FAILOVER) the old
primary is alive and takes writes, which are lost, until it is demoted some ten seconds later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis import exceptions
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.asyncio.sentinel import SentinelManagedConnection as ManagedConnection
from redis.backoff import NoBackoff

from fabric.store.address import CONNECT_MS_MAX, Address, introduce
from fabric.store.connection import Server, translate

#: Longest wait for one sentinel, ms: short enough to ask another one before a connection times out.
SENTINEL_MS_MAX = 1_000

#: Pause between two checks which server is the primary, ms. Without WAIT, a planned failover loses
#: what is written in that time. A sentinel answers some ten thousand such questions a second.
WATCH_MS = 1_000


def primary_server(address: Address) -> tuple[Server, Sentinels]:
    """Return the primary, and the sentinels that know it; the caller closes both."""
    options = dict(address.options)
    is_secure = options.pop("connection_class", None) is not None
    own = dict(address.sentinel_options or {})
    name = own.pop("client_name", "")
    sentinels = Sentinels(
        list(address.hosts),
        sentinel_kwargs={
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": SENTINEL_MS_MAX / 1000,
            "socket_connect_timeout": SENTINEL_MS_MAX / 1000,
            "redis_connect_func": partial(introduce, name),
            **own,
        },
    )
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call] # the driver leaves its arguments untyped
        address.service,
        sentinels,
        connection_class=SecurePrimaryConnection if is_secure else PrimaryConnection,
        **options,
    )
    sentinels.primary = Server(pool)
    return sentinels.primary, sentinels


class Sentinels(Sentinel):
    """The sentinels, asked once for all callers that want to know at the same time.

    After a failover, every channel of a process asks: thousands, with an agent behind each.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call] # untyped, as above
        self._asking: asyncio.Task[tuple[str, int]] | None = None
        self._answer: tuple[str, int] | None = None
        self.primary: Server | None = None
        self._watching: asyncio.Task[None] | None = None

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the primary's host and port. Raises MasterNotFoundError.

        A task of its own asks. The driver waits for the sentinels with `asyncio.wait_for`, which
        before Python 3.12 can swallow a cancellation that comes as the wait ends; the cancelled
        caller would go on.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(service_name))
        found = await asyncio.shield(self._asking)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(service_name))
        return found

    async def _ask(self, service_name: str) -> tuple[str, int]:
        try:
            found: tuple[str, int] = await super().discover_master(service_name)
        except MasterNotFoundError as error:
            refused = ", and one does not let us in" if "Authentication" in str(error) else ""
            raise MasterNotFoundError(
                f"the sentinels name no primary of {service_name} at the moment{refused}"
            ) from None
        if self._answer not in (None, found) and self.primary is not None:
            self.primary.generation += 1
        self._answer = found
        return found

    async def _watch(self, service_name: str) -> None:
        """Notice a new primary even when no channel has a reason to ask."""
        while True:
            await asyncio.sleep(WATCH_MS / 1000)
            # A failure matters only to a channel that needs a connection, which asks by itself.
            with suppress(TimeoutError, exceptions.RedisError, OSError):
                await self.discover_master(service_name)

    async def aclose(self) -> None:
        """Close all connections to sentinels."""
        left = [task for task in (self._watching, self._asking) if task is not None]
        self._watching = self._asking = None
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for sentinel in self.sentinels:
            await sentinel.aclose()


async def primary(sentinels: Sentinels, service: str) -> str:
    """Return `host:port` of the primary. Raises UnreachableError when the sentinels name none."""
    try:
        async with asyncio.timeout(CONNECT_MS_MAX / 1000):
            host, port = await sentinels.discover_master(service)
    except (TimeoutError, exceptions.RedisError, OSError) as error:
        raise translate(error) from None
    return f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class SentinelView:
    """What one sentinel says: of itself only its address, if it does not answer (`trouble`)."""

    address: str
    primary: str = ""
    replicas: tuple[str, ...] = ()
    trouble: str = ""


async def views(sentinels: Sentinels, service: str) -> list[SentinelView]:
    """Ask each sentinel which servers it knows, and whether enough agree for a failover."""
    return [await _view(one, service) for one in sentinels.sentinels]


async def _view(sentinel: Any, service: str) -> SentinelView:
    options = sentinel.connection_pool.connection_kwargs
    address = f"{options['host']}:{options['port']}"
    try:
        async with asyncio.timeout(CONNECT_MS_MAX / 1000):
            named = await sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", service)
            rows = await sentinel.execute_command("SENTINEL REPLICAS", service)
            refusal = await _no_quorum(sentinel, service)
    except (TimeoutError, exceptions.RedisError, OSError) as error:
        return SentinelView(address, trouble=f"does not answer: {translate(error)}")
    replicas = tuple(f"{row['ip']}:{row['port']}" for row in map(_as_text, rows))
    primary = ":".join(_as_words(named or ()))
    return SentinelView(address, primary, replicas, refusal)


async def _no_quorum(sentinel: Any, service: str) -> str:
    try:
        await sentinel.execute_command("SENTINEL CKQUORUM", service)
    except exceptions.ResponseError as error:
        return str(error)
    return ""


def _as_words(items: Iterable[Any]) -> list[str]:
    return [item.decode() if isinstance(item, bytes) else str(item) for item in items]


def _as_text(row: Any) -> dict[str, str]:
    """Return a row of SENTINEL REPLICAS, which the driver may have parsed."""
    if isinstance(row, dict):
        return dict(zip(_as_words(row), _as_words(row.values()), strict=True))
    words = _as_words(row)
    return dict(zip(words[::2], words[1::2], strict=True))


class PrimaryConnection(ManagedConnection):
    """A connection that checks, when it is made, that the server is the primary.

    The sentinels may not know yet that it no longer is. Unlike the driver's, it passes on READONLY,
    the error of a primary that became a replica later, because the channel handles that.
    """

    async def connect_to(self, address: tuple[str, int]) -> None:
        """Connect. Raises ConnectionError when the server there is no primary."""
        await super().connect_to(address)  # type: ignore[no-untyped-call] # untyped, as above
        try:
            await self.send_command("ROLE")
            role = await super().read_response()
        except exceptions.ResponseError:
            return  # not allowed to ask: we rely on the sentinels, and on READONLY
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        if role[0] != b"master":
            await self.disconnect(nowait=True)
            raise exceptions.ConnectionError(f"{address[0]}:{address[1]} is no primary any more")

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Return the next reply; errors pass unchanged."""
        return await Connection.read_response(self, *arguments, **options)


class SecurePrimaryConnection(PrimaryConnection, SSLConnection):
    """The same with TLS."""
