"""The way from a key to a server: the one that a URL names, a primary, or a node of a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from fabric.errors import (
    ConfigError,
    NotAllowedError,
    ServerError,
    UnavailableError,
    UnreachableError,
)
from fabric.store import address, cluster, sentinel
from fabric.store.address import Kind
from fabric.store.cluster import Cluster, Fixed
from fabric.store.connection import Channel, Way


class Route:
    """See connection.Route. `cluster` is None for one server; that is known once it is settled."""

    def __init__(self, url: str, name: str) -> None:
        found = address.read(url, name)
        self._options = found.options
        self._service = found.service
        self._turn = asyncio.Lock()
        self._way: Way | None = None
        self._sentinels: sentinel.Sentinels | None = None
        self.cluster: Cluster | None = None
        #: Whether it is known what kind of server the URL names.
        self.is_settled = found.kind is not Kind.SERVER
        try:
            if found.kind is Kind.CLUSTER:
                ways = cluster.seeds(found.hosts, self._options)
                self.cluster = Cluster(ways, self._options)
            elif found.kind is Kind.SENTINELS:
                self._way, self._sentinels = sentinel.way(found)
                ways = [self._way]
            else:
                ways = [Way(ConnectionPool(**self._options))]
                self._way = ways[0]
            # Nothing is dialled yet; a connection that cannot even be made is told of at once.
            ways[0].pool.make_connection()  # type: ignore[no-untyped-call] # the driver's is untyped
        except (TypeError, ValueError, RedisError):
            raise address.unreadable(has_options=True) from None

    async def settle(self) -> None:
        """Ask the server, once, whether it is one of a cluster. Raises as Channel.call does.

        Raises ConfigError when it is a sentinel.
        """
        async with self._turn:
            if self.is_settled:
                return
            assert self._way is not None
            channel = Channel(Fixed(self._way))
            try:
                mode = await _mode(channel)
            except UnreachableError as error:
                error.never_sent = True  # what was to be sent has not been
                raise
            await channel.give_back()
            if mode == "sentinel":
                raise ConfigError(
                    "the server's URL names a sentinel: write redis+sentinel://host:port/service"
                )
            if mode == "cluster":
                self.cluster, self._way = Cluster([self._way], self._options), None
            self.is_settled = True

    async def find(self, place: str) -> Way:
        """See connection.Route."""
        if self.cluster is not None:
            return await self.cluster.find(place)
        assert self._way is not None
        return self._way

    def node(self, address: str) -> Way:
        """See connection.Route."""
        if self.cluster is None:
            raise UnavailableError(f"server: it sends us to {address}")
        return self.cluster.node(address)

    def moved(self, slot: int, address: str) -> None:
        """See connection.Route."""
        if self.cluster is None:
            raise UnavailableError(f"server: it sends us to {address}")
        self.cluster.moved(slot, address)

    def doubt(self) -> None:
        """See connection.Route."""
        if self.cluster is not None:
            self.cluster.doubt()

    async def address(self, place: str) -> str | None:
        """Return `host:port` of the server that has a key; None when it is reached otherwise."""
        if self.cluster is not None:
            return await self.cluster.address(place)
        if self._sentinels is not None:
            return await sentinel.primary(self._sentinels, self._service)
        return None

    async def close(self) -> None:
        """Close all connections."""
        if self.cluster is not None:
            await self.cluster.close()
        if self._way is not None:
            await self._way.pool.disconnect()
        if self._sentinels is not None:
            await self._sentinels.aclose()


async def _mode(channel: Channel) -> str:
    """Return "standalone", "cluster" or "sentinel", as the server calls it.

    A user who may not ask is taken to be on one server; one who is not let in is told so.
    """
    flat = await _answer(channel, "HELLO")
    if flat is not None:
        return str(dict(zip(flat[::2], flat[1::2], strict=True)).get(b"mode", b"").decode())
    said = await _answer(channel, "INFO", "cluster")  # a proxy, or few permissions
    return "cluster" if b"cluster_enabled:1" in (said or b"") else "standalone"


async def _answer(channel: Channel, *command: str) -> Any:
    """Return the reply, None when the server does not give one to this question."""
    try:
        return await channel.call(*command)
    except (UnreachableError, UnavailableError):
        raise
    except (ServerError, NotAllowedError):
        if not channel.is_connected:  # not let in
            raise
        return None
