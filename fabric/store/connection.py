"""One connection to a server, used for one request at a time, without retries.

redis-py makes the connection: URL, TLS, authentication (`channels.py` says to which server).
`exchange.py` sends and receives on it. hiredis packs requests, without the driver's conversion per
command (measured: packing one EVALSHA of 512 messages takes 0.16 instead of 0.70 µs a message).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from fabric import errors
from fabric.errors import (
    ExhaustedError,
    FabricError,
    NotAllowedError,
    ServerError,
    UnavailableError,
    UnreachableError,
)
from fabric.store.exchange import Exchange

#: Longest wait for a reply beyond the time a command may block, ms. Our scripts take some ms; after
#: this long we give up a frozen or half-open server.
REPLY_MS_MAX = 5_000

#: Redirections that one request follows: one for a slot that has moved, and one more for each time
#: it moves meanwhile. Nodes that disagree for longer need time to settle.
REDIRECTS_MAX = 5

#: Longest wait for replicas to confirm a signal, ms. Healthy ones take a round trip; the primary
#: notices a lost one only after a timeout of its own.
WAIT_MS_MAX: Final = 1_000

#: Errors after which the server must be located again: the driver's types, which come without the
#: first word of the error, and words where it has no type or where a script met the error.
_REROUTE_TYPES = (
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
)
_REROUTE_WORDS = frozenset({"READONLY", "UNBLOCKED", "MASTERDOWN", "CLUSTERDOWN"})

#: Errors that end by themselves, or when an operator acts.
_TRANSIENT_TYPES = (*_REROUTE_TYPES, exceptions.TryAgainError)
_TRANSIENT_WORDS = _REROUTE_WORDS | {"NOREPLICAS", "MISCONF", "BUSY", "NOGROUP", "TRYAGAIN"}


class Caller(Protocol):
    """Anything that sends a command and returns its reply, as `Channel.call` does."""

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """See Channel."""


@dataclass(slots=True)
class OnConnection:
    """A channel for as long as it has one connection: raises ReconnectedError on any other."""

    channel: Channel
    number: int

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """See Channel."""
        return await self.channel.call(*command, block_ms=block_ms, connection=self.number)


@dataclass(eq=False, slots=True)
class Server:
    """One server, as a pool of connections to it; and the routing to it, whatever the key.

    `generation` grows when another server takes over a part of its work. Channels then drop their
    connections to it: if it is frozen, each of them would cost a timeout.
    """

    pool: ConnectionPool
    generation: int = 0

    async def connect(self) -> AbstractConnection:
        """Return an open connection that nobody else uses."""
        connection: AbstractConnection = await self.pool.get_connection()  # type: ignore[no-untyped-call] # the driver leaves its arguments untyped
        return connection

    async def server_of(self, key: str) -> Server:
        return self

    def server_at(self, address: str) -> Server:
        raise UnavailableError(f"server: it sends us to {address}")

    def moved(self, slot: int, address: str) -> None:
        self.server_at(address)

    def mark_stale(self) -> None:
        """Do nothing: the server is always this one."""

    async def close(self) -> None:
        """Close all connections."""
        await self.pool.disconnect()


class Routing(Protocol):
    """Where a channel gets its connections from: one server, or the node that has its keys."""

    async def server_of(self, key: str) -> Server:
        """Return the server that has a key."""

    def server_at(self, address: str) -> Server:
        """Return a node of the cluster. Raises UnavailableError if this is no cluster."""

    def moved(self, slot: int, address: str) -> None:
        """Note which node serves a slot now. Raises UnavailableError if this is no cluster."""

    def mark_stale(self) -> None:
        """Mark the routing table stale."""


class Channel:
    """A connection that is made when first needed, and again after it broke.

    `key`: on a cluster, every command must be on keys of its slot. With `follows_redirects`, a
    request goes to the node that another one names; without, it fails (a cursor is worth nothing on
    another node). With `raises_on_reconnect`, the request that finds the connection broken, or its
    server replaced, fails: a reader must first check whether the new server has what it had read.
    """

    def __init__(
        self,
        routing: Routing,
        key: str = "",
        *,
        follows_redirects: bool = True,
        raises_on_reconnect: bool = False,
    ) -> None:
        self._routing = routing
        self._key = key
        self._follows_redirects = follows_redirects
        self._raises_on_reconnect = raises_on_reconnect
        self._server: Server | None = None
        self._generation = 0
        self._connection: AbstractConnection | None = None
        self._exchange: Exchange | None = None
        self._turn = asyncio.Lock()
        #: How many connections were made so far: the number of the present one.
        self.connections = 0

    @property
    def is_connected(self) -> bool:
        """Whether a connection was made that has not been closed since, by us or the server."""
        return self._exchange is not None and self._exchange.is_open

    async def call(self, *command: Any, block_ms: int = 0, connection: int | None = None) -> Any:
        """Send one command and return its reply, as bytes, ints and lists.

        Raises UnreachableError when the connection broke: it is then unknown whether the command
        took effect. Raises another ServerError when the server refused. With the number of a
        `connection`, raises ReconnectedError instead of sending on another one.
        """
        redirection: exceptions.AskError | None = None
        address = ""
        limit_s = (REPLY_MS_MAX + block_ms) / 1000
        async with self._turn:
            for _ in range(1 + REDIRECTS_MAX):
                sent = False
                try:
                    if redirection is None:
                        exchange = self._ready() or await self._open()
                        if connection not in (None, self.connections):
                            raise _reconnected()
                    elif isinstance(redirection, exceptions.MovedError):
                        exchange = await self._open(is_first=True)
                    else:
                        sent = True
                        return await self._ask(address, command, limit_s)
                    sent = True
                    return await self._request(exchange, command, limit_s)
                except exceptions.AskError as error:  # MOVED or ASK: the command had no effect
                    redirection = error
                    address = self._redirect(error)
                    if not self._follows_redirects:
                        break
                except (TimeoutError, exceptions.RedisError, OSError) as error:
                    raise await self._failure(error, sent=sent) from None
                except errors.ReconnectedError:
                    raise
                except FabricError:
                    # Too few replicas confirmed, say: another server may have taken over.
                    await self._reset()
                    raise
                except BaseException:
                    # Cancelled while a reply is due: the next request must not take it for its own.
                    await self.drop()
                    raise
        assert redirection is not None
        raise UnavailableError(f"server: slot {redirection.slot_id} is moving to another node")

    async def call_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send several commands at once, and return their replies; an error is one like others.

        Raises as `call` does when the connection breaks. What was refused or redirected is for the
        caller to send again: use it for reads only.
        """
        packed = b"".join(map(hiredis.pack_command, commands))
        async with self._turn:
            sent = False
            try:
                exchange = self._ready() or await self._open()
                sent = True
                return await exchange.request(packed, REPLY_MS_MAX / 1000, len(commands))
            except (TimeoutError, exceptions.RedisError, OSError) as error:
                raise await self._failure(error, sent=sent) from None
            except BaseException:
                await self.drop()
                raise

    async def drop(self) -> None:
        """Close the connection; a reply that is due on it is lost."""
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        await self.release()

    async def release(self) -> None:
        """Return the connection to its pool, open."""
        server, connection, exchange = self._server, self._connection, self._exchange
        self._server = self._connection = self._exchange = None
        if exchange is not None:
            exchange.give_back()
        if server is not None and connection is not None:
            await server.pool.release(connection)

    async def _request(self, exchange: Exchange, command: tuple[Any, ...], limit_s: float) -> Any:
        return _checked((await exchange.request(hiredis.pack_command(command), limit_s))[0])

    def _ready(self) -> Exchange | None:
        """Return the exchange if it is open, and its server still the right one."""
        exchange, server = self._exchange, self._server
        if exchange is None or server is None or not exchange.is_open:
            return None
        return exchange if server.generation == self._generation else None

    async def _open(self, *, is_first: bool = False) -> Exchange:
        """Connect. Raises ReconnectedError instead, when a reader must hear of it."""
        is_first = is_first or self._connection is None
        await self.drop()
        async with asyncio.timeout(REPLY_MS_MAX / 1000):
            server = await self._routing.server_of(self._key)
            connection = await server.connect()
        self._server, self._connection = server, connection
        self._generation = server.generation
        self._exchange = Exchange(connection)
        self.connections += 1
        if self._raises_on_reconnect and not is_first:
            raise _reconnected()
        return self._exchange

    def _redirect(self, redirection: exceptions.AskError) -> str:
        """Note where a slot has moved to, and return the address of the node that was named."""
        # A node that names no host means its own.
        host = redirection.host or getattr(self._connection, "host", "") or "127.0.0.1"
        address = f"{host}:{redirection.port}"
        if isinstance(redirection, exceptions.MovedError):
            self._routing.moved(redirection.slot_id, address)
        return address

    async def _ask(self, address: str, command: tuple[Any, ...], limit_s: float) -> Any:
        """Send a command, this once, to the node that a slot is moving to."""
        server = self._routing.server_at(address)
        async with asyncio.timeout(REPLY_MS_MAX / 1000):
            connection = await server.connect()
        exchange = Exchange(connection)
        try:
            await exchange.request(hiredis.pack_command(("ASKING",)), limit_s)
            return await self._request(exchange, command, limit_s)
        except (exceptions.ResponseError, FabricError):
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            exchange.give_back()
            await server.pool.release(connection)

    async def _failure(self, error: Exception, *, sent: bool) -> FabricError:
        """Return the error to raise; drop the connection when it must not be used any more."""
        failure = translate(error)
        if isinstance(failure, UnreachableError):
            failure.never_sent = not sent
        if not isinstance(error, exceptions.ResponseError) or _needs_reroute(error):
            await self._reset()
        return failure

    async def _reset(self) -> None:
        """Drop the connection, and have the next request locate the server again."""
        await self.drop()
        self._routing.mark_stale()


