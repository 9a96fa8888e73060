"""Any bytes give a signal, or a refusal that a person can read, and never anything else."""

import itertools
import json
import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.limits import PAYLOAD_BYTES_MAX
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import PAYLOADS, Signal, SignalType
from fabric.core.step import step
from fabric.errors import SignalError
from fabric.wire import record
from fabric.wire.entry import decode
from fabric.wire.spelling import ENVELOPE, canonical, encode
from tests.support.effort import examples
from tests.support.entry import checked, dead_letter

PAYLOAD_FIELDS = sorted(
    {field.name for struct in PAYLOADS.values() for field in msgspec.structs.fields(struct)}
)
NAMES = [*sorted(ENVELOPE), b"signal", b"signal_type", b"timestamp"] + [
    name.encode() for name in PAYLOAD_FIELDS
]

#: Values that break parsers.
HOSTILE: list[bytes] = [
    *(b"", b"{", b"[", b'"', b"\\", b"null", b"true", b"{}", b"[]", b"*", b"s", b"%", b"50%"),
    *(b"NaN", b"-Infinity", b"-0", b"1e999", b"-1e-999", b"9" * 5_000, b"0." + b"1" * 5_000),
    *(
        b"[" * 10_000,
        b'{"a":' * 10_000,
        b"[" * 500 + b"]" * 500,
        b"PROGRESS(" + b"[" * 5_000 + b")",
    ),
    *(b'"\\ud800"', b'{"on":"\\ud800"}', b"\xff\xfe", b"\xed\xa0\x80", "\ufeff{}".encode()),
    *(b"\x00", b"\r\n", b"\x1b[2J", "\u202e".encode(), b"(", b"()", b"BLOCKED()"),
    *(b'{"percent":250}', b'{"percent":1,"percent":2}', b'{"on":{}}', b"2025-12-30T19:30:00"),
    b'{"partial":{"findings":[{"key":"k","value":1e999}]}}',
]

words = st.sampled_from([kind.value.encode() for kind in SignalType])
texts = (
    st.binary(max_size=30)
    | st.sampled_from(HOSTILE)
    | words
    | st.text(max_size=10).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.integers().map(lambda number: str(number).encode())
)
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=10)
    | st.sampled_from(["*", "x", "s" * 600]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(PAYLOAD_FIELDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(PAYLOAD_FIELDS), documents, max_size=5)


def outcome(entry: list[bytes]) -> Signal | None:
    """Decode an entry; the result can be applied, logged and kept as a dead letter."""
    try:
        signal = decode(list(entry))
    except SignalError as error:
        bury(dead_letter(entry, *record.reason_of(checked(error))), entry)
        return None
    session = SessionState(name=signal.session)
    step(session, signal, Rules(), 1_000)
    step(session, signal, Rules(), 2_000)
    assert msgspec.json.encode(session.agents.records)
    assert msgspec.json.encode(session.tasks.records)
    assert record.logged_signal(signal, 2_000)
    return signal


def bury(letter: list[bytes], entry: list[bytes]) -> None:
    assert record.sent_fields(letter) == entry


@examples(400)
@given(st.lists(st.tuples(st.sampled_from(NAMES) | texts, texts), max_size=12))
def test_noise_in_every_field(pairs: list[tuple[bytes, bytes]]) -> None:
    outcome([part for pair in pairs for part in pair])


@examples(400)
@given(words, st.lists(st.tuples(st.sampled_from(NAMES), texts), max_size=6), objects | st.none())
def test_noise_in_an_entry_that_is_almost_right(
    kind: bytes, pairs: list[tuple[bytes, bytes]], payload: dict[str, Any] | None
) -> None:
    fields = {b"session": b"s", b"emitter": b"A", b"type": kind, **dict(pairs)}
    if payload is not None:
        fields[b"payload"] = spelt(payload)
    outcome([part for pair in fields.items() for part in pair])


@examples(400)
@given(words, documents, st.randoms(use_true_random=False))
def test_noise_in_a_document(kind: bytes, document: Any, chance: random.Random) -> None:
    """As a program passes it: any object, anywhere."""
    given = document if isinstance(document, dict) else {chance.choice(PAYLOAD_FIELDS): document}
    try:
        fields = encode(
            {"session": "s", "emitter": "A", **canonical({"signal": kind.decode(), **given})}
        )
    except SignalError as error:
        checked(error)
        return
    outcome(fields)


@pytest.mark.parametrize("name", ["\x1f", "\x1b[31m", "a\nb", "x" * 10_000])
def test_a_number_that_json_lacks_under_any_name(name: str) -> None:
    with pytest.raises(SignalError) as caught:
        encode({"session": "s", "emitter": "A", "type": "STARTED", "payload": {name: math.inf}})
    checked(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SignalType)
def test_what_breaks_parsers_in_every_field_of_every_type(kind: SignalType) -> None:
    for field, value in itertools.product(NAMES, HOSTILE):
        entry = {b"session": b"s", b"emitter": b"A", b"type": kind.value.encode(), field: value}
        outcome([part for pair in entry.items() for part in pair])


@pytest.mark.parametrize(
    "field", [b"payload", b"type", b"session", b"sig", b"at", b"partial", b"mine"]
)
@pytest.mark.parametrize("unit", [b"x", b"[", b'"', b'\\"', b"\xff", b'{"a":', b"9"], ids=repr)
def test_ten_megabytes_in_one_field(field: bytes, unit: bytes) -> None:
    value = (unit * (10_000_000 // len(unit) + 1))[:10_000_000]
    entry = {b"session": b"s", b"emitter": b"A", b"type": b"PARTIAL_RESULT", field: value}
    assert outcome([part for pair in entry.items() for part in pair]) is None
    assert len(value) > PAYLOAD_BYTES_MAX


@pytest.mark.parametrize(
    "partial",
    [
        {"n": 10**30},
        {"deep": [[10**30]]},
        {"findings": [{"key": "k", "value": {"n": 10**30}}]},
        {"text": "\u2028\u0000\U0001f600" * 100},
        {str(number): number for number in range(1_000)},
    ],
)
def test_a_finding_of_any_kind_gets_its_line(partial: dict[str, Any]) -> None:
    session, rules = SessionState(name="s"), Rules()
    started = decode([b"session", b"s", b"type", b"STARTED(t)", b"emitter", b"A"])
    found = [
        b"session",
        b"s",
        b"type",
        b"PARTIAL_RESULT",
        b"emitter",
        b"A",
        b"partial",
        spelt(partial),
    ]
    step(session, started, rules, 1)
    step(session, decode(found), rules, 2)
    task = session.tasks.get("t")
    assert task is not None
    assert 1 <= len(task.partial_findings) <= 20
    assert all(len(line) <= 160 for line in task.partial_findings)


def spelt(document: Any) -> bytes:
    """Return JSON as other languages write it, with NaN and lone surrogates."""
    return json.dumps(document).encode("utf-8", "surrogatepass")
