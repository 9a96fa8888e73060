"""The other spellings, exactly as specified and in common variations."""

import json
from typing import Any

import pytest

from fabric.core.limits import PAYLOAD_BYTES_MAX
from fabric.core.signal import (
    Blocked,
    DependencyResolved,
    Intent,
    PartialResult,
    Progress,
    SignalType,
    Started,
)
from fabric.errors import SignalError
from fabric.wire.entry import decode
from fabric.wire.spelling import canonical, encode
from tests.support.entry import checked, flat, heard, payload, read, refusal

#: The result streaming form, exactly as specified.
RESULT_STREAMING = """\
{
  "signal": "PROGRESS",
  "percent": 50,
  "checkpoint": "files_analyzed",
  "partial": {
    "files_found": 12,
    "patterns_matched": 3
  },
  "next_checkpoint": "tests_verified"
}
"""

#: The propagation form, exactly as specified.
SIGNAL_PROPAGATION = """\
{
  "signal_type": "DEPENDENCY_RESOLVED",
  "emitter": "ARCHITECT",
  "stream": "A",
  "timestamp": "2025-12-30T19:30:00Z",
  "payload": {
    "dependency_id": "schema-migration",
    "output_location": "alembic/versions/xyz.py",
    "consumers": ["SCHEDULER", "QA_TESTER"]
  }
}
"""


def test_the_result_streaming_form() -> None:
    signal = heard(json.loads(RESULT_STREAMING))
    assert signal.type is SignalType.PROGRESS
    assert isinstance(signal.payload, Progress)
    assert signal.payload.percent == 50
    assert signal.payload.checkpoint == "files_analyzed"
    assert signal.payload.next_checkpoint == "tests_verified"
    assert payload(signal)["partial"] == {"files_found": 12, "patterns_matched": 3}


def test_the_propagation_form() -> None:
    signal = heard(json.loads(SIGNAL_PROPAGATION))
    assert signal.type is SignalType.DEPENDENCY_RESOLVED
    assert (signal.emitter, signal.stream) == ("ARCHITECT", "A")
    assert signal.payload == DependencyResolved(
        "schema-migration", "alembic/versions/xyz.py", ["SCHEDULER", "QA_TESTER"]
    )
    kept = dict(zip(signal.names, signal.values, strict=True))
    assert kept[b"at"] == b"2025-12-30T19:30:00Z"


def test_both_forms_as_stream_fields() -> None:
    """A script can turn each key of the document into a field."""
    for text in (RESULT_STREAMING, SIGNAL_PROPAGATION):
        document = json.loads(text)
        fields = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in document.items()
        }
        signal = decode(flat(**fields))
        assert signal.payload == heard(document).payload
        assert payload(signal) == payload(heard(document))


def test_both_forms_at_once() -> None:
    """Agents that have read about both put the fields of one into the payload of the other."""
    document = {"signal_type": "PROGRESS", "payload": {"percent": 50}, "checkpoint": "files_read"}
    assert heard(document).payload == Progress(percent=50, checkpoint="files_read")