def _reconnected() -> errors.ReconnectedError:
    return errors.ReconnectedError("server: reconnected, another one may have taken its place")


def _checked(reply: Any) -> Any:
    """Return a reply; raise it when it is an error."""
    if isinstance(reply, exceptions.RedisError):
        raise reply
    return reply


class ConfirmedChannel(Channel):
    """A channel that asks with every request how many replicas have what it writes.

    It sends WAIT in the same round trip, on the same connection, because WAIT counts what that
    connection wrote (redis.io, "WAIT"). This is not consensus: a replica that has the signal need
    not be the one that is promoted, and the primary keeps what too few have. It makes a loss in a
    failover unlikely, and tells the emitter.
    """

    def __init__(self, routing: Routing, key: str, replicas: int) -> None:
        super().__init__(routing, key)
        self._replicas = replicas
        waiting: tuple[Any, ...] = ("WAIT", replicas, WAIT_MS_MAX)
        self._wait = hiredis.pack_command(waiting)

    async def call(self, *command: Any, block_ms: int = 0, connection: int | None = None) -> Any:
        """See Channel. Raises UnavailableError (`took_effect`) when too few replicas confirm."""
        limit_ms = block_ms + WAIT_MS_MAX
        return await super().call(*command, block_ms=limit_ms, connection=connection)

    async def _request(self, exchange: Exchange, command: tuple[Any, ...], limit_s: float) -> Any:
        packed = hiredis.pack_command(command) + self._wait
        reply, count = await exchange.request(packed, limit_s, 2)
        _checked(reply)
        refusal = translate(count) if isinstance(count, exceptions.RedisError) else None
        if isinstance(refusal, DeniedError):  # each time
            raise DeniedError("the command WAIT, which the setting wait_replicas needs", "+wait")
        if isinstance(refusal, errors.UnsupportedServerError):
            raise errors.UnsupportedServerError(
                "server lacks the command WAIT, which the setting wait_replicas needs: set it to 0"
            )
        # Another error may mean that the server stopped being a primary.
        is_written = not isinstance(reply, list) or reply[:1] == [b"emitted"]
        if is_written and (refusal is not None or count < self._replicas):
            known = f"on {count}" if refusal is None else "nobody knows on how many"
            why = "" if refusal is None else f": WAIT was refused ({refusal})"
            raise UnavailableError(
                f"written, but {known} of {self._replicas} replicas (wait_replicas){why}",
                took_effect=True,
            )
        return reply


