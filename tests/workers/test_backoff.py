"""How long a worker waits between two tries."""

import random

import pytest

from fabric import backoff
from fabric.errors import UnreachableError
from tests.support.waiting import eventually
from tests.workers.troubled import TroubledStore, working

ERROR = UnreachableError("the server is away")


async def test_a_connection_that_was_lost_in_an_outage_costs_a_short_pause_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def uniform(low: float, high: float) -> float:
        pauses.append(high)
        return 0.0

    store = TroubledStore()
    for _ in range(6):
        store.trouble("acquire", ERROR)
    for call in ("due", "read"):  # each over a connection of its own
        store.trouble(call, ERROR)
    monkeypatch.setattr(random, "uniform", uniform)
    async with working(store):
        await store.say("s", "A", "PROGRESS")
        await eventually(store.is_settled, "the signal is handled")
    assert pauses == [
        *(backoff.FIRST_MS * 2**n for n in range(6)),
        backoff.FIRST_MS,
        backoff.FIRST_MS,
    ]
