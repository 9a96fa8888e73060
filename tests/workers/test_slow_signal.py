"""One signal that takes longer than a lease goes to `dead`; all others go on."""

import time
from collections.abc import Callable

import pytest

from fabric.core.event import Decision
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal
from fabric.core.step import step
from fabric.store.keys import Namespace
from tests.support.in_process import serving
from tests.support.keyspace import add, rows, session
from tests.support.servers import RunningServer
from tests.support.waiting import eventually
from workers.handler import COUNT_MAX, Pace

LEASE_MS = 200
SLOW_S = 0.3
DEAD = Namespace().partition(0).dead


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the rules take longer than a lease on every signal of SLOW; return each such try."""
    tries: list[str] = []

    def blocking(session: SessionState, signal: Signal, rules: Rules, now_ms: int) -> Decision:
        if signal.emitter == "SLOW":
            tries.append(signal.emitter)
            time.sleep(SLOW_S)  # the fault itself: the event loop stands still
        return step(session, signal, rules, now_ms)

    monkeypatch.setattr("workers.orchestrator.step", blocking)
    return tries


def send(server: RunningServer, count: int, slow_at: int) -> None:
    for number in range(count):
        emitter = "SLOW" if number == slow_at else f"A{number}"
        add(server, session="s", emitter=emitter, type="STARTED", payload="{}")


def is_through(server: RunningServer, count: int) -> Callable[[], bool]:
    return lambda: len(rows(server, session("s").log, kind="signal")) >= count


@pytest.mark.parametrize(("count", "slow_at"), [(20, 7), (1, 0), (40, 39)])
async def test_it_is_found_and_the_others_go_on(
    server: RunningServer, slow: list[str], count: int, slow_at: int
) -> None:
    send(server, count, slow_at)
    async with serving(server.url, lease_ms=LEASE_MS):
        await eventually(lambda: len(rows(server, DEAD)) == 1, "it is in dead")
        await eventually(is_through(server, count - 1), "the others are through")
    (letter,) = rows(server, DEAD)
    assert letter["code"] == "LIMIT"
    assert f"a lease lasts {LEASE_MS} ms" in letter["reason"]
    assert letter["raw.emitter"] == "SLOW"
    logged = [row["emitter"] for row in rows(server, session("s").log, kind="signal")]
    assert logged == [f"A{number}" for number in range(count) if number != slow_at]
    # Twice on a quiet machine. On a busy one the worker may lose so short a lease once more.
    assert 2 <= len(slow) < 10


async def test_a_fleet_does_not_pass_it_back_and_forth(
    server: RunningServer, slow: list[str]
) -> None:
    send(server, 20, slow_at=7)
    async with (
        serving(server.url, lease_ms=LEASE_MS, name="a"),
        serving(server.url, lease_ms=LEASE_MS, name="b"),
    ):
        await eventually(lambda: len(rows(server, DEAD)) == 1, "it is in dead")
        await eventually(is_through(server, 19), "the others are through")
    assert len(slow) < 10


def test_a_batch_that_outlived_its_lease_is_taken_one_by_one() -> None:
    pace = Pace()
    assert not pace.note(32, 1_500, 1_000, is_lease_over=True)
    assert pace.most == 1
    for _ in range(31):
        assert not pace.note(1, 1, 1_000, is_lease_over=False)
        assert pace.most == 1
    assert pace.note(1, 1_500, 1_000, is_lease_over=True)
    assert not pace.note(1, 1, 1_000, is_lease_over=False)
    assert pace.most == 2


def test_a_lease_that_ended_without_a_slow_decision_makes_nobody_a_suspect() -> None:
    pace = Pace()
    for _ in range(9):
        assert not pace.note(1, 1, 1_000, is_lease_over=True)
    assert pace.most == COUNT_MAX


def test_batches_shrink_before_they_outlive_the_lease() -> None:
    pace = Pace()
    pace.note(32, 400, 1_000, is_lease_over=False)
    assert pace.most == 16
    pace.note(16, 200, 1_000, is_lease_over=False)
    assert pace.most == 32
