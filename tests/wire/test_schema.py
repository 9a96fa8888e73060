"""The JSON Schema accepts the documents that the fabric accepts, and no others."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fabric.client.emitter import prepare
from fabric.core.signal import PAYLOADS, SignalType
from fabric.errors import SignalError
from fabric.wire.schema import document_schema, payload_schema

WHO = {"session": "s", "emitter": "A", "stream": "A"}

#: Documents in both long spellings.
SEEDS: list[dict[str, Any]] = [
    {
        "signal": "PROGRESS",
        "percent": 50,
        "checkpoint": "files_analyzed",
        "partial": {"files_found": 12, "patterns_matched": 3},
        "next_checkpoint": "tests_verified",
    },
    {
        "signal_type": "DEPENDENCY_RESOLVED",
        "emitter": "ARCHITECT",
        "stream": "A",
        "timestamp": "2025-12-30T19:30:00Z",
        "payload": {
            "dependency_id": "schema-migration",
            "output_location": "alembic/versions/xyz.py",
            "consumers": ["SCHEDULER", "QA_TESTER"],
        },
    },
]

#: Shorthands.
EXAMPLE = [
    "STARTED",
    "PROGRESS(25%)",
    "BLOCKED(schema-change)",
    "DEPENDENCY_RESOLVED(schema-change)",
    "CHECKPOINT_REACHED",
    "CONFLICT_DETECTED",
    "INTEGRATION_REQUIRED",
    "COMPLETED",
]

GOOD: list[dict[str, Any]] = [
    *SEEDS,
    *({"type": word} for word in EXAMPLE),
    {"type": "STARTED", "task": "t", "seq": 1, "incarnation": "2", "trace": "00-a-b-01"},
    {"type": "STARTED", "produces": ["x"], "payload": {"reads": ["y"], "kept": {"deep": [1]}}},
    {"type": "STARTED", "payload": None, "stream": ""},
    {"type": "BLOCKED", "payload": {"on": "x"}},
    {"signal": "BLOCKED", "on": "x", "mine": 1},
    {"signal_type": "PARTIAL_RESULT", "partial": {"findings": [{"key": "k", "value": None}]}},
    {"type": "INTENT(a.py, b.py)"},
    {"type": "ESCALATE(Which schema?)", "options": ["v1", "v2"]},
    {"type": "DECIDED", "escalation": "7-0", "decision": "v1"},
    {"type": "PARTIAL_RESULT", "partial": {"findings": [{"key": "k", "withdrawn": True}]}},
    {"type": "PARTIAL_RESULT", "partial": {"findings": [{"path": "a.py", "line": "4", "x": 1}]}},
    {"type": "PARTIAL_RESULT", "partial": {"findings": [{"rule": "r", "withdrawn": True}]}},
]

BAD: list[dict[str, Any]] = [
    {},
    {"type": "NOTHING"},
    {"type": 5},
    {"type": "started"},
    {"type": "BLOCKED"},
    {"type": "BLOCKED", "payload": {}},
    {"type": "BLOCKED()"},
    {"type": "HEARTBEAT(x)"},
    {"type": "PROGRESS(x%)"},
    {"type": "PROGRESS", "percent": 101},
    {"type": "PROGRESS", "payload": {"percent": "half"}},
    {"type": "PROGRESS", "payload": [1]},
    {"type": "BLOCKED", "on": "a\nb"},
    {"type": "STARTED", "session": "a:b"},
    {"type": "STARTED", "emitter": "x" * 513},
    {"type": "STARTED", "seq": -1},
    {"type": "STARTED", "seq": "x"},
    {"type": "STARTED", "produces": "x"},
    {"type": "PARTIAL_RESULT", "partial": {"findings": [{"key": "k"}]}},
    {
        "type": "PARTIAL_RESULT",
        "partial": {"findings": [{"key": "k", "value": 1, "withdrawn": True}]},
    },
    {
        "type": "PARTIAL_RESULT",
        "partial": {"findings": [{"key": "k", "value": 1, "confidence": 2}]},
    },
]

ANY = Draft202012Validator(document_schema())


def is_accepted(document: dict[str, Any]) -> bool:
    try:
        prepare(document, WHO)
    except SignalError:
        return False
    return True


@pytest.mark.parametrize("kind", SignalType)
def test_every_schema_is_one(kind: SignalType) -> None:
    Draft202012Validator.check_schema(document_schema(kind))
    Draft202012Validator.check_schema(payload_schema(kind))
    assert set(payload_schema(kind)["properties"]) == {*PAYLOADS[kind].__struct_encode_fields__}


def test_the_whole_schema_is_one() -> None:
    Draft202012Validator.check_schema(document_schema())


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_what_is_accepted_is_valid(document: dict[str, Any]) -> None:
    assert is_accepted(document)
    ANY.validate(document)
    word = next(document[field] for field in ("type", "signal", "signal_type") if field in document)
    kind = SignalType(word.partition("(")[0])
    Draft202012Validator(document_schema(kind)).validate(document)


@pytest.mark.parametrize("document", BAD, ids=str)
def test_what_is_refused_is_not_valid(document: dict[str, Any]) -> None:
    assert not is_accepted(document)
    assert not ANY.is_valid(document)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_payloads_of_the_seeds(seed: dict[str, Any]) -> None:
    kind = SignalType(seed.get("signal") or seed["signal_type"])
    payload = seed.get("payload") or {k: v for k, v in seed.items() if k != "signal"}
    Draft202012Validator(payload_schema(kind)).validate(payload)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 102) | st.text("ab:", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["key", "value", "findings", "on"]), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = sorted({f for payload in PAYLOADS.values() for f in payload.__struct_fields__})


@example(SignalType.STARTED, {"task": 0}, None)
@given(
    st.sampled_from(list(SignalType)),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3) | st.none(),
)
def test_nothing_accepted_is_called_invalid(
    kind: SignalType, beside: dict[str, Any], payload: dict[str, Any] | None
) -> None:
    document = {**beside, "signal": kind.value, "payload": payload}
    if is_accepted(document):
        assert ANY.is_valid(document), document
