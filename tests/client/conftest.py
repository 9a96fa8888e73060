"""What the tests of the client share: daemons, proxies, tests on an event loop."""

from collections.abc import Callable, Iterator

import pytest

from tests.daemon import daemon
from tests.proxy import Proxy
from tests.servers import RunningServer
from tests.waiting import run_coroutine_test

__all__ = ["daemon"]


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
def proxy() -> Iterator[Callable[[RunningServer], Proxy]]:
    """Puts a proxy in front of a server."""
    started: list[Proxy] = []

    def start(server: RunningServer) -> Proxy:
        started.append(Proxy(server))
        return started[-1]

    yield start
    for one in started:
        one.close()
