"""Tests on an event loop."""

from tests.support.fixtures import own_settings, pytest_pyfunc_call

__all__ = ["own_settings", "pytest_pyfunc_call"]
