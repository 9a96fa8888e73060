"""A primary with two replicas, and three sentinels. No proxy: clients see nodes' addresses."""

from typing import Any

import redis

from tests.chaos.deployment import ask
from tests.support.node import TopologyError
from tests.support.sentinel import Sentinels

#: How sure an acknowledged signal is → replicas that a write needs, and that an emitter waits for.
DURABILITIES = {"async": (0, 0), "min-replicas": (1, 0), "wait": (1, 1), "wait-all": (1, 2)}


class SentinelService:
    """See Deployment."""

    name = "sentinel"

    def __init__(self, flavour: str, fsync: str, durability: str) -> None:
        self._flavour = flavour
        self._options = ("--appendonly", "yes", "--appendfsync", fsync)
        self._min_replicas, self.wait_replicas = DURABILITIES[durability]
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
