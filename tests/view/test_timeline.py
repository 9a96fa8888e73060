"""Rows of a timeline, from anything that a log can hold."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.directive import DirectiveType
from fabric.core.signal import SignalType
from fabric.view.text import CELL_CHARS_MAX, clock
from fabric.view.timeline import Row, Timeline, shorthand
from tests.support.example_session import directive, entry, signal


def row(flat: list[bytes]) -> Row | None:
    return Timeline({"SCHEDULER": "B"}).row(b"1-0", flat)


@pytest.mark.parametrize(
    ("flat", "shown", "stream", "action"),
    [
        (signal("STARTED"), "STARTED", "A", "ARCHITECT begins work"),
        (signal("SAME_AS", {"keys": ["A", "B"]}), "SAME_AS", "A", "ARCHITECT: B is the same as A"),
        (
            signal("SAME_AS", {"keys": ["A", "B", "C"], "distinct": True}),
            "SAME_AS",
            "A",
            "ARCHITECT: B, C are not the same as A",
        ),
        (signal("STARTED", {"task": "t"}), "STARTED", "A", "ARCHITECT begins work on t"),
        (signal("STARTED", {}, task="t"), "STARTED", "A", "ARCHITECT begins work on t"),
        (signal("PROGRESS", {"percent": 25}), "PROGRESS(25%)", "A", "ARCHITECT reports progress"),
        (
            signal("PROGRESS", {"percent": 33.5, "checkpoint": "c"}),
            "PROGRESS(33.5%)",
            "A",
            "ARCHITECT reports progress: c",
        ),
        (
            signal("BLOCKED", {"on": "schema-change", "reason": "why"}),
            "BLOCKED(schema-change)",
            "A",
            "ARCHITECT needs schema-change: why",
        ),
        (
            signal("DEPENDENCY_RESOLVED", {"dependency_id": "x", "output_location": "here"}),
            "DEPENDENCY_RESOLVED",
            "A",
            "ARCHITECT completes x: here",
        ),
        (
            signal(
                "CONFLICT_DETECTED",
                {"agents": ["SCHEDULER", "ARCHITECT", "NEW"], "resources": ["config.py"]},
            ),
            "CONFLICT_DETECTED",
            "B, A",
            "SCHEDULER, ARCHITECT, NEW want config.py",
        ),
        (
            signal("CONFLICT_DETECTED", {"resources": ["config.py"]}),
            "CONFLICT_DETECTED",
            "A",
            "ARCHITECT reports a conflict: config.py",
        ),
        (
            signal("INTENT", {"writes": ["a"], "reads": ["b", "c"]}),
            "INTENT",
            "A",
            "ARCHITECT is about to write a and read b, c",
        ),
        (signal("RELEASE"), "RELEASE", "A", "ARCHITECT releases everything"),
        (signal("FAILED", {"error": "disk full"}), "FAILED", "A", "ARCHITECT fails: disk full"),
        (
            directive("RESUME", {"reason": "r", "dependency": "x"}),
            "(auto-resume)",
            "B",
            "SCHEDULER continues: x is there",
        ),
        (
            directive("RESUME", {"reason": "r", "resources": ["config.py"]}),
            "(resume)",
            "B",
            "SCHEDULER continues with config.py",
        ),
        (
            directive("RESUME", {"reason": "r", "barrier": "release"}),
            "(resume)",
            "B",
            "SCHEDULER continues: the integration release is over",
        ),
        (
            directive("PROCEED", {"resources": ["config.py"], "token": 7, "waiting": 1}),
            "(serialize)",
            "B",
            "SCHEDULER gets config.py (token 7)",
        ),
        (
            directive("PROCEED", {"resources": ["config.py"], "token": 7}),
            "(proceed)",
            "B",
            "SCHEDULER gets config.py (token 7)",
        ),
        (
            directive("PROCEED", {"resources": [], "barrier": "release"}),
            "(integrate)",
            "B",
            "SCHEDULER integrates release",
        ),
        (
            directive("WAIT", {"resources": ["a"], "holder": "X", "position": 2, "ahead": []}),
            "(wait)",
            "B",
            "SCHEDULER waits for a, which X has (position 2)",
        ),
        (
            directive("PAUSE", {"reason": "conflict", "resources": ["a"]}),
            "(pause)",
            "B",
            "SCHEDULER pauses: conflict",
        ),
        (
            directive("PAUSE", {"barrier": "release"}),
            "(barrier)",
            "B",
            "SCHEDULER continues to its next checkpoint, for release",
        ),
        (
            directive("PAUSE", {"barrier": "release", "members": ["NEW", "SCHEDULER"]}, to="*"),
            "(barrier)",
            "B",
            "NEW, SCHEDULER continue to their next checkpoint, for release",
        ),
        (
            directive("PAUSE", {"barrier": "release"}, to="*"),
            "(barrier)",
            "",
            "all continue to their next checkpoint, for release",
        ),
        (
            directive("NUDGE", {"on": "x", "waiting": ["A", "B"]}),
            "(nudge)",
            "B",
            "SCHEDULER is told that A, B needs x",
        ),
        (
            directive("ASSIGN", {"task": "t", "from_stream": "C"}),
            "(assign)",
            "B",
            "SCHEDULER is offered t of C",
        ),
        (directive("CANCEL", {"reason": "r"}), "(cancel)", "B", "SCHEDULER must stop: r"),
        (
            directive("CANCEL", {"dependency": "x", "reason": "r"}),
            "(cancel)",
            "B",
            "SCHEDULER is refused x: r",
        ),
        (
            directive("CANCEL", {"resources": ["a", "b"]}),
            "(cancel)",
            "B",
            "SCHEDULER is refused a, b",
        ),
        (
            directive("DECISION", {"escalation": "1", "decision": "v1", "by": "Ann"}),
            "(decision)",
            "B",
            "SCHEDULER gets the answer: v1, from Ann",
        ),
        (
            directive("NOTICE", {"code": "STALE", "reason": "a has changed"}),
            "(notice)",
            "B",
            "SCHEDULER is told: a has changed",
        ),
        (directive("NEWS", {}), "(news)", "B", "SCHEDULER is told NEWS"),
        (
            entry("derived", "ESCALATE", {"question": "Who?"}, to="SCHEDULER", **{"from": "O"}),
            "ESCALATE",
            "",
            "O asks: Who? (to SCHEDULER)",
        ),
        (
            entry("refused", "PROGRESS", emitter="SCHEDULER", code="ENDED", reason="too late"),
            "(refused)",
            "B",
            "PROGRESS of SCHEDULER: too late",
        ),
    ],
)
def test_a_row(flat: list[bytes], shown: str, stream: str, action: str) -> None:
    found = row(flat)
    assert found is not None
    assert (found.signal, found.stream, found.action) == (shown, stream, action)
    assert (found.id, found.ms) == ("1-0", 1000)


@pytest.mark.parametrize(
    "flat",
    [
        signal("HEARTBEAT"),
        entry("derived", "TIMER", timer="undeclared:x"),
        entry("rules", "RULES", {"breaker": 3}),
        entry("directive", "CHECKPOINT_REACHED", None, to="*", cause="1-0", **{"from": "A"}),
    ],
    ids=["heartbeat", "timer", "rules", "passed on"],
)
def test_what_is_no_row(flat: list[bytes]) -> None:
    assert row(flat) is None


def test_the_end_of_a_sentence_with_500_names_is_there() -> None:
    names = [f"AGENT-{n}" for n in range(500)]
    timeline = Timeline({name: f"S{n % 300}" for n, name in enumerate(names)})
    for flat, end in (
        (signal("CONFLICT_DETECTED", {"agents": names, "resources": ["a"]}), "more want a"),
        (directive("PAUSE", {"barrier": "b", "members": names}, to="*"), "checkpoint, for b"),
    ):
        found = timeline.row(b"1-0", flat)
        assert found is not None
        assert found.action.startswith("AGENT-0, AGENT-1, ")
        assert found.action.endswith(end)
        assert found.stream.startswith("S0, S1, ")
        assert len(found.streams) == 300
        assert max(map(len, (found.stream, found.agent, found.action))) <= CELL_CHARS_MAX


def test_the_stream_of_an_agent_is_learned() -> None:
    timeline = Timeline()
    timeline.row(b"1-0", signal("STARTED", emitter="SCHEDULER", stream="C"))
    found = timeline.row(b"2-1", directive("RESUME", {"dependency": "x"}))
    assert found is not None
    assert (found.agent, found.stream) == ("SCHEDULER", "C")


def test_every_signal_and_directive_has_words() -> None:
    for kind in SignalType:
        found = row(signal(kind.value))
        assert found is None or "says" not in found.action
    for told in DirectiveType:
        found = row(directive(told.value, {}))
        assert found is not None
        assert "is told " + told.value not in found.action


def test_tasks_are_named_when_they_are_added() -> None:
    found = row(signal("TASKS_ADDED", {"tasks": [{"id": "T1"}, {"id": "T2"}, "T3"]}))
    assert found is not None
    assert found.action == "ARCHITECT adds T1, T2 to the board"


def test_a_cell_is_one_bounded_line() -> None:
    found = row(signal("FAILED", {"error": "a\x1b[31m\nb" + "x" * 500}))
    assert found is not None
    assert found.action.startswith("ARCHITECT fails: a·[31m b")
    assert len(found.action) == CELL_CHARS_MAX
    assert found.action.isprintable()


@given(
    st.binary(max_size=9),
    st.lists(
        st.sampled_from([b"kind", b"type", b"payload", b"signal", b"directive", b"BLOCKED", b"{"])
        | st.binary(max_size=9),
        max_size=12,
    ),
)
def test_whatever_a_log_holds_gives_a_row_or_none(entry_id: bytes, flat: list[bytes]) -> None:
    found = Timeline().row(entry_id, flat)
    assert found is None or all(cell.isprintable() for cell in (found.signal, found.action))


@given(
    st.sampled_from([*SignalType, *DirectiveType]),
    st.dictionaries(
        st.sampled_from(
            [
                *("on", "percent", "reads", "resources", "agents", "dependency", "token"),
                *("members", "waiting", "barrier"),
            ]
        ),
        st.none()
        | st.integers()
        | st.text()
        | st.lists(st.integers())
        | st.floats(allow_nan=False),
    ),
)
def test_any_payload_gives_a_row(kind: SignalType | DirectiveType, payload: dict[str, Any]) -> None:
    for flat in (signal(kind.value, payload), directive(kind.value, payload)):
        found = row(flat)
        assert found is None or len(found.action) <= CELL_CHARS_MAX


@pytest.mark.parametrize(
    ("ms", "shown"), [(0, "0:00"), (5_999, "0:05"), (75_000, "1:15"), (4_512_000, "75:12")]
)
def test_the_clock_of_the_example(ms: int, shown: str) -> None:
    assert clock(1_000_000 + ms, 1_000_000) == shown
    assert clock(0, 1_000_000) == "0:00"


def test_shorthand_is_what_the_seeds_write() -> None:
    assert shorthand("PROGRESS", {"percent": 25}) == "PROGRESS(25%)"
    assert shorthand("PROGRESS", {}) == "PROGRESS"
    assert shorthand("BLOCKED", {"on": "schema-change"}) == "BLOCKED(schema-change)"
    assert shorthand("STARTED", {"task": "t"}) == "STARTED"
