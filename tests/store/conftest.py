"""Every store there is, for the suite that all of them must pass."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import RunningServer, ServerMissingError, flavours, start_server
from tests.store.backend import Backend, MemoryBackend, RedisBackend
from tests.waiting import run_coroutine_test

#: All stores; the real ones are left out by `-m "not server"`.
STORES = ["memory", *(pytest.param(flavour, marks=pytest.mark.server) for flavour in flavours())]
REAL = STORES[1:]

Started = Callable[[str], RunningServer]


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[Started]:
    """One server per flavour for all tests of this process that only need an empty one."""
    running: dict[str, RunningServer] = {}

    def started(flavour: str) -> RunningServer:
        if flavour not in running:
            try:
                running[flavour] = start_server(flavour)
            except ServerMissingError as error:
                pytest.fail(str(error), pytrace=False)
        return running[flavour]

    yield started
    for server in running.values():
        server.remove()


def _empty(shared_servers: Started, flavour: str) -> RedisBackend:
    server = shared_servers(flavour)
    server.flush()
    return RedisBackend(server)


@pytest.fixture(params=STORES)
def backend(request: pytest.FixtureRequest, shared_servers: Started) -> Backend:
    """An empty store of every kind."""
    return MemoryBackend() if request.param == "memory" else _empty(shared_servers, request.param)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, shared_servers: Started) -> RedisBackend:
    """An empty server of every flavour."""
    return _empty(shared_servers, request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutine functions; close what they opened on the same event loop."""
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
