"""One connection to a server, used for one request at a time, with nothing retried.

redis-py dials (`route.py` says whom): URL, TLS, authentication. Requests are packed by hiredis and
replies are taken as hiredis parses them, with no per-command conversion: on the hot path that is
half the cost (measured: one EVALSHA of 512 messages packs in 0.16 instead of 0.70 µs a message).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, Protocol

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from fabric.errors import (
    FabricError,
    NotAllowedError,
    ServerError,
    TamperedError,
    UnavailableError,
    UnreachableError,
    UnsupportedServerError,
)

#: Longest wait for a reply beyond the time a command may block, ms. A script of ours takes some ms;
#: a frozen or half-open server is given up after this long.
REPLY_MS_MAX = 5_000

#: Redirections that one request follows: one for a slot that has moved, one more for each that
#: moves meanwhile; nodes that disagree for longer than that are left to come to terms.
REDIRECTS_MAX = 5

#: Errors that may mean that another server is the right one by now: it is to be found anew. The
#: driver's types, which come without their first word, and words where it has no type, or where
#: a script has met the error.
_ELSEWHERE_TYPES = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
)
_ELSEWHERE = frozenset({"READONLY", "UNBLOCKED", "MASTERDOWN", "CLUSTERDOWN"})

#: Errors that end by themselves, or by an operator's hand.
_PASSING_TYPES = (*_ELSEWHERE_TYPES, exceptions.TryAgainError)
_PASSING = _ELSEWHERE | {"NOREPLICAS", "MISCONF", "BUSY", "NOGROUP", "TRYAGAIN"}


class Caller(Protocol):
    """What sends a command and returns its reply, as `Channel.call` does."""

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """See Channel."""


class Way:
    """The way to one server: a pool of connections to it.

    `changes` grows when another one has taken its place in something: connections that were made
    before are not used any more. A frozen server would cost each of them a timeout of its own.
    """

    __slots__ = ("changes", "pool")

    def __init__(self, pool: ConnectionPool) -> None:
        self.pool = pool
        self.changes = 0

    async def connect(self) -> AbstractConnection:
        """Return a connection that is connected and used by nobody."""
        connection: AbstractConnection = await self.pool.get_connection()  # type: ignore[no-untyped-call] # the driver leaves its arguments untyped
        return connection


class Route(Protocol):
    """Where a channel gets its connections from: one server, or the node that has its keys."""

    async def find(self, place: str) -> Way:
        """Return the way to the server that has the key `place`."""

    def node(self, address: str) -> Way:
        """Return the way to the node of a cluster. Raises UnavailableError where none is to be."""

    def moved(self, slot: int, address: str) -> None:
        """Note which node serves a slot now. Raises UnavailableError where none is to be asked."""

    def doubt(self) -> None:
        """Note that what is known of who serves what may no longer be so."""


class Channel:
    """A connection that is dialled when first needed and again after it broke.

    `place` is a key: on a cluster, every command must be on keys of its slot. With `follows`, what
    a node sends elsewhere is sent there; a cursor, say, is worth nothing on another node. One that
    `is_steady` says when another server has taken the place of the one before: who reads on must
    first see whether that has what was read.
    """

    def __init__(
        self, route: Route, place: str = "", *, follows: bool = True, is_steady: bool = False
    ) -> None:
        self._route = route
        self._place = place
        self._follows = follows
        self._is_steady = is_steady
        self._way: Way | None = None
        self._changes = 0
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()

    @property
    def is_connected(self) -> bool:
        """Whether a connection was made, and has not been given up since."""
        return self._connection is not None

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """Send one command and return its reply, as bytes, ints and lists.

        Raises UnreachableError when the connection broke: whether the command took effect is then
        unknown. Raises another ServerError when the server said no.
        """
        async with self._turn:
            sent = False
            try:
                async with asyncio.timeout((REPLY_MS_MAX + block_ms) / 1000):
                    connection, way = self._connection, self._way
                    if (
                        connection is None
                        or way is None
                        or way.changes != self._changes
                        or not connection.is_connected
                    ):
                        was_connected = connection is not None
                        connection = await self._dial()
                        if was_connected and self._is_steady:
                            raise UnavailableError("server: another one has taken its place")
                    sent = True
                    return await self._exchange(connection, command)
            except exceptions.AskError as error:  # MOVED, or ASK: it has not been carried out
                redirection = error
            except (TimeoutError, exceptions.RedisError, OSError) as error:
                raise await self._failure(error, sent=sent) from None
            except FabricError:
                # Too few replicas have it, say: this server's place may be another's by now.
                await self._give_up()
                raise
            except BaseException:
                # Cancelled with a reply under way: the next request must not take it for its own.
                await self.drop()
                raise
            return await self._follow(redirection, command, block_ms)

    async def drop(self) -> None:
        """Close the connection; what was under way on it is lost."""
        way, connection = self._way, self._connection
        self._way = self._connection = None
        if way is not None and connection is not None:
            await connection.disconnect(nowait=True)
            await way.pool.release(connection)

    async def give_back(self) -> None:
        """Leave the connection, in good order, to whoever next needs one."""
        way, connection = self._way, self._connection
        self._way = self._connection = None
        if way is not None and connection is not None:
            await way.pool.release(connection)

    async def _exchange(self, connection: AbstractConnection, command: tuple[Any, ...]) -> Any:
        await connection.send_packed_command([hiredis.pack_command(command)], check_health=False)
        return await connection.read_response(disable_decoding=True)

    async def _dial(self) -> AbstractConnection:
        await self.drop()
        way = await self._route.find(self._place)
        connection = await way.connect()
        self._way, self._connection, self._changes = way, connection, way.changes
        return connection

    async def _follow(
        self, redirection: exceptions.AskError, command: tuple[Any, ...], block_ms: int
    ) -> Any:
        """Send a command to the node that was named instead: it took no effect where it was."""
        for _ in range(REDIRECTS_MAX):
            has_moved = isinstance(redirection, exceptions.MovedError)
            address = f"{redirection.host or self._host()}:{redirection.port}"
            if has_moved:
                self._route.moved(redirection.slot_id, address)
            if not self._follows:
                break
            sent = False
            try:
                async with asyncio.timeout((REPLY_MS_MAX + block_ms) / 1000):
                    if not has_moved:
                        return await self._ask(address, command)
                    connection = await self._dial()
                    sent = True
                    return await self._exchange(connection, command)
            except exceptions.AskError as error:
                redirection = error
            except (TimeoutError, exceptions.RedisError, OSError) as error:
                raise await self._failure(error, sent=sent) from None
            except FabricError:
                await self._give_up()
                raise
            except BaseException:
                await self.drop()
                raise
        raise UnavailableError(f"server: slot {redirection.slot_id} is moving to another node")

    async def _ask(self, address: str, command: tuple[Any, ...]) -> Any:
        """Send a command, this once, to the node that a slot is moving to."""
        way = self._route.node(address)
        connection = await way.connect()
        try:
            asking = hiredis.pack_command(("ASKING",))
            await connection.send_packed_command([asking], check_health=False)
            await connection.read_response(disable_decoding=True)
            return await self._exchange(connection, command)
        except (exceptions.ResponseError, FabricError):
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await way.pool.release(connection)

    async def _failure(self, error: Exception, *, sent: bool) -> FabricError:
        """Return the error to raise; drop the connection when it is not to be used any more."""
        failure = translate(error)
        if isinstance(failure, UnreachableError):
            failure.never_sent = not sent
        if isinstance(error, exceptions.ResponseError) and not _is_elsewhere(error):
            return failure
        await self._give_up()
        return failure

    async def _give_up(self) -> None:
        """Have the server found anew by the next request."""
        await self.drop()
        self._route.doubt()

    def _host(self) -> str:
        """Return the host that is connected to: a node that names none means its own."""
        return str(getattr(self._connection, "host", "") or "127.0.0.1")


class NoScriptError(ServerError):
    """The server's script cache does not hold a script: a restart or a failover emptied it."""

    code = "NOSCRIPT"


