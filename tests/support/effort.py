"""How many examples Hypothesis tries: `FABRIC_TEST_EFFORT=50 scripts/test tests/core`."""

import os

from hypothesis import HealthCheck, settings

#: Multiplies the number of examples. Up to 1 the examples are the same each time, so that a failure
#: comes from the change at hand; above 1 they are new.
EFFORT = float(os.environ.get("FABRIC_TEST_EFFORT", "1"))


def scaled(number: int) -> int:
    """Return how many of something to try, instead of this many."""
    return max(1, round(number * EFFORT))


def examples(number: int) -> settings:
    """Return the settings for a property that needs this many examples."""
    return settings(
        max_examples=scaled(number),
        deadline=None,  # a slow machine is not a defect
        derandomize=EFFORT <= 1,
        suppress_health_check=[
            HealthCheck.too_slow,  # the same
            HealthCheck.data_too_large,  # long histories are the point
            HealthCheck.function_scoped_fixture,  # each example makes its own session and store
        ],
    )
