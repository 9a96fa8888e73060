"""Pauses that grow, one alarm, and a reminder."""

import asyncio
import logging
import random

import pytest

from fabric import backoff
from fabric.backoff import Backoff
from fabric.errors import UnreachableError
from tests.support.waiting import eventually
from tests.workers.troubled import TroubledStore, working

ERROR = UnreachableError("the server is away")


async def fail(subject: Backoff, times: int) -> None:
    """Told to stop already, so that no pause is made."""
    stop = asyncio.Event()
    stop.set()
    for _ in range(times):
        await subject.failed(ERROR, stop)


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


async def test_one_alarm_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fabric.alarm")
    subject = Backoff("orchestrators a partition 0")
    await fail(subject, 20)
    assert heard(caplog) == [
        "ALARM orchestrators a partition 0: UNREACHABLE: the server is away; trying again"
    ]
    subject.worked()
    assert heard(caplog) == ["orchestrators a partition 0: works again after 20 failures"]
    subject.worked()
    assert heard(caplog) == []
    await fail(subject, 1)
    assert len(heard(caplog)) == 1


async def test_it_is_repeated(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "REMIND_MS", 0)
    await fail(Backoff("x"), 3)
    assert len(heard(caplog)) == 3


async def test_pauses_grow_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ranges.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    subject = Backoff("x")
    stop = asyncio.Event()
    for _ in range(100):
        await subject.failed(ERROR, stop)
    highest = [high for _, high in ranges]
    assert highest[:3] == [backoff.FIRST_MS, 2 * backoff.FIRST_MS, 4 * backoff.FIRST_MS]
    assert highest == sorted(highest)
    assert highest[-1] == backoff.LONGEST_MS
    assert all(low == high / 2 for low, high in ranges)
    subject.worked()
    await subject.failed(ERROR, stop)
    assert ranges[-1][1] == backoff.FIRST_MS


async def test_a_stop_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_MS", 3_600_000)
    monkeypatch.setattr(backoff, "LONGEST_MS", 3_600_000)
    stop = asyncio.Event()
    pausing = asyncio.create_task(Backoff("x").failed(ERROR, stop))
    await asyncio.sleep(0)
    stop.set()
    await pausing


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
