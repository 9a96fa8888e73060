"""Which connection a request goes over: one for each purpose, and on a cluster for each slot."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Final, TypeVar

from fabric.config.defaults import PARTITIONS, PARTITIONS_CLUSTER
from fabric.errors import TamperedError
from fabric.store.cluster import slot
from fabric.store.connection import Caller, Channel
from fabric.store.keys import Namespace
from fabric.store.replication import ConfirmedChannel
from fabric.store.route import Route

#: Purpose of the channel that signals are sent over.
EMITS: Final = "emits"
#: Reading on from a place in streams.
FOLLOWS: Final = "follows"

T = TypeVar("T")


class Switchboard:
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

    def __init__(self, board: Switchboard, purpose: str, key: object, at: str) -> None:
        self._board = board
        self._chosen = (purpose, key)
        self._at = at

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """See Channel."""
        await self._board._route.settle()
        chosen = self._board._channel(*self._chosen, at=self._at)
        return await chosen.call(*command, block_ms=block_ms)
