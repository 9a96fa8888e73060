"""Pauses that grow, one alarm, and a reminder."""

import asyncio
import logging
from typing import Any

import pytest

from fabric import backoff
from fabric.backoff import Backoff, Outage
from fabric.client.emitter import Sender
from fabric.errors import FabricError, ReconnectedError, UnavailableError, UnreachableError
from tests.support.waiting import eventually

ERROR = UnreachableError("the server is away")


async def fail(subject: Outage, times: int, error: FabricError = ERROR) -> None:
    """Fail so often, already told to stop, so that no time is spent waiting."""
    stop = asyncio.Event()
    stop.set()
    for _ in range(times):
        await subject.failed(error, stop)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


class Ranges:
    """Stands in for `random.uniform`: notes each range, and returns its start or its end."""

    def __init__(self, *, is_highest: bool = False) -> None:
        self.seen: list[tuple[float, float]] = []
        self._is_highest = is_highest

    def __call__(self, low: float, high: float) -> float:
        self.seen.append((low, high))
        return high if self._is_highest else low


def test_ceilings_double_up_to_a_limit_and_pauses_lie_anywhere_below() -> None:
    uniform = Ranges()
    subject = Backoff(50, 5_000, uniform=uniform)
    assert [subject.next_s() for _ in range(100)] == [0.0] * 100
    ceilings = [high for _, high in uniform.seen]
    assert ceilings[:3] == [50, 100, 200]
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] == 5_000
    assert {low for low, _ in uniform.seen} == {0}
    subject.reset()
    subject.next_s()
    assert uniform.seen[-1] == (0, 50)


def test_pauses_are_in_seconds() -> None:
    subject = Backoff(50, 5_000, uniform=Ranges(is_highest=True))
    assert [subject.next_s() for _ in range(3)] == [0.05, 0.1, 0.2]


def test_two_agents_do_not_come_back_in_step() -> None:
    first, second = Backoff(), Backoff()
    assert [first.next_s() for _ in range(5)] != [second.next_s() for _ in range(5)]


async def test_one_alarm_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fabric.alarm")
    subject = Outage("orchestrators a partition 0")
    await fail(subject, 20)
    assert logged(caplog) == [
        "ALARM orchestrators a partition 0: UNREACHABLE: the server is away; trying again"
    ]
    subject.worked()
    assert logged(caplog) == ["orchestrators a partition 0: works again after 20 failures"]
    subject.worked()
    assert logged(caplog) == []
    await fail(subject, 1)
    assert len(logged(caplog)) == 1


async def test_another_kind_of_error_is_reported_at_once(caplog: pytest.LogCaptureFixture) -> None:
    subject = Outage("x")
    await fail(subject, 3)
    await fail(subject, 3, UnavailableError("the server is loading"))
    await fail(subject, 3)
    assert logged(caplog) == [
        "ALARM x: UNREACHABLE: the server is away; trying again",
        "ALARM x: UNAVAILABLE: the server is loading; trying again",
    ]


async def test_a_connection_that_was_closed_when_idle_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = Outage("x")
    await fail(subject, 2, ReconnectedError())
    subject.worked()
    assert logged(caplog) == []


async def test_heartbeats_report_an_outage_once(caplog: pytest.LogCaptureFixture) -> None:
    class Down:
        tries = 0

        async def send(self, *_: Any, **__: Any) -> list[bytes]:
            self.tries += 1
            raise UnreachableError("down", never_sent=True)

    emitter: Any = Down()
    sender = Sender(emitter, "s", "A", "")
    sender.begin(1)
    beating = asyncio.create_task(sender.send_heartbeats(0.001))
    await eventually(lambda: emitter.tries > 20)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    assert logged(caplog) == ["A: heartbeat: down; trying again"]


async def test_an_agent_warns_and_raises_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    subject = Outage("ANALYST", is_alarm=False)
    await fail(subject, 20)
    subject.worked()
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        ("fabric.agent", "WARNING", "ANALYST: the server is away; trying again"),
        ("fabric.agent", "WARNING", "ANALYST: works again after 20 failures"),
    ]


async def test_the_alarm_is_repeated(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "REMIND_MS", 0)
    await fail(Outage("x"), 3)
    assert len(logged(caplog)) == 3


async def test_an_answer_makes_the_next_pause_short_again() -> None:
    uniform = Ranges()
    subject = Outage("x", backoff=Backoff(50, 5_000, uniform=uniform))
    await fail(subject, 3)
    subject.answered()
    await fail(subject, 1)
    subject.worked()
    await fail(subject, 1)
    assert [high for _, high in uniform.seen] == [50, 100, 200, 50, 50]


async def test_a_stop_ends_the_pause() -> None:
    hour_ms = 3_600_000
    subject = Outage("x", backoff=Backoff(hour_ms, hour_ms, uniform=Ranges(is_highest=True)))
    stop = asyncio.Event()
    pausing = asyncio.create_task(subject.failed(ERROR, stop))
    await asyncio.sleep(0)
    stop.set()
    await pausing
