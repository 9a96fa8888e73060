"""How long Hypothesis looks for trouble: `FABRIC_TEST_EFFORT=50 scripts/test tests/core`."""

import os

from hypothesis import HealthCheck, settings

#: Examples are multiplied by this. At 1 the same examples are tried each time, so that a failure
#: comes from the change at hand; above it, new ones.
EFFORT = int(os.environ.get("FABRIC_TEST_EFFORT", "1"))


def examples(number: int) -> settings:
    """Settings for a property that is tried on so many examples."""
    return settings(
        max_examples=number * EFFORT,
        deadline=None,  # a slow machine is no defect
        derandomize=EFFORT == 1,
        suppress_health_check=[
            HealthCheck.too_slow,  # the same
            HealthCheck.data_too_large,  # long histories are the point
            HealthCheck.function_scoped_fixture,  # each example makes its own session and store
        ],
    )
