"""What the acceptance tests share: daemons, proxies, tests on an event loop."""

from collections.abc import Callable, Iterator

import pytest

from tests.daemon import Daemon, daemon
from tests.end_to_end.member import member
from tests.end_to_end.replayed import check_sessions
from tests.proxy import Proxy
from tests.servers import RunningServer, ServerMissingError, flavours, start_server
from tests.waiting import run_coroutine_test

__all__ = ["daemon", "member"]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    return run_coroutine_test(pyfuncitem)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have settings of their own."""
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    for name in ("REDIS_URL", "SESSION", "AGENT", "STREAM", "NAMESPACE"):
        monkeypatch.delenv(f"FABRIC_{name}", raising=False)


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


@pytest.fixture
def proxy() -> Iterator[Callable[[RunningServer], Proxy]]:
    """Puts a proxy in front of a server."""
    started: list[Proxy] = []

    def start(server: RunningServer) -> Proxy:
        started.append(Proxy(server))
        return started[-1]

    yield start
    for one in started:
        one.close()


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
