"""Signals that count as sent only when enough replicas have them (redis.io, "WAIT")."""

from __future__ import annotations

from typing import Any, Final

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from fabric.errors import UnavailableError
from fabric.store.connection import Channel, Route

#: Longest wait for replicas to say that they have what was sent, ms. Healthy ones take a round
#: trip; one that is gone is known to the primary only after a timeout of its own.
WAIT_MS_MAX: Final = 1_000


class ConfirmedChannel(Channel):
    """A channel for `emit` that asks with every request how many replicas have it.

    In the same round trip, on the same connection: WAIT speaks of what that connection wrote. It is
    not consensus: a replica that has the signal need not be the one that is promoted, and the
    primary keeps what too few have. It makes a loss in a failover unlikely, and tells the emitter.
    """

    def __init__(self, route: Route, place: str, replicas: int) -> None:
        super().__init__(route, place)
        self._replicas = replicas
        waiting: tuple[Any, ...] = ("WAIT", replicas, WAIT_MS_MAX)
        self._wait = hiredis.pack_command(waiting)

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """See Channel. Raises UnavailableError (`took_effect`) when too few replicas have it."""
        return await super().call(*command, block_ms=block_ms + WAIT_MS_MAX)

    async def _exchange(self, connection: AbstractConnection, command: tuple[Any, ...]) -> Any:
        packed = [hiredis.pack_command(command), self._wait]
        await connection.send_packed_command(packed, check_health=False)
        try:
            reply = await connection.read_response(disable_decoding=True)
        except exceptions.ResponseError:
            await self._count(connection)
            raise
        count = await self._count(connection)
        if reply[:1] == [b"emitted"] and (count is None or count < self._replicas):
            known = "nobody knows on how many" if count is None else f"on {count}"
            raise UnavailableError(
                f"in the ingress, but {known} of {self._replicas} replicas (wait_replicas)",
                took_effect=True,
            )
        return reply

    async def _count(self, connection: AbstractConnection) -> int | None:
        """Return how many replicas have it; None when the server stopped being a primary."""
        try:
            return int(await connection.read_response(disable_decoding=True))
        except exceptions.ResponseError:
            return None
