"""What a server's URL says: one server, sentinels that know one, or nodes of a cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from fabric.errors import ConfigError

#: Longest wait for a connection, ms.
CONNECT_MS_MAX = 5_000

#: Connections of one process: a process with thousands of agents has one to follow each inbox, and
#: the server's own limit (maxclients, 10,000 by default) is the one that counts.
CONNECTIONS_MAX = 20_000

#: Bytes asked of the socket at a time: a batch of 512 signals is some 200 KB.
_READ_BYTES = 1 << 18

#: Ports where a URL names none.
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_PORT_MAX: Final = 65_535

#: One of several hosts: a name or an address, of IPv6 in brackets, and perhaps a port.
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^][\s:/?#@]+))(?::([0-9]{1,5}))?")

#: Begins the options of a URL that are meant for the sentinels alone: `sentinel_password`.
_SENTINEL_OPTION: Final = "sentinel_"

#: Options that a URL may have (`?db=2&ssl_ca_certs=…`). Of the driver's others, some are ours to
#: set, and on some it fails when it dials, with errors that nobody here looks for.
_URL_OPTIONS: Final = frozenset(
    {"db", "username", "password", "socket_keepalive", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"}
    | {"ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname"}
    | {"ssl_ciphers", "ssl_min_version", "sentinel_username", "sentinel_password"}
)

Host = tuple[str, int]


class Kind(Enum):
    """Whom a URL names."""

    #: A server, or a node of a cluster: it says which.
    SERVER = "server"
    SENTINELS = "sentinels"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL, taken apart. `options` are those of a connection to a server that has the data."""

    kind: Kind
    options: dict[str, Any]
    #: Sentinels, or nodes of a cluster to begin with.
    hosts: tuple[Host, ...] = ()
    #: What the sentinels call the primary, and how they are spoken to.
    service: str = ""
    sentinel_options: dict[str, Any] | None = None


class Parts(NamedTuple):
    """A URL's pieces as they stand. `hosts` may be several, of which the standard parser knows
    nothing; `path` is without the slash before it."""

    scheme: str
    kind: str
    login: str
    hosts: str
    path: str
    query: str


def parts(url: str) -> Parts:
    """Divide a URL; what is not in it is "". Never fails: whether it makes sense, `read` says."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    rest, _, query = rest.partition("?")
    place, _, path = rest.partition("/")
    # The last @ ends the password, in which others may not have been escaped.
    login, _, hosts = place.rpartition("@")
    return Parts(base, kind, login, hosts, path, query)


def read(url: str, name: str) -> Address:
    """Take a URL apart: redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// …

    `name` is what the server shows of our connections. No retries, RESP2, bytes. Raises ConfigError
    when the URL cannot be read.
    """
    base, kind, login, hosts, path, query = parts(url)
    login = f"{login}@" if login else ""
    query = f"?{query}" if query else ""
    try:
        if not kind:
            return Address(Kind.SERVER, _options(url, name))
        if base not in ("redis", "rediss"):
            raise ValueError(base)
        if kind == "cluster":
            named = _hosts(hosts, _PORT)
            given = _options(f"{base}://{login}{_written(named[0])}/{path}{query}", name)
            return Address(Kind.CLUSTER, given, named)
        if kind == "sentinel":
            named = _hosts(hosts, _SENTINEL_PORT)
            service, _, database = path.partition("/")
            if not service:
                raise ValueError("no service")
            given = _options(f"{base}://{login}{_written(named[0])}/{database}{query}", name)
            return _of_sentinels(given, named, unquote(service), name)
        raise ValueError(kind)
    except ValueError:
        raise unreadable() from None


def unreadable(*, has_options: bool = False) -> ConfigError:
    """Return the error for a URL; what it says itself may be a part of the password.

    `has_options`: it could be taken apart, but an option in it is not known, or of a wrong value.
    """
    if has_options:
        return ConfigError(
            "the server's URL has an option that is not known, or not so: it may have "
            f"{', '.join(sorted(_URL_OPTIONS))}, as in redis://host?ssl_ca_certs=/ca.pem; those "
            "of sentinels with redis+sentinel:// only"
        )
    return ConfigError(
        "the server's URL cannot be read: write redis://[user:password@]host[:port][/db], "
        "rediss://…, unix://…/redis.sock, redis+sentinel://host[:port],…/service[/db] or "
        "redis+cluster://host[:port],…; in a password, %-encode what is no letter or digit"
    )


def _of_sentinels(
    given: dict[str, Any], hosts: tuple[Host, ...], service: str, name: str
) -> Address:
    """Divide the options: sentinels have users of their own, and the same TLS as the servers."""
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
    return Address(Kind.SENTINELS, given, hosts, service, {"client_name": name, **shared, **own})


def _options(url: str, name: str) -> dict[str, Any]:
    if parse_qs(urlsplit(url).query).keys() - _URL_OPTIONS:
        raise unreadable(has_options=True)
    return {
        "client_name": name,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_MS_MAX / 1000,
        "socket_read_size": _READ_BYTES,
        "max_connections": CONNECTIONS_MAX,
        "health_check_interval": 0,
        "decode_responses": False,
        **parse_url(url),
    }


def _hosts(listed: str, port: int) -> tuple[Host, ...]:
    found = []
    for one in listed.split(","):
        match = _HOST.fullmatch(one)
        if match is None or int(match[3] or 0) > _PORT_MAX:
            raise ValueError("not a host")
        found.append((match[1] or match[2], int(match[3]) if match[3] else port))
    return tuple(found)


def _written(host: Host) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def redacted(url: str) -> str:
    """Return a server's URL in a form that may be shown: without user, password and options."""
    scheme, _, rest = url.partition("://")
    if not rest.startswith("/"):
        # The last @ ends the password, which may contain others that were not escaped.
        rest = rest.rpartition("@")[2]
    place, _, query = rest.partition("?")
    kept = [option for option in query.split("&") if option.startswith("db=")]
    return f"{scheme}://{place}" + (f"?{kept[0]}" if kept else "")
