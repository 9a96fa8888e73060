"""Fixtures of the acceptance tests: daemons, proxies, tests on an event loop."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.member import member
from tests.end_to_end.replayed import check_sessions
from tests.support.daemon import Daemon
from tests.support.fixtures import daemon, own_settings, proxy, pytest_pyfunc_call, start_or_fail
from tests.support.servers import RunningServer, flavours

__all__ = ["daemon", "member", "own_settings", "proxy", "pytest_pyfunc_call"]


@pytest.fixture
def tampering() -> None:
    """Skip the comparison by replay: the test damages keys on purpose."""


@pytest.fixture(autouse=True)
def _replayed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test, check that a replay of the logs gives what the server holds."""
    yield
    if "tampering" in request.fixturenames:
        return
    found = request.node.funcargs
    server = found["place"][0] if "place" in found else found.get("server")
    if server is not None and server.alive:
        check_sessions(server)


@pytest.fixture(scope="module", params=flavours())
def place(request: pytest.FixtureRequest) -> Iterator[tuple[RunningServer, Daemon]]:
    """Start a server and an orchestrator that must survive everything a module does to them."""
    server = start_or_fail(request.param)
    daemon = Daemon(server.url)
    yield server, daemon
    is_alive = daemon.is_alive
    daemon.close()
    server.remove()
    assert is_alive, "the orchestrator has ended"
