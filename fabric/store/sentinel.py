"""Connections to the primary that sentinels name, and that says itself that it is one.

redis-py asks the sentinels, each time that a connection is made: so a channel that drops its
connection, because the primary died, was demoted or has moved, is with the new one after that.

They are asked from time to time as well: after a failover in order (SENTINEL FAILOVER) the old
primary is alive, and takes writes that are lost, until it is told some ten seconds later.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from redis import exceptions
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.backoff import NoBackoff

from fabric.store.address import CONNECT_MS_MAX, Address
from fabric.store.connection import Way, translate

#: Longest wait for one sentinel, ms: another one is asked then, within the time for a connection.
SENTINEL_MS_MAX = 1_000

#: Pause between two looks whether the primary is still the one, ms: what a failover in order loses
#: without WAIT. A sentinel answers some ten thousand such questions a second.
WATCH_MS = 1_000


def way(address: Address) -> tuple[Way, Sentinels]:
    """Return the way to the primary, and the sentinels that know it; both are to be closed."""
    options = dict(address.options)
    is_secure = options.pop("connection_class", None) is not None
    manager = Sentinels(
        list(address.hosts),
        sentinel_kwargs={
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": SENTINEL_MS_MAX / 1000,
            "socket_connect_timeout": SENTINEL_MS_MAX / 1000,
            **(address.sentinel_options or {}),
        },
    )
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call] # the driver leaves its arguments untyped
        address.service,
        manager,
        connection_class=SecurePrimaryConnection if is_secure else PrimaryConnection,
        **options,
    )
    manager.way = Way(pool)
    return manager.way, manager


class Sentinels(Sentinel):
    """The sentinels, asked once for all that want to know at the same time.

    After a failover each channel of a process does: with an agent behind each of them, thousands.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call] # untyped, as above
        self._asking: asyncio.Task[tuple[str, int]] | None = None
        self._answer: tuple[str, int] | None = None
        self.way: Way | None = None
        self._watching: asyncio.Task[None] | None = None
        self._service = ""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the primary's host and port. Raises MasterNotFoundError.

        The asking is a task of its own. The driver waits for the sentinels by `asyncio.wait_for`,
        which before Python 3.12 forgets a cancellation that comes as the waiting ends: who was
        cancelled would go on.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(service_name))
        found = await asyncio.shield(self._asking)
        if self._watching is None:
            self._service = service_name
            self._watching = asyncio.create_task(self._watch())
        return found

    async def _ask(self, service_name: str) -> tuple[str, int]:
        try:
            found: Any = await super().discover_master(service_name)
        except MasterNotFoundError as error:
            shut = ", and one does not let us in" if "Authentication" in str(error) else ""
            raise MasterNotFoundError(
                f"the sentinels name no primary of {service_name} at the moment{shut}"
            ) from None
        host, port = found
        if self._answer not in (None, (host, port)) and self.way is not None:
            self.way.changes += 1
        self._answer = (host, port)
        return self._answer

    async def _watch(self) -> None:
        """Find out that another server has become the primary, for who has no reason to ask."""
        while True:
            await asyncio.sleep(WATCH_MS / 1000)
            # Who needs one at the moment is told; the next look may find it.
            with suppress(TimeoutError, exceptions.RedisError, OSError):
                await self.discover_master(self._service)

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


class PrimaryConnection(SentinelManagedConnection):
    """A connection to a server that says, when it is made, that it is the primary.

    The sentinels may not have heard yet that it is none any more. An error that it turns into a
    replica later, READONLY, stays what it is: the channel knows what to do.
    """

    async def connect_to(self, address: tuple[str, int]) -> None:
        """Connect. Raises ConnectionError when the server there is no primary."""
        await super().connect_to(address)  # type: ignore[no-untyped-call] # untyped, as above
        try:
            await self.send_command("ROLE")
            role = await super().read_response()
        except exceptions.ResponseError:
            return  # not allowed to ask: the sentinels' word counts, and READONLY
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        if role[0] != b"master":
            await self.disconnect(nowait=True)
            raise exceptions.ConnectionError(f"{address[0]}:{address[1]} is no primary any more")

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Return the next reply, without reading anything into an error."""
        return await Connection.read_response(self, *arguments, **options)


class SecurePrimaryConnection(PrimaryConnection, SSLConnection):
    """The same with TLS."""
