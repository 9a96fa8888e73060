"""The connections of one process, and the way from a key to the server that has it.

Each purpose has a channel of its own, and on a cluster each slot. The URL leads to one server, to
the primary that sentinels name, or to the nodes of a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from fabric import errors
from fabric.config.settings import PARTITIONS, PARTITIONS_CLUSTER
from fabric.errors import TamperedError
from fabric.store import address, sentinel
from fabric.store.cluster import Cluster, slot
from fabric.store.connection import Caller, Channel, ConfirmedChannel, Server
from fabric.store.keys import Namespace
from fabric.wire.stored import fields_of

#: Purpose of the channel for sending signals.
EMITS: Final = "emits"
#: Purpose of the channel for asking whether replicas have what is written.
CONFIRMS: Final = "confirms"
#: Purpose of the channel on which a worker measures its round trip.
BEATS: Final = "beats"
#: Purpose of the channels for reading on from a place in streams.
FOLLOWS: Final = "follows"

#: Keys read with one request: the hashes of ten sessions. More save little, and the replies to all
#: of them wait in the server's memory at once.
KEYS_AT_ONCE: Final = 100

T = TypeVar("T")


class Channels:
    """The channels of one process to one namespace.

    A blocking read has a channel of its own for each caller (`key`), so that nothing waits behind
    it; commits, and everything else, share one per partition. Signals count as sent only when
    `wait_replicas` replicas have them (see ConfirmedChannel). Every request names a key (`at`): on
    a cluster, that leads to the node.
    """

    def __init__(
        self, url: str, namespace: str = "fabric", *, name: str = "fabric", wait_replicas: int = 0
    ) -> None:
        self.namespace = Namespace(namespace)
        self._wait_replicas = wait_replicas
        self._router = Router(url, name)
        self._channels: dict[tuple[str, object, int | None], Channel] = {}

    async def call(self, *command: Any, at: str | None = None) -> Any:
        """Send any command: for `doctor`, which examines the server itself.

        It goes to the server of the key `at`; without one, to the server of `meta`.
        """
        return await self._channel(at=self.namespace.meta if at is None else at).call(*command)

    async def servers(self) -> dict[str, Caller]:
        """Return a channel to each server that has keys, by address; "" if it is the only one."""
        cluster = await self._router.detect()
        if cluster is None:
            return {"": self._channel(at=self.namespace.meta)}
        return {
            address: self._channels.setdefault(("servers", address, None), Channel(server))
            for address, server in (await cluster.primaries()).items()
        }

    async def sentinels(self) -> list[sentinel.SentinelView]:
        """Return what each sentinel says; nothing without sentinels."""
        return await self._router.sentinels()

    async def role(self, address: str) -> str:
        """Ask the server at `host:port` for its role: master, or slave. Raises as `call` does."""
        server = self._router.server(address)
        try:
            return str((await Channel(server).call("ROLE"))[0].decode())
        finally:
            await server.close()

    def connection(self, partition: int) -> int:
        key = self.namespace.partition(partition).signals
        channel = self._channel(EMITS, at=key)
        return channel.connections if isinstance(channel, Channel) else 0

    async def confirm(self, lease: str) -> None:
        if self._wait_replicas:
            await self._channel(CONFIRMS, at=lease).call("HSET", lease, "asked", 1)

    async def _identity(self, channel: Caller) -> str:
        """Return what tells a server, and its history, from any other; "" if it does not say.

        The first id is another after each start, the second after each promotion.
        """
        try:
            told = await channel.call("INFO")
        except errors.NotAllowedError:
            return ""
        lines = dict(line.partition(b":")[::2] for line in told.splitlines())
        ids = (lines.get(name, b"") for name in (b"run_id", b"master_replid"))
        return b":".join(ids).decode("utf-8", "replace").strip(":")

    async def partitions_default(self) -> int:
        """Return how many partitions are right for the kind of server."""
        return PARTITIONS_CLUSTER if await self.is_cluster() else PARTITIONS

    async def is_cluster(self) -> bool:
        """Whether the keys are spread over the nodes of a cluster."""
        return await self._router.detect() is not None

    async def address(self) -> str | None:
        """Return `host:port` of a server, for use by hand; None when it is on a socket."""
        if (cluster := await self._router.detect()) is not None:
            return await cluster.address(self.namespace.meta)
        return await self._router.primary()

    async def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.drop()
        self._channels.clear()
        await self._router.close()

    def _channel(self, purpose: str = "calls", key: object = None, *, at: str) -> Caller:
        router = self._router
        if not router.is_detected:
            return _UndetectedChannel(self, purpose, key, at)
        shard = slot(at) if router.cluster is not None else None
        channel = self._channels.get((purpose, key, shard))
        if channel is None:
            if purpose in (EMITS, CONFIRMS) and self._wait_replicas:
                channel = ConfirmedChannel(router.routing, at, self._wait_replicas)
            else:
                channel = Channel(router.routing, at, raises_on_reconnect=purpose == FOLLOWS)
            self._channels[purpose, key, shard] = channel
        return channel

    async def _ask(self, expected: str, key: str, *command: Any) -> Any:
        """Send a command about a key of a type. Raises TamperedError if it is of another type."""
        return await self._typed(expected, [key], self._channel(at=key).call(*command))

    async def _ask_each(self, expected: str, keys: Sequence[str], command: str) -> list[Any]:
        """Send a reading command about each key, of one type and one slot; many at a time.

        Raises as `_ask` does.
        """
        found: list[Any] = []
        for first in range(0, len(keys), KEYS_AT_ONCE):
            part = keys[first : first + KEYS_AT_ONCE]
            channel = self._channel(at=part[0])
            if isinstance(channel, _UndetectedChannel):
                await self._router.detect()
                channel = self._channel(at=part[0])
            assert isinstance(channel, Channel), "the kind of server is known"
            replies = await channel.call_all([(command, key) for key in part])
            for key, reply in zip(part, replies, strict=True):
                # Once more by itself: it is then redirected, or its error names the key.
                is_error = isinstance(reply, RedisError)
                found.append(await self._ask(expected, key, command, key) if is_error else reply)
        return found

    async def _typed(self, expected: str, keys: Iterable[str], call: Awaitable[T]) -> T:
        """Await a call on keys of one type. Raises TamperedError, naming a key of another type.

        The server's own error names no key, and a script may have met any of its keys.
        """
        try:
            return await call
        except TamperedError:
            for key in keys:
                kind = (await self._channel(at=key).call("TYPE", key)).decode()
                if kind not in (expected, "none"):
                    raise TamperedError(key, kind, expected) from None
            raise


@dataclass
class _UndetectedChannel:
    """A channel to choose with the first request, when the kind of server is known."""

    channels: Channels
    purpose: str
    key: object
    at: str

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """See Channel."""
        await self.channels._router.detect()
        chosen = self.channels._channel(self.purpose, self.key, at=self.at)
        return await chosen.call(*command, block_ms=block_ms)


class Router:
    """The routing from a URL: to one server, unless `detect` finds that it belongs to a cluster."""

    def __init__(self, url: str, name: str) -> None:
        found = address.parse(url, name)
        self._options = found.options
        self._service = found.service
        self._turn = asyncio.Lock()
        self._sentinels: sentinel.Sentinels | None = None
        #: Whether it is known what kind of server the URL names.
        self.is_detected = bool(found.hosts)
        self.routing: Cluster | Server
        #: The routing again if it is a cluster; None for one server.
        self.cluster: Cluster | None = None
        try:
            if self._service:
                server, self._sentinels = sentinel.primary_server(found)
                self.routing = server
            elif found.hosts:
                seeds = [
                    Server(ConnectionPool(**{**self._options, "host": host, "port": port}))
                    for host, port in found.hosts
                ]
                server = seeds[0]
                self.routing = self.cluster = Cluster(seeds, self._options)
            else:
                self.routing = server = Server(ConnectionPool(**self._options))
            # Connects to nothing yet, but reports at once options that no connection takes.
            connection = server.pool.make_connection()  # type: ignore[no-untyped-call] # the driver's is untyped
            address.check_tls(connection, self._options)
        except (TypeError, ValueError, RedisError):
            raise address.url_error(has_options=True) from None

    async def detect(self) -> Cluster | None:
        """Ask the server, once, whether it belongs to a cluster; return that.

        Raises as Channel.call does, and ConfigError when it is a sentinel.
        """
        async with self._turn:
            if self.is_detected:
                return self.cluster
            channel = Channel(self.routing)
            try:
                mode = await _mode(channel)
            except errors.UnreachableError as error:
                error.never_sent = True  # the caller's own command has not been sent
                raise
            await channel.release()
            if mode == "sentinel":
                raise errors.ConfigError(
                    "the server's URL names a sentinel: write redis+sentinel://host:port/service"
                )
            if mode == "cluster":
                seeds = [await self.routing.server_of("")]
                self.routing = self.cluster = Cluster(seeds, self._options)
            self.is_detected = True
            return self.cluster

    async def sentinels(self) -> list[sentinel.SentinelView]:
        """Return what each sentinel says; nothing without sentinels."""
        found = self._sentinels
        return [] if found is None else await sentinel.views(found, self._service)

    def server(self, address: str) -> Server:
        """Return the server at an address, with the options of the URL; the caller closes it."""
        host, _, port = address.rpartition(":")
        return Server(ConnectionPool(**{**self._options, "host": host, "port": int(port)}))

    async def primary(self) -> str | None:
        """Return `host:port` of the primary that sentinels name; None without sentinels."""
        if self._sentinels is None:
            return None
        return await sentinel.primary(self._sentinels, self._service)

    async def close(self) -> None:
        """Close all connections."""
        await self.routing.close()
        if self._sentinels is not None:
            await self._sentinels.aclose()


async def _mode(channel: Channel) -> str:
    """Return "standalone", "cluster" or "sentinel", as the server reports.

    If the user may not ask, we assume one server. Raises NotAllowedError when the server does not
    let the user in.
    """
    flat = await _reply(channel, "HELLO")
    if flat is not None:
        return str(fields_of(flat).get(b"mode", b"").decode())
    info = await _reply(channel, "INFO", "cluster")  # a proxy, or few permissions
    return "cluster" if b"cluster_enabled:1" in (info or b"") else "standalone"


async def _reply(channel: Channel, *command: str) -> Any:
    """Return the reply, None when the server refuses this question."""
    try:
        return await channel.call(*command)
    except (errors.UnreachableError, errors.UnavailableError):
        raise
    except (errors.ServerError, errors.NotAllowedError):
        if not channel.is_connected:  # it did not let us in
            raise
        return None
