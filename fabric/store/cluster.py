"""Which node of a cluster serves which slot, as the nodes say, and connections to each.

Asked anew when something does not fit: a node that is gone or demoted, a slot that nobody serves. A
slot that has moved is noted from the redirection itself. redis-py has such a map inside a client
that repeats commands and keeps connections of its own; what is needed here is the map alone.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from fabric.errors import FabricError, NotAllowedError, UnavailableError, UnreachableError
from fabric.store.address import Host
from fabric.store.connection import Channel, Way

#: Longest wait for one node to say who serves what, ms: then another one is asked.
NODE_MS_MAX = 1_000


class Fixed:
    """The way to one server, whatever it serves."""

    def __init__(self, way: Way) -> None:
        self._way = way

    async def find(self, place: str) -> Way:
        """See Route."""
        return self._way

    def node(self, address: str) -> Way:
        """See Route."""
        raise UnavailableError(f"server: it sends us to {address}")

    def moved(self, slot: int, address: str) -> None:
        """See Route."""
        raise UnavailableError(f"server: it sends us to {address}")

    def doubt(self) -> None:
        """See Route."""


class Cluster:
    """The nodes of a cluster. `seeds` are asked until one says who the others are."""

    def __init__(self, seeds: list[Way], options: dict[str, Any]) -> None:
        self._seeds = seeds
        self._options = {name: value for name, value in options.items() if name != "path"}
        if "path" in options:  # a node that is reached by its socket names the others by host
            self._options.pop("connection_class")
        self._ways: dict[str, Way] = {}
        self._owners: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        #: All nodes that were named last, and how often any was asked.
        self._nodes: list[str] = []
        self._asked = 0
        self._is_stale = True
        self._turn = asyncio.Lock()

    async def find(self, place: str) -> Way:
        """Return the way to the node that serves a key. Raises UnavailableError when none does."""
        if self._is_stale:
            await self._ask()
        number = slot(place)
        owner = self._owners[number]
        if owner is None:
            self._is_stale = True
            raise UnavailableError(f"server: no node of the cluster serves slot {number}")
        return self.node(owner)

    def node(self, address: str) -> Way:
        """See Route."""
        way = self._ways.get(address)
        if way is None:
            host, _, port = address.rpartition(":")
            options = {**self._options, "host": host, "port": int(port)}
            way = self._ways[address] = Way(ConnectionPool(**options))
        return way

    def moved(self, number: int, address: str) -> None:
        """See Route."""
        self._owners[number] = address

    def doubt(self) -> None:
        """See Route."""
        self._is_stale = True

    async def primaries(self) -> dict[str, Fixed]:
        """Return the way to each node that serves slots, by their first one, as they say now."""
        self._is_stale = True
        await self._ask()
        owners = dict.fromkeys(owner for owner in self._owners if owner is not None)
        return {owner: Fixed(self.node(owner)) for owner in owners}

    async def address(self, place: str) -> str | None:
        """Return `host:port` of the node that serves a key; None when nobody does."""
        if self._is_stale:
            await self._ask()
        return self._owners[slot(place)]

    async def close(self) -> None:
        """Close all connections."""
        for way in (*self._ways.values(), *self._seeds):
            await way.pool.disconnect()

    async def _ask(self) -> None:
        """Learn who serves what, from the first node that answers."""
        async with self._turn:
            if not self._is_stale:  # somebody has asked while we waited
                return
            failure = ""
            for way in [*map(self.node, self._nodes), *self._seeds]:
                try:
                    async with asyncio.timeout(NODE_MS_MAX / 1000):
                        channel = Channel(Fixed(way))
                        rows = await channel.call("CLUSTER", "SLOTS")
                        await channel.give_back()
                except NotAllowedError:
                    raise  # nor would another node let us in
                except (FabricError, TimeoutError) as error:
                    failure = str(error) or "no reply"
                    continue
                self._note(rows, str(way.pool.connection_kwargs.get("host") or "127.0.0.1"))
                return
            raise UnreachableError(f"no node of the cluster answers ({failure})", never_sent=True)

    def _note(self, rows: list[Any], asked: str) -> None:
        owners: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes: dict[str, None] = {}
        for first, last, *serving in rows:
            addresses = [_address(node, asked) for node in serving]
            owners[first : last + 1] = [addresses[0]] * (last + 1 - first)
            nodes |= dict.fromkeys(addresses)
        for lost in {
            before
            for before, after in zip(self._owners, owners, strict=True)
            if before is not None and before != after
        }:
            self.node(lost).changes += 1
        self._owners = owners
        # Another one is asked next: this one may be on the wrong side of a cut.
        named = sorted(nodes)
        self._asked += 1
        start = self._asked % max(len(named), 1)
        self._nodes = named[start:] + named[:start]
        self._is_stale = False


def slot(key: str) -> int:
    """Return the slot of a key: CRC-16 of its hash tag."""
    return key_slot(key.encode())


def seeds(hosts: tuple[Host, ...], options: dict[str, Any]) -> list[Way]:
    """Return the way to each node that is named."""
    return [Way(ConnectionPool(**{**options, "host": host, "port": port})) for host, port in hosts]


def _address(node: list[Any], asked: str) -> str:
    """Return `host:port`; a node that does not know its host, or has "?" for it, is the asked's."""
    host = node[0].decode() if node[0] else ""
    return f"{host if host not in ('', '?') else asked}:{node[1]}"
