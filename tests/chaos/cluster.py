"""A cluster of six nodes, three of them primaries. No proxy: clients see the nodes' addresses."""

from typing import Any

import redis

from tests.chaos.deployment import ask
from tests.chaos.sentinel import DURABILITIES
from tests.topology.cluster import Cluster
from tests.topology.node import TopologyError


class ClusterService:
    """See Deployment."""

    name = "cluster"

    def __init__(self, flavour: str, fsync: str, durability: str) -> None:
        self._flavour = flavour
        self._min_replicas, self.wait_replicas = DURABILITIES[durability]
        self._options = (
            *("--appendonly", "yes", "--appendfsync", fsync),
            *("--min-replicas-to-write", str(self._min_replicas)),
        )
        self.may_lose = True
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
