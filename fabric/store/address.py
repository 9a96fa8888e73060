"""A server's URL: one server, sentinels that know a primary, or nodes of a cluster."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from fabric.errors import ConfigError

#: Longest wait for a connection, ms.
CONNECT_MS_MAX = 5_000

#: Connections of one process. A process with thousands of agents has one to follow each inbox; the
#: server's own limit (maxclients, 10,000 by default) is the one that matters.
CONNECTIONS_MAX = 20_000

#: Bytes to read from the socket at a time: a batch of 512 signals is some 200 KB.
_READ_BYTES = 1 << 18

#: Ports to use where a URL with several hosts names none, by the word after the `+`.
_PORTS: Final = {"cluster": 6379, "sentinel": 26379}
_PORT_MAX: Final = 65_535

#: One of several hosts: a name or an address (IPv6 in brackets), and perhaps a port.
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^][\s:/?#@]+))(?::([0-9]{1,5}))?")

#: Prefix of the URL's options for the sentinels alone: `sentinel_password`.
_SENTINEL_OPTION: Final = "sentinel_"

#: Options that a URL may have (`?db=2&ssl_ca_certs=…`). Of the driver's other options, we set some
#: ourselves; on some the driver fails when it connects, with errors that we do not handle.
_URL_OPTIONS: Final = frozenset(
    {"db", "username", "password", "socket_keepalive", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"}
    | {"ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname"}
    | {"ssl_ciphers", "ssl_min_version", "sentinel_username", "sentinel_password"}
)

#: Those of them that name a file or a folder.
_PATH_OPTIONS: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

#: The number of a database, or none; a slash may end it.
_DATABASE: Final = re.compile(r"(?:[0-9]{1,9}/?)?")

Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. `options` are for connections to a server that has the data."""

    options: dict[str, Any]
    #: Sentinels if there is a `service`, else the nodes of a cluster to ask first; none if the URL
    #: names one server, which may be a node of a cluster: it knows that itself.
    hosts: tuple[Host, ...] = ()
    #: The sentinels' name for the primary, and the options of connections to sentinels.
    service: str = ""
    sentinel_options: dict[str, Any] | None = None


def split(url: str) -> tuple[str, str, str, str, str, str]:
    """Return a URL's scheme, the word after `+`, login, hosts, path and query; a missing one is "".

    The path lacks its leading slash. Never fails, because it does not check the parts. The standard
    parser cannot split a URL with several hosts.
    """
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    rest, _, query = rest.partition("?")
    place, _, path = rest.partition("/")
    # The last @ ends the password, which may contain others that were not escaped.
    login, _, hosts = place.rpartition("@")
    return base, kind, login, hosts, path, query


def parse(url: str, name: str) -> Address:
    """Parse a URL: redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// …

    `name` is the name of our connections on the server. The options say: no retries, RESP2, bytes.
    Raises ConfigError when the URL cannot be read.
    """
    base, kind, login, listed, path, query = split(url)
    try:
        if base == "unix" and (listed or not path):
            raise ValueError("a socket's path begins behind the third slash")
        is_sentinel = kind == "sentinel"
        service, _, database = path.partition("/") if is_sentinel else ("", "", path)
        # The driver takes what is no number for database 0.
        if base != "unix" and not _DATABASE.fullmatch(database):
            raise ValueError("no number of a database")
        if not kind:
            return Address(_options(url, name))
        if base not in ("redis", "rediss") or kind not in _PORTS or (is_sentinel and not service):
            raise ValueError("a scheme that is not known, or no service")
        hosts = _hosts(listed, _PORTS[kind])
        first = listed.partition(",")[0]
        given = _options(f"{base}://{login}@{first}/{database}?{query}", name)
        if is_sentinel:
            return _of_sentinels(given, hosts, unquote(service), name)
        return Address(given, hosts)
    except ValueError:
        raise url_error() from None