#: What Redis 6.2 puts before an error that a script has met.
_MET_IN_SCRIPT = re.compile(r"Error running script \(call to \w+\): (@user_script: ?\d+: )*-?")


def _is_elsewhere(error: exceptions.ResponseError) -> bool:
    """Whether an error may mean that the server is no longer the right one."""
    word = _MET_IN_SCRIPT.sub("", str(error), count=1).split(" ", 1)[0]
    return word in _ELSEWHERE or isinstance(error, _ELSEWHERE_TYPES)


def translate(error: Exception) -> FabricError:
    """Turn a driver's error into ours. Never repeats what was sent: it may hold secrets."""
    if error.args and isinstance(error.args[0], exceptions.RedisError):
        # The driver wraps what went wrong while it dialled.
        error = error.args[0]
    text = _MET_IN_SCRIPT.sub("", str(error), count=1)
    word = text.split(" ", 1)[0].rstrip(":")
    if isinstance(error, exceptions.NoScriptError):
        return NoScriptError()
    if isinstance(error, _PASSING_TYPES):
        return UnavailableError(f"server: {text[:200]}")
    if isinstance(error, exceptions.OutOfMemoryError) or word == "OOM":
        return UnavailableError("server: out of memory (maxmemory reached); free some, then go on")
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError) or word in (
        "NOAUTH",
        "WRONGPASS",
        "NOPERM",
    ):
        return NotAllowedError("server: user name, password or permissions (ACL) are not accepted")
    if isinstance(error, exceptions.ResponseError):
        if "WRONGTYPE" in text[:80]:
            return TamperedError("of the fabric", "value of another type", "type of its own")
        if word in _PASSING or "-OOM" in text or "NOGROUP" in text[:80]:
            return UnavailableError(f"server: {text[:200]}")
        if "unknown command" in text[:80].lower() or "Unknown Redis command" in text[:120]:
            return UnsupportedServerError(f"server lacks a command the fabric needs: {text[:120]}")
        return ServerError(f"server: {text[:200]}")
    if isinstance(error, asyncio.TimeoutError | TimeoutError | exceptions.TimeoutError):
        return UnreachableError(f"server: no reply within {REPLY_MS_MAX} ms")
    return UnreachableError(f"server: connection failed ({text[:200] or type(error).__name__})")


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
