"""One server with an append-only file, and a proxy in front of it for workers and for agents."""

from typing import Any

from tests.chaos.clock import faked, set_clock
from tests.chaos.deployment import ask
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer, short_directory

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
