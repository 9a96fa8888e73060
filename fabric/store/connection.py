"""One connection to the server, used for one request at a time, with nothing retried.

redis-py dials: URL, TLS, authentication. Requests are packed by hiredis and replies are
taken as hiredis parses them, with no per-command conversion: on the hot path that is half the cost
(measured: one EVALSHA of 512 messages packs in 0.16 instead of 0.70 µs a message).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fabric.errors import (
    ConfigError,
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

#: Longest wait for a connection, ms.
CONNECT_MS_MAX = 5_000

#: Connections of one process: a process with thousands of agents has one to follow each inbox, and
#: the server's own limit (maxclients, 10,000 by default) is the one that counts.
CONNECTIONS_MAX = 20_000

#: Bytes asked of the socket at a time: a batch of 512 signals is some 200 KB.
_READ_BYTES = 1 << 18

#: Options that a URL may have (`?db=2&ssl_ca_certs=…`). Of the driver's others, some are ours to
#: set, and on some it fails when it dials, with errors that nobody here looks for.
_URL_OPTIONS = frozenset(
    {"db", "username", "password", "socket_keepalive", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"}
    | {"ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname"}
    | {"ssl_ciphers", "ssl_min_version"}
)

#: First words of error replies that end by themselves, or by an operator's hand.
_PASSING = frozenset(
    {
        "LOADING", "READONLY", "OOM", "NOREPLICAS", "MASTERDOWN", "MISCONF", "BUSY",
        "CLUSTERDOWN", "TRYAGAIN", "NOGROUP", "UNBLOCKED",
    }
)  # fmt: skip


def pool(url: str, name: str) -> ConnectionPool:
    """Return a pool for a URL (redis://, rediss://, unix://): no retries, RESP2, bytes.

    Raises ConfigError when the URL cannot be read.
    """
    try:
        unknown = parse_qs(urlsplit(url).query).keys() - _URL_OPTIONS
        if unknown:
            raise ValueError("an option that is not ours to pass on")
        made = ConnectionPool.from_url(
            url,
            client_name=name,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=CONNECT_MS_MAX / 1000,
            socket_read_size=_READ_BYTES,
            max_connections=CONNECTIONS_MAX,
            health_check_interval=0,
            decode_responses=False,
        )
        # What the driver refuses when it makes a connection, it refuses now; nothing is dialled.
        made.connection_class(**made.connection_kwargs)
    except (ValueError, TypeError, exceptions.RedisError):
        # The driver's own words may repeat a part of the URL, which may be one of the password.
        raise ConfigError(
            "the server's URL cannot be read: write redis://[user:password@]host[:port][/db], "
            "rediss://… or unix://…/redis.sock; in a password, %-encode what is no letter or "
            f"digit; the options that it may have are {', '.join(sorted(_URL_OPTIONS))}"
        ) from None
    return made


class Channel:
    """A connection that is dialled when first needed and again after it broke."""

    def __init__(self, source: ConnectionPool) -> None:
        self._pool = source
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()

    async def call(self, *command: Any, block_ms: int = 0) -> Any:
        """Send one command and return its reply, as bytes, ints and lists.

        Raises UnreachableError when the connection broke: whether the command took effect is then
        unknown. Raises another ServerError when the server said no.
        """
        async with self._turn:
            sent = False
            try:
                async with asyncio.timeout((REPLY_MS_MAX + block_ms) / 1000):
                    connection = self._connection
                    if connection is None or not connection.is_connected:
                        connection = self._connection = await self._dial()
                    sent = True
                    await connection.send_packed_command(
                        [hiredis.pack_command(command)], check_health=False
                    )
                    return await connection.read_response(disable_decoding=True)
            except exceptions.ResponseError as error:
                raise translate(error) from None
            except (TimeoutError, exceptions.RedisError, OSError) as error:
                await self.drop()
                failure = translate(error)
                if isinstance(failure, UnreachableError):
                    failure.never_sent = not sent
                raise failure from None
            except BaseException:
                # Cancelled with a reply under way: the next request must not take it for its own.
                await self.drop()
                raise

    async def drop(self) -> None:
        """Close the connection; what was under way on it is lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _dial(self) -> AbstractConnection:
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call] # the driver leaves its arguments untyped
        return connection


class NoScriptError(ServerError):
    """The server's script cache does not hold a script: a restart or a failover emptied it."""

    code = "NOSCRIPT"


#: What Redis 6.2 puts before an error that a script has met.
_MET_IN_SCRIPT = re.compile(r"Error running script \(call to \w+\): (@user_script: ?\d+: )*-?")


def translate(error: Exception) -> FabricError:
    """Turn a driver's error into ours. Never repeats what was sent: it may hold secrets."""
    if error.args and isinstance(error.args[0], exceptions.RedisError):
        # The driver wraps what went wrong while it dialled.
        error = error.args[0]
    text = _MET_IN_SCRIPT.sub("", str(error), count=1)
    word = text.split(" ", 1)[0].rstrip(":")
    if isinstance(error, exceptions.NoScriptError):
        return NoScriptError()
    if isinstance(error, exceptions.BusyLoadingError | exceptions.ReadOnlyError):
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
