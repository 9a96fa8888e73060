"""Daemons, proxies, and tests on an event loop."""

from tests.support.fixtures import daemon, own_settings, proxy, pytest_pyfunc_call

__all__ = ["daemon", "own_settings", "proxy", "pytest_pyfunc_call"]
