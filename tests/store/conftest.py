"""Every store, for the suite that all of them must pass."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

from tests.store.backend import Backend, MemoryBackend, RedisBackend
from tests.support.cluster import Cluster
from tests.support.fixtures import start_or_fail
from tests.support.sentinel import Sentinels
from tests.support.servers import (
    FLAVOUR_DEFAULT,
    RunningServer,
    flavours,
)
from tests.support.waiting import run_coroutine_test

#: All stores; `-m "not server"` leaves out the real ones.
REAL = [pytest.param(flavour, marks=pytest.mark.server) for flavour in flavours()]
#: Groups of servers. The flavour makes no difference here, so one is enough.
TOPOLOGIES = [
    pytest.param(name, marks=[pytest.mark.server, pytest.mark.slow])
    for name in ("cluster", "sentinel")
]
STORES = ["memory", *REAL, *TOPOLOGIES]

Started = Callable[[str], RunningServer]


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[Started]:
    """One server per flavour for all tests of this process that only need an empty one."""
    running: dict[str, RunningServer] = {}

    def started(flavour: str) -> RunningServer:
        if flavour not in running:
            running[flavour] = start_or_fail(flavour)
        return running[flavour]

    yield started
    for server in running.values():
        server.remove()


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Callable[[], Cluster]]:
    """One cluster for all tests of this process that only need an empty one."""
    with ExitStack() as running:
        yield cache(lambda: running.enter_context(Cluster(FLAVOUR_DEFAULT)))


@pytest.fixture
def cluster(shared_cluster: Callable[[], Cluster]) -> Cluster:
    """An empty cluster that a test may reshard, and has to leave healthy."""
    cluster = shared_cluster()
    cluster.wait_healthy()
    for node in cluster.primaries:
        node.flush()
    return cluster


@pytest.fixture(scope="session")
def shared_sentinels() -> Iterator[Callable[[], Sentinels]]:
    """One group of servers with sentinels for all tests of this process, likewise."""
    with ExitStack() as running:
        yield cache(lambda: running.enter_context(Sentinels(FLAVOUR_DEFAULT)))


def _empty(shared_servers: Started, flavour: str) -> RedisBackend:
    server = shared_servers(flavour)
    server.flush()
    return RedisBackend(server)


@pytest.fixture(params=STORES)
def backend(
    request: pytest.FixtureRequest,
    shared_servers: Started,
    shared_cluster: Callable[[], Cluster],
    shared_sentinels: Callable[[], Sentinels],
) -> Backend:
    """An empty store of every kind."""
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "cluster":
        cluster = shared_cluster()
        for node in cluster.primaries:
            node.flush()
        return RedisBackend(cluster.primaries[0], cluster.url)
    if request.param == "sentinel":
        service = shared_sentinels()
        service.primary.flush()
        return RedisBackend(service.primary, service.url)
    return _empty(shared_servers, request.param)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, shared_servers: Started) -> RedisBackend:
    """An empty server of every flavour."""
    return _empty(shared_servers, request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutines; close the stores that they opened on the same event loop."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    opened: list[Any] = [
        pyfuncitem.funcargs[name] for name in ("backend", "real") if name in pyfuncitem.funcargs
    ]

    async def closing(**arguments: Any) -> None:
        try:
            await test(**arguments)
        finally:
            for one in opened:
                await one.close()

    pyfuncitem.obj = closing
    return run_coroutine_test(pyfuncitem)
