"""What a run needs of the servers, however they are set up: standalone, Sentinel, Cluster."""

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

#: What a server, or the way to it, says when it is not there for us; a run outlasts all of it.
UNREACHABLE = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError, OSError)

#: Time that a server has for a reply, s. A frozen one is not asked.
REPLY_S_MAX = 20.0


class Deployment(Protocol):
    """The servers of one run, and the ways to them."""

    #: Names it in the report.
    name: str
    #: Whether a failover may lose what was acknowledged: it is counted, then, and no anomaly.
    may_lose: bool
    #: Replicas that an emitter waits for.
    wait_replicas: int

    @property
    def url(self) -> str:
        """Past all proxies: for the runner's own questions."""

    @property
    def worker_url(self) -> str:
        """The workers' way in."""

    @property
    def agent_url(self) -> str:
        """The agents' way in."""

    def start(self) -> None:
        """Start all of it."""

    def ask(self, key: str, *command: str | int | bytes) -> Any:
        """Send one command to whoever has the key now, nothing repeated; replies are text.

        Raises one of AWAY.
        """

    def close(self) -> None:
        """End all of it, and leave no process behind."""


def ask(url: str, *command: str | int | bytes) -> Any:
    """Send one command on a connection of its own, nothing repeated; raises one of AWAY.

    The reply is the server's, unshaped, as text: bytes that are none are shown with escapes.
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


#: Below this size the append-only file is not rewritten: some rewrites fall into a run.
REWRITE_FROM = "128mb"


class Standalone:
    """See Deployment."""

    name = "standalone"
    may_lose = False
    wait_replicas = 0

    def __init__(self, flavour: str, fsync: str, *, is_faked: bool = False) -> None:
        """`is_faked`: with a clock that can be set."""
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
        """Let the server's clock be wrong by so much."""
        set_clock(self._clock, offset_s)

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        self.server.remove()


#: How sure an acknowledged signal is → replicas that a write needs, and that an emitter waits for.
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
        # One replica may have it, and another take over: only what all have is sure to stay.
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


#: How sure an acknowledged signal is → replicas that an emitter waits for. With one replica each,
#: `min-replicas-to-write` would keep whoever takes over from taking anything.
CLUSTER_DURABILITIES = {"async": 0, "wait": 1, "wait-all": 1}


class ClusterService:
    """See Deployment."""

    name = "cluster"

    def __init__(self, flavour: str, fsync: str, durability: str) -> None:
        self._flavour = flavour
        self._options = ("--appendonly", "yes", "--appendfsync", fsync)
        self.wait_replicas = CLUSTER_DURABILITIES[durability]
        # A primary has one replica: what that has is there when it takes over.
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
