"""Which node of a cluster serves which slot, and connections to each node.

The nodes are asked again when something does not fit: a node is gone or demoted, or no node serves
a slot. A redirection itself says where a slot has moved. redis-py has such a table too, but inside
a client that repeats commands and keeps connections of its own; we need the table alone.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from fabric.errors import FabricError, NotAllowedError, UnavailableError, UnreachableError
from fabric.store.connection import Channel, Server

#: Longest wait for one node to report the slots, ms: then we ask another one.
NODE_MS_MAX = 1_000


class Cluster:
    """The routing to a cluster's nodes. We ask `seeds` until one says which nodes there are."""

    def __init__(self, seeds: list[Server], options: dict[str, Any]) -> None:
        self._seeds = seeds
        self._options = {name: value for name, value in options.items() if name != "path"}
        if "path" in options:  # a node on a socket names the others by host
            self._options.pop("connection_class")
        self._servers: dict[str, Server] = {}
        self._owners: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        #: All nodes named in the last answer, and how many answers there were.
        self._nodes: list[str] = []
        self._answers = 0
        self._is_stale = True
        self._turn = asyncio.Lock()

    async def server_of(self, key: str) -> Server:
        """Return the node that serves a key. Raises UnavailableError when none does."""
        if self._is_stale:
            await self._refresh()
        number = slot(key)
        owner = self._owners[number]
        if owner is None:
            self._is_stale = True
            raise UnavailableError(f"server: no node of the cluster serves slot {number}")
        return self.server_at(owner)

    def server_at(self, address: str) -> Server:
        server = self._servers.get(address)
        if server is None:
            host, _, port = address.rpartition(":")
            options = {**self._options, "host": host, "port": int(port)}
            server = self._servers[address] = Server(ConnectionPool(**options))
        return server

    def moved(self, number: int, address: str) -> None:
        self._owners[number] = address

    def mark_stale(self) -> None:
        self._is_stale = True

    async def primaries(self) -> dict[str, Server]:
        """Ask the nodes, and return each that serves slots, by address, in the order of slots."""
        self._is_stale = True
        await self._refresh()
        owners = dict.fromkeys(owner for owner in self._owners if owner is not None)
        return {owner: self.server_at(owner) for owner in owners}

    async def address(self, key: str) -> str | None:
        """Return `host:port` of the node that serves a key; None when no node does."""
        if self._is_stale:
            await self._refresh()
        return self._owners[slot(key)]

    async def close(self) -> None:
        """Close all connections."""
        for server in (*self._servers.values(), *self._seeds):
            await server.pool.disconnect()

    async def _refresh(self) -> None:
        """Read the slots from the first node that answers."""
        async with self._turn:
            if not self._is_stale:  # another request has asked while we waited
                return
            failure = ""
            for server in [*map(self.server_at, self._nodes), *self._seeds]:
                try:
                    async with asyncio.timeout(NODE_MS_MAX / 1000):
                        channel = Channel(server)
                        rows = await channel.call("CLUSTER", "SLOTS")
                        await channel.release()
                except NotAllowedError:
                    raise  # another node would not let us in either
                except (FabricError, TimeoutError) as error:
                    failure = str(error) or "no reply"
                    continue
                self._note(rows, str(server.pool.connection_kwargs.get("host") or "127.0.0.1"))
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
            self.server_at(lost).generation += 1
        self._owners = owners
        # Next time we ask another node: this one may be on the wrong side of a network partition.
        named = sorted(nodes)
        self._answers += 1
        start = self._answers % max(len(named), 1)
        self._nodes = named[start:] + named[:start]
        self._is_stale = False


def slot(key: str) -> int:
    """Return the slot of a key: CRC-16 of its hash tag."""
    return key_slot(key.encode())


def _address(node: list[Any], asked: str) -> str:
    """Return `host:port`. A node that does not know its host, or says "?", is on the asked one."""
    host = node[0].decode() if node[0] else ""
    return f"{host if host not in ('', '?') else asked}:{node[1]}"
