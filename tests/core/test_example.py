"""The example session, played by the core alone, gives the rows of the original protocol."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fabric.core.event import Decision, Outcome
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Signal
from fabric.core.step import step
from fabric.store.keys import Namespace
from fabric.store.keyspace import Keyspace
from fabric.store.port import Batch
from fabric.view.text import clock
from fabric.view.timeline import Row, Timeline, merge
from fabric.wire import record
from tests.core import scenario
from tests.support import example_session
from workers.orchestrator import deliver

SCENARIO = Path(__file__).parent / "scenarios" / "example_session.txt"
KEYS = Namespace().partition(0).session("demo")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, list[bytes]]]:
    """The log that an orchestrator writes of the scenario."""
    batch, server = Batch(), Keyspace()

    def noted(session: SessionState, signal: Signal, rules: Rules, now_ms: int) -> Decision:
        decision = step(session, signal, rules, now_ms)
        assert decision.outcome is Outcome.ACCEPTED
        logged = record.logged_signal(signal, session.clock_ms)
        batch.append(KEYS.log, f"{session.log}-0", *logged)
        deliver(batch, KEYS, session, decision, Counter())
        return decision

    monkeypatch.setattr(scenario, "step", noted)
    scenario.play(SCENARIO)
    server.apply(batch, scenario.START_MS)
    entries: Any = server.stream(KEYS.log).between(b"-", b"+")
    return [(entry_id, list(fields)) for entry_id, fields in entries]


def rows(log: list[tuple[bytes, list[bytes]]]) -> list[Row]:
    timeline = Timeline()
    return [row for entry in log if (row := timeline.row(*entry)) is not None]


def test_the_rows_are_those_of_the_protocol(log: list[tuple[bytes, list[bytes]]]) -> None:
    shown = merge(row for row in rows(log) if not row.is_detail)
    assert [
        (clock(row.ms, scenario.START_MS), row.signal, row.stream) for row in shown
    ] == example_session.ROWS


def test_the_details_between_them(log: list[tuple[bytes, list[bytes]]]) -> None:
    """The example leaves these out: the agent that waits, those that are told, and the leader."""
    assert [(row.signal, row.stream) for row in rows(log) if row.is_detail] == [
        ("(nudge)", "A"),
        ("(pause)", "A"),
        ("(pause)", "B"),
        ("(wait)", "B"),
        ("(proceed)", "B"),
        ("(integrate)", "D"),
    ]
