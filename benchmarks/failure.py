"""Why a benchmark has no result."""

from __future__ import annotations


class BenchmarkError(Exception):
    """What was to be measured could not be run, or did not do what it was to do."""