SHORTHAND: list[tuple[str, dict[str, Any]]] = [
    # Shorthands of the example session.
    ("STARTED", {}),
    ("PROGRESS(25%)", {"percent": 25}),
    ("BLOCKED(schema-change)", {"on": "schema-change"}),
    ("CHECKPOINT_REACHED", {}),
    ("CONFLICT_DETECTED", {}),
    ("INTEGRATION_REQUIRED", {}),
    ("COMPLETED", {}),
    (
        "DEPENDENCY_RESOLVED(output_id, consumers)",
        {"dependency_id": "output_id", "consumers": ["consumers"]},
    ),
    # The same for the other types.
    ("STARTED(Review auth module)", {"task": "Review auth module"}),
    ("PROGRESS(25)", {"percent": 25}),
    ("PROGRESS( 62.5 % )", {"percent": 62.5}),
    ("PROGRESS()", {}),
    ("FAILED(disk full (again))", {"error": "disk full (again)"}),
    ("CHECKPOINT_REACHED(tests_validated)", {"checkpoint": "tests_validated"}),
    ("DEPENDENCY_RESOLVED(schema)", {"dependency_id": "schema"}),
    ("DEPENDENCY_RESOLVED(schema, [A, B])", {"dependency_id": "schema", "consumers": ["A", "B"]}),
    ("CONFLICT_DETECTED(config.py, auth.py)", {"resources": ["config.py", "auth.py"]}),
    ("INTEGRATION_REQUIRED(release)", {"name": "release"}),
    ("ESCALATE(Which schema, v1 or v2?)", {"question": "Which schema, v1 or v2?"}),
    ("INTENT(config.py, src/**)", {"writes": ["config.py", "src/**"]}),
    ("RELEASE(config.py)", {"resources": ["config.py"]}),
    ("INTEGRATED(release)", {"name": "release"}),
    # Names in the brackets: a file was locked under the name `writes=a.py`, and a wait for
    # `on=schema` never ended.
    ("INTENT(writes=a.py)", {"writes": ["a.py"]}),
    ("INTENT(writes=a.py, reads=b.py,c.py)", {"writes": ["a.py"], "reads": ["b.py", "c.py"]}),
    ("INTENT(a.py, b.py, reads = c.py)", {"writes": ["a.py", "b.py"], "reads": ["c.py"]}),
    ("INTENT(date=2026-11-30/a.csv)", {"writes": ["date=2026-11-30/a.csv"]}),
    ("INTENT(writes=a.py reads=b.py)", {"writes": ["a.py"], "reads": ["b.py"]}),
    ("BLOCKED(on=schema)", {"on": "schema"}),
    ("PROGRESS(percent=25%)", {"percent": 25}),
    ("PROGRESS(25%, checkpoint=draft)", {"percent": 25, "checkpoint": "draft"}),
    ("HEARTBEAT(expect_ms=5000)", {"expect_ms": 5000}),
    ("ESCALATE(Which one, options=none?)", {"question": "Which one, options=none?"}),
    (
        'ESCALATE(question=v1 or v2?, options=["v1", "v2"])',
        {"question": "v1 or v2?", "options": ["v1", "v2"]},
    ),
    ("FAILED(error=disk full, retryable=true)", {"error": "disk full", "retryable": True}),
]


@pytest.mark.parametrize(("text", "said"), SHORTHAND, ids=[text for text, _ in SHORTHAND])
@pytest.mark.parametrize("field", ["type", "signal", "signal_type"])
def test_shorthand(text: str, said: dict[str, Any], field: str) -> None:
    assert payload(read(**{field: text})) == said
    assert payload(heard({field: text})) == said


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("INTENT(write=a.py)", "writes"),
        ("INTENT(a.py, read=b.py)", "reads"),
        ("BLOCKED(onn=x)", "on"),
        ("PROGRESS(25%, chekpoint=draft)", "checkpoint"),
        ("DEPENDENCY_RESOLVED(schema, location=x.py)", "output_location"),
        ("STARTED(produce=x)", "produces"),
    ],
)
def test_a_slip_in_a_name_is_refused(text: str, meant: str) -> None:
    """It would be a file's name, or a wait for something that nobody gives."""
    error = refusal(flat(type=text))
    assert error.allowed.startswith(f"{meant}, a field of ")


def test_a_shorthand_with_two_values_for_one_field_is_refused() -> None:
    assert refusal(flat(type="INTENT(a.py, writes=b.py)")).reason_code == "AMBIGUOUS"


@pytest.mark.parametrize("kind", ["HEARTBEAT", "COMPLETED", "PARTIAL_RESULT", "EARLY_COMPLETION"])
def test_shorthand_for_what_has_none_is_refused(kind: str) -> None:
    error = refusal(flat(type=f"{kind}(now)"))
    assert error.given == f"'{kind}(now)'"
    assert error.allowed == f"{kind}, with nothing in brackets"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "PROGRESS", "percent": "50%"}, Progress(percent=50)),
        ({"type": "PROGRESS", "percent": "50", "checkpoint": "7"}, Progress(50, "7")),
        ({"type": "STARTED", "task": "null", "priority": "5"}, Started(priority=5)),
        ({"type": "STARTED", "task_type": "null"}, Started(task_type="null")),
        ({"type": "STARTED", "writes": "config.py"}, Started(writes=["config.py"])),
        ({"type": "STARTED", "writes": '["a", "b"]'}, Started(writes=["a", "b"])),
        ({"type": "INTENT", "reads": "[draft].md"}, Intent(reads=["[draft].md"])),
        ({"type": "BLOCKED", "on": '["a"]', "reason": "[late]"}, Blocked('["a"]', "[late]")),
    ],
)
def test_flat_fields_are_read_as_their_type_takes_them(
    fields: dict[str, str], expected: object
) -> None:
    assert read(**fields).payload == expected


