"""Ways in which no signal can be decided for a while, each from the begin to the end of a block."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.chaos.deployment import Standalone
from tests.chaos.process import WORKERS, Fleet

#: A port on which no server listens.
NO_PORT = 1


@contextmanager
def down(deployment: Standalone, _: Fleet) -> Iterator[None]:
    """SIGKILL for the server, then a start from the append-only file."""
    deployment.server.kill()
    yield
    deployment.server.start()


@contextmanager
def frozen(deployment: Standalone, _: Fleet) -> Iterator[None]:
    """SIGSTOP for the server: afterwards it carries out what was sent meanwhile."""
    os.kill(deployment.server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(deployment.server.pid, signal.SIGCONT)


@contextmanager
def out_of_memory(deployment: Standalone, _: Fleet) -> Iterator[None]:
    """`maxmemory` below the memory in use: the server refuses every write."""
    deployment.ask("", "CONFIG", "SET", "maxmemory", "1mb")
    try:
        yield
    finally:
        deployment.ask("", "CONFIG", "SET", "maxmemory", "0")


@contextmanager
def read_only(deployment: Standalone, _: Fleet) -> Iterator[None]:
    """REPLICAOF a missing primary: READONLY for writes."""
    deployment.ask("", "REPLICAOF", "127.0.0.1", NO_PORT)
    try:
        yield
    finally:
        deployment.ask("", "REPLICAOF", "NO", "ONE")


@contextmanager
def workers_gone(_: Standalone, fleet: Fleet) -> Iterator[None]:
    """SIGKILL for all workers, then a start: what agents have sent meanwhile is waiting."""
    for slot in fleet.of(*WORKERS):
        slot.kill()
    yield
    for slot in fleet.of(*WORKERS):
        slot.start()


@contextmanager
def all_frozen(deployment: Standalone, fleet: Fleet) -> Iterator[None]:
    """SIGSTOP for the server, the workers and the agents, as if a laptop had been closed."""
    with frozen(deployment, fleet):
        for slot in fleet.slots:
            slot.freeze()
        yield
        for slot in fleet.slots:
            slot.thaw()


Outage = Callable[[Standalone, Fleet], AbstractContextManager[None]]

#: Name → outage, for agents at work that must outlive each of them.
OUTAGES: dict[str, Outage] = {
    "server down": down,
    "server frozen": frozen,
    "out of memory": out_of_memory,
    "read-only": read_only,
    "no workers": workers_gone,
    "all frozen": all_frozen,
}
