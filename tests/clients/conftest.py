"""A server with an orchestrator, a scripted model, and a project, for real coding agents."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fabric import SyncFabric
from tests.clients.bench import PROGRAMS, Bench
from tests.clients.scripted_model import Model
from tests.support.daemon import Daemon
from tests.support.fixtures import own_settings, start_or_fail
from tests.support.servers import FLAVOUR_DEFAULT, RunningServer

__all__ = ["own_settings"]

#: Makes a bench whose clients have our hooks; flags go to the hooks.
MakeBench = Callable[..., Bench]


def installed(harness: str) -> str:
    """Skip the test if a client is not installed."""
    if not PROGRAMS[harness].exists():
        pytest.skip(f"{harness} is not installed: scripts/clients")
    return harness


@pytest.fixture(params=sorted(PROGRAMS))
def harness(request: pytest.FixtureRequest) -> str:
    """Each client that is installed; one that is not is skipped by name."""
    return installed(request.param)


@pytest.fixture
def own_server() -> Iterator[RunningServer]:
    """A server that keeps what it has over a restart."""
    running = start_or_fail(FLAVOUR_DEFAULT, "--appendonly", "yes", "--appendfsync", "always")
    yield running
    running.remove()


@pytest.fixture
def orchestrator(own_server: RunningServer) -> Iterator[Daemon]:
    started = Daemon(own_server.url, lease_ms=5_000)
    yield started
    started.close()


@pytest.fixture
def make_bench(
    tmp_path: Path, own_server: RunningServer, orchestrator: Daemon
) -> Iterator[MakeBench]:
    opened: list[Bench] = []
    with Model(tmp_path / "scripts") as model:

        def make(flags: str = "") -> Bench:
            opened.append(Bench(tmp_path / "bench", model, own_server.url, hook_flags=flags))
            return opened[-1]

        yield make
        for one in opened:
            one.close()


@pytest.fixture
def fabric(own_server: RunningServer, orchestrator: Daemon) -> Iterator[SyncFabric]:
    """The fabric, for the other agents of a test."""
    with SyncFabric.connect(own_server.url, namespace="fabric", session="demo") as connected:
        yield connected