class NoScriptError(ServerError):
    """The server's script cache does not hold a script: a restart or a failover emptied it."""

    code = "NOSCRIPT"


class DeniedError(NotAllowedError):
    """The server's user lacks the permission for `what`, which the ACL rules `rules` give.

    `line`: of the script that met it; 0 if it does not say, None if no script did. `is_key`: for a
    key, not for a command.
    """

    def __init__(
        self, what: str, rules: str, *, line: int | None = None, is_key: bool = False
    ) -> None:
        self.line = line
        self.is_key = is_key
        advice = f": allow it with ACL SETUSER … {rules}" if rules else " (ACL LOG names it)"
        super().__init__(f"server: the user has no permission for {what}{advice}")


#: What Redis 6.2 puts before an error that a script has met; less before one that it returns.
_MET_IN_SCRIPT = re.compile(
    r"^(?:Error running script \(call to \w+\): )?(?:@user_script: ?\d+: )*-?"
)

#: Where a script has met an error: its line.
_LINE = re.compile(r"@user_script: ?(\d+)")

#: What servers add to "unknown command": the arguments, and so perhaps a password or a payload.
_WHAT_WAS_SENT = re.compile(r",? with args beginning with:.*", re.DOTALL)

#: How servers say that the user may not run a command, or use a key; in a script, some do not say
#: which command.
_NO_PERMISSION = re.compile(
    r"no permissions? to (?:run the '([^']{1,40})' command|(access))"
    r"|executing the script can't (?:run this command|(access))",
    re.IGNORECASE,
)


