"""A cluster of six nodes, three of them primaries. No proxy: clients see the nodes' addresses."""

from typing import Any

import redis

from tests.chaos.deployment import ask
from tests.support.cluster import Cluster
from tests.support.node import TopologyError

#: How sure an acknowledged signal is → replicas that an emitter waits for. With one replica each,
#: `min-replicas-to-write` would keep whoever takes over from taking anything.
DURABILITIES = {"async": 0, "wait": 1, "wait-all": 1}


class ClusterService:
    """See Deployment."""

    name = "cluster"

    def __init__(self, flavour: str, fsync: str, durability: str) -> None:
        self._flavour = flavour
        self._options = ("--appendonly", "yes", "--appendfsync", fsync)
        self.wait_replicas = DURABILITIES[durability]
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
