"""Which connection a request goes over: one for each purpose, and on a cluster for each slot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from fabric.config.defaults import PARTITIONS, PARTITIONS_CLUSTER
from fabric.errors import (
    ConfigError,
    NotAllowedError,
    ServerError,
    TamperedError,
    UnavailableError,
    UnreachableError,
)
from fabric.store import address, cluster, sentinel
from fabric.store.address import Kind
from fabric.store.cluster import Cluster, Fixed, slot
from fabric.store.connection import Caller, Channel, ConfirmedChannel, Way
from fabric.store.keys import Namespace
from fabric.wire.stored import fields_of

#: Purpose of the channel that signals are sent over.
EMITS: Final = "emits"
#: Reading on from a place in streams.
FOLLOWS: Final = "follows"

T = TypeVar("T")


class Channels:
    """The connections of one process to one namespace.

    Reads that block have a connection of their own for each caller (`key`), so that nothing waits
    behind them; commits and everything else share one per partition. Signals that are sent count
    only when `wait_replicas` have them (see ConfirmedChannel). Every request says at which key it
    is aimed (`at`): on a cluster its node is found by that.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "fabric",
        *,
        name: str = "fabric",
        wait_replicas: int = 0,
    ) -> None:
        self.namespace = Namespace(namespace)
        self._wait_replicas = wait_replicas
        self._route = Route(url, name)
        self._channels: dict[tuple[str, object, int | None], Channel] = {}

    async def call(self, *command: Any, at: str | None = None) -> Any:
        """Send any command: for `doctor`, which looks at the server itself.

        `at` is the key that it is aimed at; without one it goes to the server of `meta`.
        """
        return await self._channel(at=self.namespace.meta if at is None else at).call(*command)

    async def servers(self) -> dict[str, Caller]:
        """Return a way to each server that has keys, by its address; "" when there is but one."""
        await self._route.settle()
        if self._route.cluster is None:
            return {"": self._channel(at=self.namespace.meta)}
        return {
            address: self._kept(("servers", address, None), Channel(way))
            for address, way in (await self._route.cluster.primaries()).items()
        }

    async def partitions_default(self) -> int:
        """Return how many partitions are right for the kind of server."""
        return PARTITIONS_CLUSTER if await self.is_cluster() else PARTITIONS

    async def is_cluster(self) -> bool:
        """Whether the keys are spread over the nodes of a cluster."""
        await self._route.settle()
        return self._route.cluster is not None

    async def address(self) -> str | None:
        """Return `host:port` of a server to speak to by hand; None when it is on a socket."""
        await self._route.settle()
        return await self._route.address(self.namespace.meta)

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.drop()
        self._channels.clear()
        await self._route.close()

    def _channel(self, purpose: str = "calls", key: object = None, *, at: str) -> Caller:
        route = self._route
        if not route.is_settled:
            return _Unsettled(self, purpose, key, at)
        shard = slot(at) if route.cluster is not None else None
        channel = self._channels.get((purpose, key, shard))
        if channel is None:
            if purpose == EMITS and self._wait_replicas:
                channel = ConfirmedChannel(route, at, self._wait_replicas)
            else:
                channel = Channel(route, at, is_steady=purpose == FOLLOWS)
            self._kept((purpose, key, shard), channel)
        return channel

    def _kept(self, name: tuple[str, object, int | None], channel: Channel) -> Channel:
        return self._channels.setdefault(name, channel)

    async def _on(self, expected: str, keys: Iterable[str], call: Awaitable[T]) -> T:
        """Await a call on keys of one type; name the one that is of another. Raises TamperedError.

        The server's own error names none, and a script may have met any of its keys.
        """
        try:
            return await call
        except TamperedError:
            for key in keys:
                kind = (await self._channel(at=key).call("TYPE", key)).decode()
                if kind not in (expected, "none"):
                    raise TamperedError(key, kind, expected) from None
            raise


class _Unsettled:
    """A channel that is still to be chosen: it is not known yet what kind of server there is."""

    def __init__(self, board: Channels, purpose: str, key: object, at: str) -> None:
        self._board = board
        self._chosen = (purpose, key)
        self._at = at

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """See Channel."""
        await self._board._route.settle()
        chosen = self._board._channel(*self._chosen, at=self._at)
        return await chosen.call(*command, block_ms=block_ms)


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
        return str(fields_of(flat).get(b"mode", b"").decode())
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