def test_a_flat_partial_is_a_document() -> None:
    signal = read(type="PARTIAL_RESULT", partial='{"findings":[{"key":"k","value":1}],"n":2}')
    assert isinstance(signal.payload, PartialResult)
    assert payload(signal)["partial"]["n"] == 2


def test_what_no_spelling_names_is_kept() -> None:
    signal = read(type="PROGRESS", percent="5", mine="yes", more='{"a": [1, 2]}', odd="{not json")
    assert payload(signal) == {
        "percent": 5,
        "mine": "yes",
        "more": {"a": [1, 2]},
        "odd": "{not json",
    }
    assert payload(heard({"signal": "PROGRESS", "mine": [1, {"a": None}]})) == {
        "mine": [1, {"a": None}]
    }


NOON = "2025-12-30T12:00:00Z"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "PROGRESS(25%)", "percent": "50"}, "percent"),
        ({"type": "BLOCKED(a)", "payload": '{"on": "b"}'}, "on"),
        ({"type": "PROGRESS", "payload": '{"mine": 1}', "mine": "2"}, "mine"),
        ({"type": "PROGRESS", "signal": "FAILED"}, "type"),
        ({"type": "PROGRESS", "timestamp": NOON, "at": NOON.replace("12:", "13:")}, "at"),
    ],
)
def test_two_spellings_that_disagree_are_refused(fields: dict[str, str], field: str) -> None:
    error = refusal(flat(**fields))
    assert (error.reason_code, error.field) == ("AMBIGUOUS", field)


def test_two_spellings_that_agree_are_fine() -> None:
    both = read(
        type="PROGRESS(25%)", signal="PROGRESS(25%)", percent="25", payload='{"percent":25}'
    )
    assert both.payload == Progress(percent=25)


def test_a_flat_value_is_no_larger_than_a_payload() -> None:
    error = refusal(flat(type="PROGRESS", mine="x" * (PAYLOAD_BYTES_MAX + 1)))
    assert (error.reason_code, error.field) == ("LIMIT", "mine")
    assert refusal(flat(type="PROGRESS", mine="x" * (PAYLOAD_BYTES_MAX - 5))).field == "payload"


def recursive() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"signal": "PROGRESS", "mine": object()}, "payload"),
        ({"signal": "PROGRESS", "mine": "\ud800"}, "payload"),
        ({"signal": "PROGRESS", "mine": 10**5_000}, "payload"),
        ({"signal": "PROGRESS", "mine": recursive()}, "payload"),
        ({"signal": "PROGRESS", "emitter": "\ud800"}, "emitter"),
        ({"signal": "PROGRESS", "emitter": 5.5}, "emitter"),
        ({"signal": "PROGRESS", "seq": True}, "seq"),
        ({"signal": "PROGRESS", "payload": [1]}, "payload"),
        ({"signal": "PROGRESS", "payload": recursive()}, "payload"),
        ({"signal": recursive()}, "type"),
        ({"signal": 5}, "type"),
        ({"signal": "PROGRESS(" + "[" * 10_000 + ")"}, "percent"),
        ({"signal": "PROGRESS", "x" * 10_000: 1, "payload": {"x" * 10_000: 2}}, None),
        ({"percent": 5}, "type"),
    ],
)
def test_a_document_that_no_entry_can_hold_is_refused(
    document: dict[str, Any], field: str | None
) -> None:
    with pytest.raises(SignalError) as caught:
        heard(document)
    error = checked(caught.value)
    assert field is None or error.field == field


def test_nothing_that_a_number_can_be_is_taken_for_ambiguous() -> None:
    """NaN is not equal to itself; JSON cannot represent it, so it is refused by name."""
    with pytest.raises(SignalError, match="percent: got NaN"):
        heard({"signal": "PROGRESS", "percent": float("nan")})


def test_a_canonical_document_is_left_alone() -> None:
    document = {"type": "BLOCKED", "session": "s", "emitter": "A", "payload": {"on": "x"}}
    assert canonical(document) == document
    assert decode(encode(document)).payload == Blocked("x")
