"""Fixtures that the whole suite shares: real servers, started once for each process of pytest."""

from collections.abc import Callable, Iterator

import pytest

from tests.servers import RunningServer, ServerMissingError, flavours, start_server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record",
        action="store_true",
        help="write down what the scenarios now answer, instead of comparing with it",
    )


@pytest.fixture(scope="session")
def recording(pytestconfig: pytest.Config) -> bool:
    """True when scenarios are to be written again: `scripts/test tests/core --record`."""
    return bool(pytestconfig.getoption("--record"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m "not server"` leaves what needs no server."""
    for item in items:
        if {"server", "started_server", "start"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)


def _start(flavour: str, *options: str) -> RunningServer:
    try:
        return start_server(flavour, *options)
    except ServerMissingError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session", params=flavours())
def started_server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One server per flavour and process of pytest, whatever earlier tests left in it."""
    running = _start(request.param)
    yield running
    running.remove()


@pytest.fixture
def server(started_server: RunningServer) -> RunningServer:
    """An empty server, once per flavour; a test may stop or kill it: the next finds it started."""
    if not started_server.alive:
        started_server.start()
    started_server.flush()
    return started_server


@pytest.fixture
def server_url(server: RunningServer) -> str:
    return server.url


@pytest.fixture
def start() -> Iterator[Callable[..., RunningServer]]:
    """Starts a server for this test alone: `start("redis-7.0", "--appendonly", "yes")`."""
    running: list[RunningServer] = []

    def start_one(flavour: str, *options: str) -> RunningServer:
        running.append(_start(flavour, *options))
        return running[-1]

    yield start_one
    for one in running:
        one.remove()
