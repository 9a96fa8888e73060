"""Every entry of the results stream decodes to a result that can be folded, or to a reason."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.limits import PARTIAL_PARTS_MAX, PAYLOAD_BYTES_MAX
from fabric.core.signal import SignalType
from fabric.core.synthesis.fold import Result
from fabric.core.synthesis.merge import Strategies
from fabric.errors import SignalError
from fabric.wire import entry
from fabric.wire.result import check, decode, session_of
from tests.support.effort import examples
from tests.support.entry import checked
from tests.support.folding import Folding

KINDS = [kind.value for kind in SignalType]

#: A valid entry.
GOOD = {
    **{"session": "s", "type": "PARTIAL_RESULT", "emitter": "A", "stream": "", "incarnation": "1"},
    **{"cause": "7-0", "ms": "7000", "payload": "{}", "percent": "50"},
}
DECIDED = {"part": "findings:k", "decision": "A", "by": "B", "chosen": "00", "rejected": []}

#: Values that break parsers.
NASTY: list[bytes] = [
    *(b"", b"{", b"[", b'"', b"\\", b"null", b"true", b"{}", b"[]", b"5", b'"x"', b"-1", b"1.5"),
    *(b"NaN", b"Infinity", b"1e999", b"1e308", b"-1e308", b"9" * 5_000, b"\xff\xfe", b"\x00", b" "),
    *(b"[" * 10_000, b'{"partial":' * 10_000, b'{"partial":{"a":' + b"[" * 1_000),
    *(b'{"partial":{"a":1e999}}', b'{"partial":{"a":"\\ud800"}}', b'{"partial":{"\\ud800":1}}'),
    *(b'{"partial":{"findings":{}}}', b'{"partial":{"findings":[5]}}', b'{"partial":[1]}'),
    *(b'{"partial":{"findings":[{"key":"","value":1}]}}', b'{"partial":null,"result":5}'),
    *(b'{"error":5}', b'{"partial":\xff}', b'{"partial":{"a":{"b":[[[[null]]]]}}}'),
    *(b'{"partial":{"findings":null}}', b'{"partial":{"":{"":{"":{}}}}}'),
    *(b'{"result":{"findings":[{"key":"k"}]}}', b'{"partial": {"a":1}, "partial": {"a":2}}'),
    *(b"18446744073709551616", b"9007199254740992", b"0", b"0-0", b"7-0-0", "é-0".encode()),
]


def fields_of(**given: Any) -> list[bytes]:
    """Return a valid entry with some fields replaced; None leaves a field out."""
    return [
        item if isinstance(item, bytes) else str(item).encode()
        for name, value in {**GOOD, **given}.items()
        if value is not None
        for item in (name, value)
    ]


def read(fields: list[bytes]) -> Result:
    return decode(fields, Strategies().of)


def outcome(fields: list[bytes]) -> None:
    """Decode an entry; check that the result can be folded, published and patched."""
    try:
        session_of(fields)
        read(fields)
    except SignalError as error:
        checked(error)
        return
    folding = Folding()
    folding.take([fields])
    folding.take([fields])
    assert folding.patched() == folding.document()


def refusal(fields: list[bytes]) -> SignalError:
    with pytest.raises(SignalError) as caught:
        read(fields)
    return checked(caught.value)


def test_who_says_it_when_and_in_which_incarnation() -> None:
    result = read(fields_of(incarnation=3, payload='{"partial":{"n":1}}', percent="12.5"))
    assert result.type is SignalType.PARTIAL_RESULT
    assert msgspec.to_builtins(result.origin) == {
        **{"agent": "A", "incarnation": 3, "log": 7, "ms": 7_000}
    }
    assert (list(result.statements), result.percent) == (["document:/n"], 12.5)


def test_an_agent_may_not_have_said_how_far_it_is() -> None:
    assert read(fields_of(percent="")).percent is None
    assert read(fields_of(percent=None)).percent is None


def test_a_death_that_nobody_told_is_a_failure_of_its_own() -> None:
    payload = '{"error":"silent for 60 s","retryable":true}'
    result = read(fields_of(type="FAILED", payload=payload, silent=1))
    assert (result.error, result.is_silent) == ("silent for 60 s", True)


def test_a_decision_names_a_part_and_what_was_considered() -> None:
    payload = msgspec.json.encode({**DECIDED, "rejected": ["01"], "value": 5})
    part, verdict = read(fields_of(type="DECIDED", payload=payload)).verdict or ("", None)
    assert part == "findings:k"
    assert verdict is not None
    assert (verdict.chosen, verdict.rejected, verdict.log) == ("00", ["01"], 7)


@pytest.mark.parametrize(
    "part", ["", "k", "agents:A", "sweep:A", "revision", "findings", ":", "x:y"]
)
def test_a_decision_about_no_part_is_refused(part: str) -> None:
    payload = msgspec.json.encode({**DECIDED, "part": part})
    assert refusal(fields_of(type="DECIDED", payload=payload)).field == "part"


@pytest.mark.parametrize("kind", ["DECIDED", "REFINED"])
def test_a_decision_that_lacks_something_is_refused(kind: str) -> None:
    refusal(fields_of(type=kind))
    refusal(fields_of(type=kind, payload='{"value":5,"part":5,"refiner":5}'))


def test_by_any_other_signal_an_agent_has_begun() -> None:
    result = read(fields_of(type="CHECKPOINT_REACHED", payload='{"partial":{"n":1}}'))
    assert (result.origin.agent, result.statements) == ("A", {})


@pytest.mark.parametrize("kind", ["", "partial_result", "PARTIAL", "\xff"])
def test_an_unknown_type_is_refused(kind: str) -> None:
    assert refusal(fields_of(type=kind)).field == "type"


@pytest.mark.parametrize("field", ["emitter", "cause", "ms", "type"])
def test_what_every_result_has_must_be_there(field: str) -> None:
    assert refusal(fields_of(**{field: None})).field in (field, "type")


@pytest.mark.parametrize("percent", ["-1", "101", "1e308", "NaN", "half", "[]", '"50"'])
def test_a_percentage_is_one(percent: str) -> None:
    refusal(fields_of(percent=percent))


def test_a_session_is_named() -> None:
    with pytest.raises(SignalError) as caught:
        session_of(fields_of(session=None))
    assert checked(caught.value).field == "session"


def test_a_payload_of_a_megabyte_is_folded() -> None:
    text = "x" * (PAYLOAD_BYTES_MAX - 30)
    folding = Folding()
    folding.take([fields_of(payload=json.dumps({"partial": {"text": text}}))])
    assert folding.says("document:/text") == {"A": text}


def test_a_larger_one_is_refused_before_it_is_read() -> None:
    error = refusal(fields_of(payload=json.dumps({"partial": {"text": "x" * 5_000_000}})))
    assert (error.field, error.allowed) == ("payload", f"at most {PAYLOAD_BYTES_MAX} bytes")


def test_one_that_is_too_deep_is_refused() -> None:
    payload = b'{"partial":' + b'{"a":' * 1_000 + b"1" + b"}" * 1_001
    error = refusal(fields_of(payload=payload))
    assert error.allowed == "at most 64 levels of nesting"


def test_of_a_result_with_too_many_values_the_rest_still_counts() -> None:
    """An agent whose last result is too large has ended all the same."""
    values = {"$append": list(range(PARTIAL_PARTS_MAX + 1))}
    payload = msgspec.json.encode({"result": {"list": values}})
    result = read(fields_of(type="COMPLETED", payload=payload))
    assert result.statements == {}
    assert result.refusal is not None
    assert result.refusal.given == "more than 2000 values"
    folding = Folding()
    folding.take([fields_of(type="COMPLETED", payload=payload)])
    assert folding.document()["complete"]["ended"] == 1


@pytest.mark.parametrize("kind", ["STARTED", "PARTIAL_RESULT", "FAILED", "DECIDED", "REFINED"])
@pytest.mark.parametrize("field", GOOD)
def test_what_breaks_parsers_in_every_field_of_every_type(kind: str, field: str) -> None:
    for value in NASTY:
        outcome(fields_of(**{"type": kind, field: value}))


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["findings:k", "document:/n", "items:/l=1", "agents:A", "k", "x" * 600])
)
members = st.sampled_from(
    ["findings", "key", "value", "withdrawn", "supersedes", "confidence"]
) | st.text(st.characters(), max_size=3)


def within(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return inner | st.lists(inner, max_size=3) | st.dictionaries(members, inner, max_size=4)


values = within(within(within(leaves)))
PAYLOAD_FIELDS = [
    *("partial", "result", "error", "part", "decision", "by", "chosen", "rejected", "value"),
    *("refiner", "revision"),
]
payloads = st.dictionaries(st.sampled_from(PAYLOAD_FIELDS), values, max_size=9)


@examples(300)
@given(st.sampled_from(KINDS), payloads)
def test_noise_in_a_payload(kind: str, payload: dict[str, Any]) -> None:
    if kind == "DECIDED":
        payload = {**DECIDED, **payload}
    raw = json.dumps(payload).encode("utf-8", "surrogatepass")
    outcome(fields_of(type=kind, payload=raw))


@examples(200)
@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(list(GOOD)), st.binary()))
def test_noise_in_every_field(kind: str, given: dict[str, bytes]) -> None:
    outcome(fields_of(**{"type": kind, **given}))


@examples(100)
@given(st.lists(st.sampled_from([name.encode() for name in GOOD]) | st.binary(), max_size=9))
def test_noise_instead_of_fields(fields: list[bytes]) -> None:
    outcome(fields)


def test_what_would_not_be_folded_is_told_before_it_is_sent() -> None:
    fields = [b"session", b"s", b"type", b"PARTIAL_RESULT", b"emitter", b"A"]
    many = {f"k{number}": 1 for number in range(PARTIAL_PARTS_MAX + 1)}
    signal = entry.decode([*fields, b"payload", msgspec.json.encode({"partial": many})])
    with pytest.raises(SignalError, match=f"more than {PARTIAL_PARTS_MAX} values"):
        check(signal)
    check(entry.decode([*fields, b"payload", b'{"partial": {"k": 1}}']))


def test_a_decision_s_value_is_taken_as_values_are_compared() -> None:
    payload = json.dumps({**DECIDED, "value": {"b": [2.0], "a": 1}}).encode()
    result = decode(fields_of(type="DECIDED", payload=payload), Strategies().of)
    assert result.verdict is not None
    assert result.verdict[1].value == msgspec.Raw(b'{"a":1,"b":[2]}')


def test_a_result_says_which_checkpoint_it_comes_after() -> None:
    result = read(fields_of(payload='{"partial":{"n":1}}', since=4))
    assert result.origin.since == 4
    assert [one.since for one in result.statements.values()] == [4]
    assert refusal(fields_of(since="x")).field == "since"
