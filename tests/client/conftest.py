"""Daemons, proxies, and tests on an event loop; short starts."""

import pytest

from fabric.client import start
from tests.support.fixtures import daemon, own_settings, proxy, pytest_pyfunc_call

__all__ = ["daemon", "own_settings", "proxy", "pytest_pyfunc_call"]


@pytest.fixture(autouse=True)
def _short_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no orchestrator runs, a start waits for a moment only."""
    monkeypatch.setattr(start, "DECISION_S", 0.2)
