"""Sick links between hosts: nothing is lost, no two write at once, and everybody has a turn again.

`python -m tests.hosts.links` runs more of them, and longer ones.
"""

import asyncio

import pytest

from tests.hosts.links import Case, measure
from tests.hosts.network import missing

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "case",
    [
        Case("cut", 5, "one", {"is_cut": True}),
        Case("half-open", 8, "one", {"loss_to": 1.0}),
        Case("loses half of what it sends", 8, "one", {"loss_from": 0.5}),
        Case("the server cut", 5, "server", {"is_cut": True}),
    ],
    ids=lambda case: case.name,
)
def test_a_sick_link(case: Case) -> None:
    if why := missing():
        pytest.skip(why)
    found = asyncio.run(measure(case))
    assert found.is_well, found
