"""The board of `fabric watch`: what it takes from log, records and revisions."""

from typing import Any

import pytest

from fabric.client.synthesis import Revision
from fabric.core.record import (
    AgentRecord,
    AgentStatus,
    ClaimRecord,
    ClaimState,
    EscalationRecord,
    EscalationState,
)
from fabric.ops.questions import Question
from fabric.view.synthesis import Synthesis
from fabric.watch.board import POINTS_MAX, Board, Growth
from tests.support import example_session


def part(agent: str, state: str = "agreed") -> dict[str, Any]:
    return {"state": state, "first": {"log": 3, "ms": 5, "agent": agent}}


def added(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"op": "add", "path": f"/findings/{key}", "value": value}


def head(**complete: Any) -> dict[str, Any]:
    return {"op": "add", "path": "/complete", "value": complete}


def revision(number: int, *operations: dict[str, Any], is_final: bool = False) -> Revision:
    return Revision(number, list(operations), [f"{number}-0"], 1_000, is_final)


def test_findings_count_while_they_hold_and_the_newest_are_kept() -> None:
    growth = Growth(ignored=["a-vote"])
    whole = {"complete": {"percent": 3, "contradictions": 0}, "findings": {}}
    growth.take(revision(1, {"op": "add", "path": "", "value": whole}), 10, 1)
    growth.take(revision(2, head(percent=7), added("a~1b.py:1:r", part("STYLE"))), 20, 2)
    more = added("c.py:2:r", part("SAFETY", "contradicted")), added("a-vote", part("SAFETY"))
    growth.take(revision(3, head(percent=9, contradictions=1), *more), 30, 3)
    gone = added("a~1b.py:1:r", part("STYLE", "withdrawn"))
    growth.take(revision(4, head(percent=100), gone, is_final=True), 40, 4)
    assert [point.findings for point in growth.points] == [0, 1, 2, 1]
    assert [point.contradictions for point in growth.points] == [0, 0, 1, 0]
    assert [(point.at_ms, point.made_ms) for point in growth.points] == [
        *((10, 1), (20, 2)),
        *((30, 3), (40, 4)),
    ]
    assert [(news.agent, news.key) for news in growth.newest] == [
        ("STYLE", "a/b.py:1:r"),
        ("SAFETY", "c.py:2:r"),
    ]
    assert growth.counts == {"SAFETY": 1}
    assert growth.first_finding is not None
    assert growth.first_finding.number == 2
    assert growth.is_final


def test_findings_of_the_first_revision_count() -> None:
    growth = Growth()
    whole = {"complete": {"percent": 3}, "findings": {"k": part("A")}}
    growth.take(revision(1, {"op": "add", "path": "", "value": whole}), 10, 1)
    assert growth.counts == {"A": 1}


def test_a_session_whose_revisions_are_gone_begins_with_its_synthesis() -> None:
    growth = Growth()
    document = {
        "revision": 7,
        "complete": {"percent": 50, "contradictions": 1},
        "findings": {"k": part("A"), "old": part("A", "superseded")},
    }
    growth.begin_at(Synthesis(document), 500)
    assert (growth.revision, growth.points[-1].findings, growth.points[-1].percent) == (7, 1, 50)
    growth.take(revision(8, head(percent=60), added("l", part("B"))), 600, 600)
    assert growth.counts == {"A": 1, "B": 1}


def test_a_long_session_keeps_a_bounded_number_of_points() -> None:
    growth = Growth()
    for number in range(1, 3 * POINTS_MAX):
        growth.take(revision(number, head(percent=1)), number, number)
    assert len(growth.points) <= POINTS_MAX
    assert growth.points[0].number == 1
    assert growth.revision == 3 * POINTS_MAX - 1
    numbers = [point.number for point in growth.points]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("in_full", [False, True])
def test_the_timeline_is_that_of_tail_unless_it_is_wanted_in_full(in_full: bool) -> None:
    board = Board("s", in_full=in_full)
    rows = board.take_log(example_session.logged(derived=False))
    signals = [row.signal for row in rows]
    assert signals.count("STARTED") == (2 if in_full else 1)
    assert ("(wait)" in signals) is in_full
    assert list(board.rows) == rows
    assert board.opened_ms == example_session.OPENED_MS
    assert board.at_ms == 40_000


def test_records_say_who_waits_and_which_questions_are_open() -> None:
    def asked(id_: str, state: EscalationState) -> Question:
        return Question("s", id_, EscalationRecord(state, "go on?", "A"))

    agents = {
        "A": AgentRecord(AgentStatus.BLOCKED, 1, waits_for=["schema"]),
        "B": AgentRecord(AgentStatus.BLOCKED, 1),
    }
    claims = {"1:B": ClaimRecord("B", ClaimState.WAITING, ["config.py"])}
    both = [asked("1", EscalationState.DECIDED), asked("2", EscalationState.OPEN)]
    board = Board("s")
    assert not board.has_ended
    board.take_records(agents, claims, {}, both)
    assert board.waits == {"A": ["schema"], "B": ["config.py"]}
    assert [one.id for one in board.questions] == ["2"]
    assert not board.has_ended
    ended = {name: AgentRecord(AgentStatus.COMPLETED, 1) for name in agents}
    board.take_records(ended, {}, {}, [])
    assert board.has_ended