def url_error(*, has_options: bool = False) -> ConfigError:
    """Return the error for a URL. It never repeats a part of the URL, which may be the password.

    `has_options`: the URL could be split, but an option in it is unknown or has a wrong value.
    """
    if has_options:
        return ConfigError(
            "the server's URL has an option that is unknown, or has a wrong value: it may have "
            f"{', '.join(sorted(_URL_OPTIONS))}, as in redis://host?ssl_ca_certs=/ca.pem; the "
            "sentinel options only with redis+sentinel://"
        )
    return ConfigError(
        "the server's URL cannot be read: write redis://[user:password@]host[:port][/db], "
        "rediss://…, unix:///…/redis.sock, redis+sentinel://host[:port],…/service[/db] or "
        "redis+cluster://host[:port],…; in a password, %-encode everything but letters and digits"
    )


def _of_sentinels(
    given: dict[str, Any], hosts: tuple[Host, ...], service: str, name: str
) -> Address:
    """Divide the options: sentinels have their own users, and the same TLS as the servers."""
    own = {
        option.removeprefix(_SENTINEL_OPTION): given.pop(option)
        for option in list(given)
        if option.startswith(_SENTINEL_OPTION)
    }
    shared = {option: value for option, value in given.items() if option.startswith("ssl_")}
    if given.get("connection_class") is not None:
        shared["ssl"] = True
    for option in ("host", "port"):
        given.pop(option, None)
    return Address(given, hosts, service, {"client_name": name, **shared, **own})


def _options(url: str, name: str) -> dict[str, Any]:
    if parse_qs(urlsplit(url).query).keys() - _URL_OPTIONS:
        raise url_error(has_options=True)
    given = parse_url(url)
    if given.get("connection_class") is SSLConnection:  # no other takes them
        _check_paths(given)
    return {
        "redis_connect_func": partial(introduce, name),
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_MS_MAX / 1000,
        "socket_read_size": _READ_BYTES,
        "max_connections": CONNECTIONS_MAX,
        "health_check_interval": 0,
        "decode_responses": False,
        **given,
    }


def _check_paths(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a file that cannot be read: the driver's error would not name it."""
    for option in _PATH_OPTIONS:
        path = given.get(option)
        if path is None:
            continue
        try:
            if option == "ssl_ca_path":
                os.scandir(path).close()
            else:
                Path(path).open("rb").close()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"the server's URL: {option}={path}: {why}") from None


def check_tls(connection: AbstractConnection, options: Mapping[str, Any]) -> None:
    """Load what a connection needs for TLS. Raises ConfigError, naming the files."""
    if isinstance(connection, SSLConnection):
        try:
            connection.ssl_context.get()
        except (ssl.SSLError, ValueError) as error:
            files = ", ".join(f"{one}={options[one]}" for one in _PATH_OPTIONS if one in options)
            raise ConfigError(f"the server's URL: TLS is not possible: {error} ({files})") from None


def _hosts(listed: str, port: int) -> tuple[Host, ...]:
    found = []
    for one in listed.split(","):
        match = _HOST.fullmatch(one)
        if match is None or int(match[3] or 0) > _PORT_MAX:
            raise ValueError("not a host")
        found.append((match[1] or match[2], int(match[3]) if match[3] else port))
    return tuple(found)


async def introduce(name: str, connection: AbstractConnection) -> None:
    """Log in on a connection that is new, and name it if the user may: the driver would insist."""
    await connection.on_connect()
    with suppress(ResponseError):
        await connection.send_command("CLIENT", "SETNAME", name, check_health=False)
        await connection.read_response()


def redacted(url: str) -> str:
    """Return a server's URL in a form that may be shown: without user, password and options."""
    scheme, _, rest = url.partition("://")
    if not rest.startswith("/"):
        # The last @ ends the password, which may contain others that were not escaped.
        rest = rest.rpartition("@")[2]
    place, _, query = rest.partition("?")
    kept = [option for option in query.split("&") if option.startswith("db=")]
    return f"{scheme}://{place}" + (f"?{kept[0]}" if kept else "")
