"""Fixtures of the suites that run daemons: proxies, clean settings, tests on an event loop."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.daemon import daemon
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer, ServerMissingError, start_server
from tests.support.waiting import run_coroutine_test

__all__ = ["daemon", "own_settings", "proxy", "pytest_pyfunc_call"]


def start_or_fail(flavour: str, *options: str) -> RunningServer:
    """Start a server of a flavour; fail the test with one line when the flavour is missing."""
    try:
        return start_server(flavour, *options)
    except ServerMissingError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function."""
    return run_coroutine_test(pyfuncitem)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of the person that runs the tests."""
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    for name in ("REDIS_URL", "SESSION", "AGENT", "STREAM", "NAMESPACE"):
        monkeypatch.delenv(f"FABRIC_{name}", raising=False)


@pytest.fixture
def proxy() -> Iterator[Callable[[RunningServer], Proxy]]:
    """Put a proxy in front of a server."""
    started: list[Proxy] = []

    def start(server: RunningServer) -> Proxy:
        started.append(Proxy(server))
        return started[-1]

    yield start
    for one in started:
        one.close()
