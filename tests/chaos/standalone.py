"""One server with an append-only file, and a proxy in front of it for workers and for agents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.deployment import ask
from tests.proxy import Proxy
from tests.servers import RunningServer, short_directory

#: Below this size the append-only file is not rewritten: some rewrites fall into a run.
REWRITE_FROM = "128mb"


class Standalone:
    """See Deployment."""

    name = "standalone"

    def __init__(self, flavour: str, fsync: str) -> None:
        options = (
            *("--appendonly", "yes", "--appendfsync", fsync),
            *("--auto-aof-rewrite-min-size", REWRITE_FROM),
        )
        self.server = RunningServer(flavour, short_directory(), options)
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

    def start(self, directory: Path) -> None:
        self.server.start()
        self.workers, self.agents = Proxy(self.server), Proxy(self.server)

    def ask(self, key: str, *command: str | int | bytes) -> Any:
        return ask(self.server.url, *command)

    def pids(self) -> Sequence[int]:
        return [self.server.pid] if self.server.alive else []

    def close(self) -> None:
        for proxy in (self.workers, self.agents):
            proxy.close()
        self.server.remove()
