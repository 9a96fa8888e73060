"""What the acceptance tests share: daemons, proxies, tests on an event loop."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.member import member
from tests.end_to_end.replayed import check_sessions
from tests.support.daemon import Daemon
from tests.support.fixtures import daemon, own_settings, proxy, pytest_pyfunc_call
from tests.support.servers import RunningServer, ServerMissingError, flavours, start_server

__all__ = ["daemon", "member", "own_settings", "proxy", "pytest_pyfunc_call"]


@pytest.fixture
def tampering() -> None:
    """For tests that spoil keys on purpose: replay would say so, and be right."""


@pytest.fixture(autouse=True)
def _replayed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to the fabric: what its logs say is what the server has."""
    yield
    if "tampering" in request.fixturenames:
        return
    found = request.node.funcargs
    server = found["place"][0] if "place" in found else found.get("server")
    if server is not None and server.alive:
        check_sessions(server)


@pytest.fixture(scope="module", params=flavours())
def place(request: pytest.FixtureRequest) -> Iterator[tuple[RunningServer, Daemon]]:
    """A server and an orchestrator that have to live through all that a module does to them."""
    try:
        server = start_server(request.param)
    except ServerMissingError as error:
        pytest.fail(str(error), pytrace=False)
    daemon = Daemon(server.url)
    yield server, daemon
    is_alive = daemon.is_alive
    daemon.close()
    server.remove()
    assert is_alive, "the orchestrator has ended"