#: How servers say that a stream takes no entry under the next id, or under the one given.
_NO_FREE_ID = re.compile(r"exhausted the last possible ID|equal or smaller than the target stream")


def _needs_reroute(error: exceptions.ResponseError) -> bool:
    """Whether an error may mean that another server is the right one now."""
    word = _MET_IN_SCRIPT.sub("", str(error), count=1).split(" ", 1)[0]
    return word in _REROUTE_WORDS or isinstance(error, _REROUTE_TYPES)


def _denied(text: str) -> DeniedError | None:
    found = _NO_PERMISSION.search(text)
    if found is None:
        return None
    if found[2] or found[3]:
        return DeniedError("a key of the fabric", "~fabric:*", is_key=True)
    at = _LINE.search(text)
    is_unplaced = "failure in script:" in text or "executing the script" in text
    line = int(at[1]) if at else 0 if is_unplaced else None
    if found[1]:
        return DeniedError(f"the command {found[1].upper()}", f"+{found[1].lower()}", line=line)
    return DeniedError("a command of a script", "", line=line)


def translate(error: Exception) -> FabricError:
    """Turn a driver's error into ours. Never repeats what was sent, which may hold secrets."""
    if error.args and isinstance(error.args[0], exceptions.RedisError):
        # The driver wraps an error that it met while it connected.
        error = error.args[0]
    if (denied := _denied(str(error)[:400])) is not None:
        return denied
    text = _WHAT_WAS_SENT.sub("", _MET_IN_SCRIPT.sub("", str(error), count=1))
    word = text.split(" ", 1)[0].rstrip(":")
    if isinstance(error, exceptions.NoScriptError):
        return NoScriptError()
    if isinstance(error, _TRANSIENT_TYPES):
        return UnavailableError(f"server: {text[:200]}")
    if isinstance(error, exceptions.OutOfMemoryError) or word == "OOM":
        return UnavailableError("server: out of memory (maxmemory reached): free some of it")
    if isinstance(error, exceptions.NoPermissionError):
        return DeniedError("something that was sent", "")
    if isinstance(error, exceptions.AuthenticationError) or word in ("NOAUTH", "WRONGPASS"):
        return NotAllowedError(
            "server: the user name or the password is not accepted: check FABRIC_REDIS_URL"
        )
    if isinstance(error, exceptions.ResponseError):
        if "WRONGTYPE" in text[:80]:
            return errors.TamperedError("of the fabric", "value of another type", "type of its own")
        if _NO_FREE_ID.search(text[:200]):
            return ExhaustedError("of the fabric")
        if word in _TRANSIENT_WORDS or "-OOM" in text or "NOGROUP" in text[:80]:
            return UnavailableError(f"server: {text[:200]}")
        if "unknown command" in text[:80].lower() or "Unknown Redis command" in text[:120]:
            return errors.UnsupportedServerError(
                f"server lacks a command the fabric needs: {text[:120]}"
            )
        return ServerError(f"server: {text[:200]}")
    if isinstance(error, asyncio.TimeoutError | TimeoutError | exceptions.TimeoutError):
        return UnreachableError(f"server: no reply within {REPLY_MS_MAX} ms")
    return UnreachableError(f"server: connection failed ({text[:200] or type(error).__name__})")
