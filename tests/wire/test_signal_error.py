"""The messages about common mistakes."""

from typing import Any

import pytest

from fabric.wire import signal_error
from tests.support.entry import flat, refusal

NAME = "text of 1 to 512 characters, none of them a control character"

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"type": "PROGRESS", "percent": "250"}, "percent: got 250; allowed: a number, 0 to 100"),
    ({"type": "PROGRESS(half)"}, "percent: got 'half'; allowed: a number, 0 to 100"),
    (
        {"type": "BLOCKED"},
        f"on: got nothing; allowed: {NAME} (BLOCKED needs it)",
    ),
    (
        {"type": "BLOCKED", "payload": '{"on": 5}'},
        f"on: got 5; allowed: {NAME}",
    ),
    (
        {"type": "STARTED", "payload": '{"produces": "schema"}'},
        f"produces: got 'schema'; allowed: a list of at most 1000 items: each {NAME}",
    ),
    (
        {"type": "STARTED", "priority": "high"},
        "priority: got 'high'; allowed: a whole number, -1000000 to 1000000",
    ),
    (
        {"type": "FAILED", "payload": '{"retryable": "yes"}'},
        "retryable: got 'yes'; allowed: true or false",
    ),
    (
        {"type": "PARTIAL_RESULT", "payload": '{"partial": {"findings": [{"value": 1}]}}'},
        "partial.findings[0]: got {'value': 1}; "
        "allowed: a `key`, or one of `path`, `rule`, `title` and `message`",
    ),
    (
        {
            "type": "PARTIAL_RESULT",
            "payload": '{"partial": {"findings": [{"key": "k", "value": 1, "confidence": 80}]}}',
        },
        "partial.findings[0].confidence: got 80; allowed: a number, 0 to 1",
    ),
    (
        {"type": "PARTIAL_RESULT", "payload": '{"partial": ["a"]}'},
        "partial: got ['a']; allowed: a JSON object",
    ),
    (
        {"type": "ESCALATE", "payload": '{"question": "?", "default": "a"}'},
        "payload: got {'question': '?', 'default': 'a'}; allowed: "
        "`deadline_ms` beside `default`, which is the answer at the deadline",
    ),
    ({"type": "PROGRESS", "payload": "5"}, "payload: got 5; allowed: a JSON object"),
    (
        {"type": "PROGRESS", "payload": "{'percent': 5}"},
        "payload: got \"{'percent': 5}\"; allowed: a JSON object "
        "(JSON is malformed: object keys must be strings (byte 1))",
    ),
    (
        {"type": "PROGRESS", "session": None},
        "session: got nothing; allowed: a name; every signal has one",
    ),
    (
        {"type": "PROGRESS", "at": "2025-12-30 19:30"},
        "at: got '2025-12-30 19:30'; allowed: RFC 3339 with an offset: 2025-12-30T19:30:00Z",
    ),
    (
        {"type": "PROGRESS", "seq": "x1"},
        "seq: got 'x1'; allowed: a whole number, 0 to 9007199254740991",
    ),
    (
        {"type": "PROGRESS(25%)", "percent": "50"},
        "percent: got 50 and 25; allowed: one value",
    ),
]


@pytest.mark.parametrize(("fields", "sentence"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_the_message(fields: dict[str, Any], sentence: str) -> None:
    assert str(refusal(flat(**fields))) == sentence


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("PROGRES", "PROGRESS"),
        ("progress(25%)", "PROGRESS"),
        ("CHECKPOINT-REACHED", "CHECKPOINT_REACHED"),
    ],
)
def test_a_misspelt_type_is_recognised(typed: str, meant: str) -> None:
    assert refusal(flat(type=typed)).allowed.startswith(f"{meant} (perhaps), or one of STARTED, ")


def test_a_type_that_is_like_no_other_gets_the_list() -> None:
    assert refusal(flat(type="QQ")).allowed.startswith("STARTED, PROGRESS, PARTIAL_RESULT, ")


def test_what_is_shown_is_one_bounded_line() -> None:
    assert signal_error.shown("a\nb\x1b[2J") == r"'a\nb\x1b[2J'"
    assert signal_error.shown(b"text") == "'text'"
    assert signal_error.shown(b"\xff") == r"b'\xff'"
    assert signal_error.shown("x" * 100) == "'" + "x" * 79 + "… (102)"
    assert signal_error.shown_name("mine") == "mine"
    assert signal_error.shown_name("") == "''"
    assert signal_error.shown_name("a\nb") == r"'a\nb'"
    assert len(signal_error.shown_name("x" * 10_000)) < 100
