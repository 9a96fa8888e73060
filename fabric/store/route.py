"""The way from a key to a server: the one that a URL names, a primary, or a node of a cluster."""

from __future__ import annotations

import asyncio

from redis.asyncio.connection import AbstractConnection, ConnectionPool

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
from fabric.store.connection import Channel


class Route:
    """See connection.Route. `cluster` is None for one server; that is known once it is settled."""

    def __init__(self, url: str, name: str) -> None:
        found = address.read(url, name)
        self._options = found.options
        self._service = found.service
        self._turn = asyncio.Lock()
        self._pool: ConnectionPool | None = None
        self._sentinels: sentinel.Sentinels | None = None
        self.cluster: Cluster | None = None
        #: Whether it is known what kind of server the URL names.
        self.is_settled = found.kind is not Kind.SERVER
        try:
            if found.kind is Kind.CLUSTER:
                self.cluster = Cluster(cluster.seeds(found.hosts, self._options), self._options)
            elif found.kind is Kind.SENTINELS:
                self._pool = made = sentinel.pool(found)
                self._sentinels = made.sentinel_manager
            else:
                self._pool = ConnectionPool(**self._options)
        except ValueError as error:
            raise ConfigError(f"the server's URL has an option of a wrong value: {error}") from None

    async def settle(self) -> None:
        """Ask the server, once, whether it is one of a cluster. Raises as Channel.call does.

        Raises ConfigError when it is a sentinel.
        """
        async with self._turn:
            if self.is_settled:
                return
            assert self._pool is not None
            channel = Channel(Fixed(self._pool))
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
                self.cluster, self._pool = Cluster([self._pool], self._options), None
            self.is_settled = True

    async def dial(self, place: str) -> tuple[ConnectionPool, AbstractConnection]:
        """See connection.Route."""
        if self.cluster is not None:
            return await self.cluster.dial(place)
        assert self._pool is not None
        return self._pool, await cluster.connect(self._pool)

    async def lend(self, address: str) -> tuple[ConnectionPool, AbstractConnection]:
        """See connection.Route."""
        if self.cluster is None:
            raise UnavailableError(f"server: it sends us to {address}")
        return await self.cluster.lend(address)

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
        if self._pool is not None:
            await self._pool.disconnect()
        if self._sentinels is not None:
            await self._sentinels.aclose()


async def _mode(channel: Channel) -> str:
    """Return "standalone", "cluster" or "sentinel", as the server calls it.

    A user who may ask for nothing finds out by the first key that lies elsewhere.
    """
    try:
        flat = await channel.call("HELLO")
        return str(dict(zip(flat[::2], flat[1::2], strict=True)).get(b"mode", b"").decode())
    except (UnreachableError, UnavailableError):
        raise
    except (ServerError, NotAllowedError):
        pass  # a proxy, or a user with few permissions
    try:
        said = await channel.call("INFO", "cluster")
    except (UnreachableError, UnavailableError):
        raise
    except (ServerError, NotAllowedError):
        return "standalone"
    return "cluster" if b"cluster_enabled:1" in said else "standalone"
