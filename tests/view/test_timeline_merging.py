"""Merged rows: the example session, limits, and no difference at page boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.view.text import CELL_CHARS_MAX, clock
from fabric.view.timeline import MERGE_MS, Row, RowMerger, Timeline, merge
from tests.support import example_session


def row(signal: str, agent: str = "A", ms: int = 0, action: str = "", stream: str = "") -> Row:
    return Row("1-0", ms, signal, (stream or agent,), (agent,), action or f"{agent} acts", False)


def shown(rows: list[Row]) -> list[tuple[str, str, str]]:
    return [(row.signal, row.stream, row.action) for row in rows]


@pytest.mark.parametrize("derived", [False, True], ids=["detector", "intents"])
def test_the_example_row_for_row(derived: bool) -> None:
    timeline = Timeline()
    rows = [
        found
        for entry in example_session.logged(derived=derived)
        if (found := timeline.row(*entry))
    ]
    merged = merge(row for row in rows if not row.is_detail)
    assert [
        (clock(row.ms, example_session.OPENED_MS), row.signal, row.stream) for row in merged
    ] == example_session.ROWS
    actions = {row.signal: row.action for row in merged}
    assert actions["STARTED"] == "A begins work; B begins work"
    assert actions["CONFLICT_DETECTED"] == "A, B want config.py"
    assert actions["(barrier)"] == "A, B continue to their next checkpoint, for release"
    assert actions["COMPLETED"] == "A is done; B is done"


def test_what_the_example_leaves_out() -> None:
    timeline = Timeline()
    rows = [
        found for entry in example_session.logged(derived=True) if (found := timeline.row(*entry))
    ]
    assert [(row.signal, row.stream) for row in rows if row.is_detail] == [
        ("(nudge)", "A"),
        ("INTENT", "A"),
        ("(proceed)", "A"),
        ("INTENT", "B"),
        ("(pause)", "A"),
        ("(pause)", "B"),
        ("(wait)", "B"),
        ("(proceed)", "B"),
        ("(integrate)", "D"),
    ]


def test_only_neighbours_of_the_same_signal_are_one() -> None:
    rows = [row("STARTED", "A"), row("BLOCKED(x)", "B"), row("STARTED", "C"), row("STARTED", "D")]
    assert [(found.signal, found.stream) for found in merge(rows)] == [
        ("STARTED", "A"),
        ("BLOCKED(x)", "B"),
        ("STARTED", "C, D"),
    ]
    assert [found.signal for found in merge([row("BLOCKED(x)"), row("BLOCKED(y)")])] == [
        "BLOCKED(x)",
        "BLOCKED(y)",
    ]


def test_the_first_of_them_says_when() -> None:
    """A merged row spans at most MERGE_MS, however many rows follow each other closely."""
    times = [0, MERGE_MS // 2, MERGE_MS, MERGE_MS + 1, 2 * MERGE_MS + 1, 2 * MERGE_MS + 2]
    assert [found.ms for found in merge(row("STARTED", ms=ms) for ms in times)] == [
        0,
        MERGE_MS + 1,
        2 * MERGE_MS + 2,
    ]


def test_each_stream_and_agent_is_named_once() -> None:
    rows = [row("PARTIAL_RESULT", agent, stream="S") for agent in "ABAA"]
    (found,) = merge(rows)
    assert (found.stream, found.agent) == ("S", "A, B")
    assert found.action == "A acts (3 times); B acts"


def test_500_agents_are_a_row_within_bounds() -> None:
    (found,) = merge(row("STARTED", f"AGENT-{n}") for n in range(500))
    assert found.action.startswith("AGENT-0 acts; AGENT-1 acts; ")
    named = found.action.count(" acts")
    assert found.action.endswith(f"; and {500 - named} more")
    assert found.stream.startswith("AGENT-0, AGENT-1, ")
    for text in (found.stream, found.agent, found.action):
        assert len(text) <= CELL_CHARS_MAX


def test_a_long_action_leaves_room_for_the_number_of_others() -> None:
    (found,) = merge(row("FAILED", action="x" * CELL_CHARS_MAX) for _ in range(2))
    assert len(found.action) == CELL_CHARS_MAX
    actions = [f"{letter * CELL_CHARS_MAX}" for letter in "xyz"]
    (found,) = merge(row("FAILED", action=action) for action in actions)
    assert found.action.endswith("x…; and 2 more")
    assert len(found.action) == CELL_CHARS_MAX


def test_a_row_is_held_back_until_the_next_or_a_flush() -> None:
    merger = RowMerger()
    assert merger.feed([row("STARTED", "A")]) == []
    assert merger.feed([row("STARTED", "B")]) == []
    (found,) = merger.feed([row("COMPLETED", "A")])
    assert (found.signal, found.stream) == ("STARTED", "A, B")
    assert shown(merger.flush()) == [("COMPLETED", "A", "A acts")]
    assert merger.flush() == []
    assert merger.feed([row("COMPLETED", "B")]) == []
    assert shown(merger.flush()) == [("COMPLETED", "B", "B acts")]


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from(["STARTED", "COMPLETED"]),
        st.sampled_from("ABC"),
        st.integers(0, 3 * MERGE_MS),
    ),
    max_size=12,
)


@given(ROWS, st.integers(1, 5))
def test_where_pages_end_is_not_seen(rows: list[Row], size: int) -> None:
    merger = RowMerger()
    found = [
        done
        for start in range(0, len(rows), size)
        for done in merger.feed(rows[start : start + size])
    ]
    assert [*found, *merger.flush()] == merge(rows)
