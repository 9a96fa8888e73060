"""What a run needs of the servers, however they are set up: standalone, Sentinel, Cluster."""

from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: What a server, or the way to it, says when it is not there for us; a run outlasts all of it.
AWAY = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError, OSError)

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
