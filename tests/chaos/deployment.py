"""The servers of a run: standalone, with Sentinel, or a Cluster."""

from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.clock import faked, set_clock
from tests.support.cluster import Cluster
from tests.support.node import TopologyError
from tests.support.proxy import Proxy
from tests.support.sentinel import Sentinels
from tests.support.servers import RunningServer, short_directory

#: Errors of a server that cannot be reached or does not serve now; a run survives all of them.
UNREACHABLE = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError, OSError)

#: Time for a reply, s. A frozen server is not asked.
REPLY_S_MAX = 20.0


class Deployment(Protocol):
    """The servers of one run, and their URLs."""

    #: Name in the report.
    name: str
    #: Whether a failover may lose acknowledged signals: then losses are counted, and no anomaly.
    may_lose: bool
    #: Number of replicas that an emitter waits for.
    wait_replicas: int

    @property
    def url(self) -> str:
        """Return the URL for the runner itself, past all proxies."""

    @property
    def worker_url(self) -> str:
        """Return the URL for workers."""

    @property
    def agent_url(self) -> str:
        """Return the URL for agents."""

    def start(self) -> None:
        """Start all servers."""

    def ask(self, key: str, *command: str | int | bytes) -> Any:
        """Send one command, without retries, to the server that has the key now; replies are text.

        Raises one of UNREACHABLE.
        """

    def close(self) -> None:
        """Stop all servers, and leave no process behind."""


def ask(url: str, *command: str | int | bytes) -> Any:
    """Send one command on a new connection, without retries. Raises one of UNREACHABLE.

    Returns the server's reply as text; bytes that are not UTF-8 are escaped.
    """
    with redis.Redis.from_url(
        url,
        protocol=2,
        decode_responses=True,
        encoding_errors="backslashreplace",
        retry=Retry(NoBackoff(), 0),
        socket_timeout=REPLY_S_MAX,
    ) as client:
        client.response_callbacks.clear()  # they reshape replies
        return client.execute_command(*command)


#: Size from which the append-only file is rewritten: so that a run has some rewrites.
REWRITE_FROM = "128mb"


class Standalone:
    """See Deployment."""

    name = "standalone"
    may_lose = False
    wait_replicas = 0

    def __init__(self, flavour: str, fsync: str, *, is_faked: bool = False) -> None:
        """`is_faked`: start the server with a clock that can be set."""
        options = (
            *("--appendonly", "yes", "--appendfsync", fsync),
            *("--auto-aof-rewrite-min-size", REWRITE_FROM),
        )
        directory = short_directory()
        self._clock = directory / "clock"
        extra = faked(self._clock) if is_faked else {}
        self.server = RunningServer(flavour, directory, options, extra=extra)
        self._proxies: list[Proxy] = []
        self.workers: Proxy
        self.agents: Proxy

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def worker_url(self) -> str:
        return f"redis://127.0.0.1:{self.workers.port}"

    @property
    def agent_url(self) -> str:
        return f"redis://127.0.0.1:{self.agents.port}"

    def start(self) -> None:
        self.server.start()
        self.workers, self.agents = Proxy(self.server), Proxy(self.server)
        self._proxies = [self.workers, self.agents]

    def ask(self, key: str, *command: str | int | bytes) -> Any:
        return ask(self.server.url, *command)

    def set_clock(self, offset_s: int) -> None:
        """Set the offset of the server's clock."""
        set_clock(self._clock, offset_s)

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        self.server.remove()


#: Guarantee for an acknowledged signal → replicas that a write needs, and that an emitter waits
#: for.
SENTINEL_DURABILITIES = {
    "async": (0, 0),
    "min-replicas": (1, 0),
    "wait": (1, 1),
    "wait-all": (1, 2),
}


class SentinelService:
    """See Deployment."""

    name = "sentinel"

    def __init__(self, flavour: str, fsync: str, durability: str) -> None:
        self._flavour = flavour
        self._options = ("--appendonly", "yes", "--appendfsync", fsync)
        self._min_replicas, self.wait_replicas = SENTINEL_DURABILITIES[durability]
        # A replica without the signal may take over: only what all replicas have is safe.
        self.may_lose = durability != "wait-all"
        self.service: Sentinels

    @property
    def url(self) -> str:
        return self.service.url

    @property
    def worker_url(self) -> str:
        return self.url

    @property
    def agent_url(self) -> str:
        return self.url

    def start(self) -> None:
        self.service = Sentinels(self._flavour, *self._options, min_replicas=self._min_replicas)

    def ask(self, key: str, *command: str | int | bytes) -> Any:
        try:
            primary = self.service.primary
        except TopologyError as error:
            raise redis.ConnectionError(str(error)) from None
        return ask(primary.url, *command)

    def close(self) -> None:
        if hasattr(self, "service"):
            self.service.close()


#: Guarantee for an acknowledged signal → replicas that an emitter waits for. With one replica each,
#: `min-replicas-to-write` would make a promoted replica refuse every write.
CLUSTER_DURABILITIES = {"async": 0, "wait": 1, "wait-all": 1}


class ClusterService:
    """See Deployment."""

    name = "cluster"

    def __init__(self, flavour: str, fsync: str, durability: str) -> None:
        self._flavour = flavour
        self._options = ("--appendonly", "yes", "--appendfsync", fsync)
        self.wait_replicas = CLUSTER_DURABILITIES[durability]
        # A primary has one replica: what that replica has survives a failover.
        self.may_lose = not self.wait_replicas
        self.cluster: Cluster

    @property
    def url(self) -> str:
        return self.cluster.seeds

    @property
    def worker_url(self) -> str:
        return self.url

    @property
    def agent_url(self) -> str:
        return self.url

    def start(self) -> None:
        self.cluster = Cluster(self._flavour, *self._options)

    def ask(self, key: str, *command: str | int | bytes) -> Any:
        try:
            owner = self.cluster.owner(key)
        except TopologyError as error:
            raise redis.ConnectionError(str(error)) from None
        return ask(owner.url, *command)

    def close(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.close()
