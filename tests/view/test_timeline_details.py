"""Details of a timeline: rows left out because the rows around them imply them."""

import pytest

from fabric.view.timeline import Timeline
from tests.support.example_session import directive, entry, signal


@pytest.mark.parametrize(
    ("flat", "is_detail"),
    [
        (directive("NUDGE", {"on": "x", "waiting": ["A"]}), True),
        (directive("WAIT", {"resources": ["a"]}), True),
        (directive("PAUSE", {"resources": ["a"]}), True),
        (directive("PAUSE", {"resources": ["a"], "barrier": "release"}), False),
        (directive("PAUSE", {"barrier": "release"}), False),
        (directive("PAUSE", {"reason": "by hand"}), False),
        (directive("PROCEED", {"resources": ["a"]}), True),
        (directive("PROCEED", {"resources": ["a"], "waiting": 0}), True),
        (directive("PROCEED", {"resources": ["a"], "waiting": "many"}), True),
        (directive("PROCEED", {"resources": ["a"], "waiting": 2}), False),
        (directive("PROCEED", {"resources": [], "barrier": "release", "waiting": 2}), True),
        (signal("INTENT", {"writes": ["a"]}), True),
        (signal("RELEASE"), True),
        (entry("refused", "INTENT", emitter="A", reason="why"), False),
        (entry("refused", "RELEASE", emitter="A", reason="why"), False),
        (directive("RESUME", {"resources": ["a"]}), False),
        (directive("CANCEL", {}), False),
        (directive("DECISION", {}), False),
        (directive("ASSIGN", {}), False),
        (directive("NOTICE", {}), False),
        (directive("NEWS", {}), False),
        (signal("ESCALATE"), False),
        (entry("derived", "ESCALATE", {}, to="A"), False),
        (signal("BLOCKED", {"on": "x"}), False),
        (entry("derived", "OUTAGE", outage_ms="9000"), False),
        # Each start of the server begins new ones, and their numbers have sixteen digits.
        (entry("derived", "TOKENS", token="3766675185825792"), True),
    ],
)
def test_what_is_a_detail(flat: list[bytes], is_detail: bool) -> None:
    found = Timeline().row(b"1-0", flat)
    assert found is not None
    assert found.is_detail is is_detail


@pytest.mark.parametrize(
    ("told", "cause", "is_detail"),
    [("SCHEDULER", "1-0", True), ("SCHEDULER", "2-0", False), ("QA", "1-0", False)],
    ids=["the same event", "another event", "another agent"],
)
def test_who_resumes_need_not_be_told_to_proceed(told: str, cause: str, is_detail: bool) -> None:
    timeline = Timeline()
    timeline.row(b"1-1", directive("RESUME", {"resources": ["a"]}, cause="1-0"))
    timeline.row(b"1-2", directive("WAIT", {"resources": ["a"]}, to="C", cause="1-0"))
    contended = {"resources": ["a"], "waiting": 1}
    found = timeline.row(b"1-3", directive("PROCEED", contended, to=told, cause=cause))
    assert found is not None
    assert (found.signal, found.is_detail) == ("(serialize)", is_detail)
