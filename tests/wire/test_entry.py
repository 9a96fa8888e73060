"""Ingress entries in canonical fields: those that are accepted, and those that are refused."""

from typing import Any

import pytest

from fabric.core.declaration import Number, fields
from fabric.core.limits import (
    COUNTER_MAX,
    ENTRY_FIELDS_MAX,
    FIELD_BYTES_MAX,
    HOPS_MAX,
    NAME_CHARS_MAX,
    PAYLOAD_BYTES_MAX,
    PAYLOAD_DEPTH_MAX,
)
from fabric.core.rules import Rules
from fabric.core.signal import PAYLOADS, Progress, SignalType, Started
from fabric.wire import signal_error
from fabric.wire.entry import decode
from fabric.wire.stored import pairs_of
from tests.support.entry import flat, read, refusal

#: The required payload of each type.
LEAST: dict[SignalType, str] = {
    SignalType.PARTIAL_RESULT: '{"partial":{}}',
    SignalType.BLOCKED: '{"on":"x"}',
    SignalType.DEPENDENCY_RESOLVED: '{"dependency_id":"x"}',
    SignalType.ESCALATE: '{"question":"?"}',
    SignalType.DECIDED: '{"escalation":"3-0","decision":"v1"}',
    SignalType.REFINED: '{"refiner":"summary","value":"all is well"}',
    SignalType.TASKS_ADDED: '{"tasks":[{"id":"T1"}]}',
    SignalType.AGENTS_EXPECTED: '{"agents":["B"]}',
    SignalType.RENAMED: '{"from":"a.py","to":"b.py"}',
    SignalType.SAME_AS: '{"keys":["a","b"]}',
}


@pytest.mark.parametrize("kind", SignalType)
def test_every_type_is_read_from_as_little_as_a_person_types(kind: SignalType) -> None:
    signal = read(type=kind.value, payload=LEAST.get(kind))
    assert (signal.type, signal.session, signal.emitter) == (kind, "s", "A")
    assert (signal.stream, signal.task, signal.seq, signal.incarnation) == ("", "", 0, 0)
    assert type(signal.payload) is PAYLOADS[kind]


def test_a_whole_entry_is_read_and_kept_as_it_came() -> None:
    entry = flat(
        type="PROGRESS",
        stream="A 1",
        payload=b'{ "percent": 50, "checkpoint": "files_read", "mine": [1.50, "\\u00e9"] }',
        seq=12,
        incarnation=3,
        task="Review auth module",
        at="2025-12-30T19:30:00.123+01:00",
        trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        sig=b"\xff\x00signature",
    )
    signal = decode(list(entry))
    assert signal.payload == Progress(percent=50, checkpoint="files_read")
    assert (signal.stream, signal.task) == ("A 1", "Review auth module")
    assert (signal.seq, signal.incarnation) == (12, 3)
    assert signal.raw == entry[entry.index(b"payload") + 1]
    kept = [part for pair in zip(signal.names, signal.values, strict=True) for part in pair]
    assert kept == entry


def test_the_order_of_the_fields_does_not_matter() -> None:
    entry = flat(type="PROGRESS", payload='{"percent":5}', seq=7, at="2025-12-30T19:30:00Z")
    pairs = list(pairs_of(entry))
    for turn in range(len(pairs)):
        turned = [part for pair in pairs[turn:] + pairs[:turn] for part in pair]
        assert decode(turned).payload == Progress(percent=5)
        assert decode(turned).seq == 7


def test_shapes_and_names_seen_before_are_no_less_checked() -> None:
    for _ in range(2):
        assert refusal(flat(type="PROGRESS", emitter="a\nb")).field == "emitter"
        assert refusal(flat(type="PROGRESS", session="a:b")).field == "session"
        assert read(type="PROGRESS", emitter="a:b").emitter == "a:b"
        assert refusal(flat(type="PROGRESS", session="a:b")).field == "session"


def test_an_empty_payload_is_none() -> None:
    assert read(type="STARTED", payload="").payload == Started()
    assert read(type="STARTED", payload="").raw == b"{}"


LONG = "x" * (NAME_CHARS_MAX + 1)
FINDING = "partial.findings[0]"


@pytest.mark.parametrize("emitter", ["ORCHESTRATORS", "my/ORCHESTRATOR", "C#", "Synthesizer 2"])
def test_names_that_only_begin_alike_are_agents_names(emitter: str) -> None:
    assert read(type="PROGRESS", emitter=emitter).emitter == emitter


def test_an_agent_that_an_older_version_has_let_in_can_be_replayed() -> None:
    entry = flat(type="PROGRESS", emitter="Synthesizer")
    assert decode(entry, is_logged=True).emitter == "Synthesizer"
    assert refusal(entry).field == "emitter", "and is let in no more"


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"session": None}, "MISSING", "session"),
        ({"session": ""}, "MISSING", "session"),
        ({"emitter": None}, "MISSING", "emitter"),
        ({"type": None}, "MISSING", "type"),
        ({"type": ""}, "MISSING", "type"),
        ({"type": "PROGRES"}, "TYPE", "type"),
        ({"type": b"\xff"}, "VALUE", "type"),
        ({"session": "a:b"}, "NAME", "session"),
        ({"session": LONG}, "LIMIT", "session"),
        ({"emitter": LONG}, "LIMIT", "emitter"),
        ({"emitter": "*"}, "NAME", "emitter"),
        ({"emitter": "ORCHESTRATOR"}, "NAME", "emitter"),
        ({"emitter": "ORCHESTRATOR", "type": "SYNTHESIZED"}, "NAME", "emitter"),
        ({"emitter": "SYNTHESIZER"}, "NAME", "emitter"),
        ({"emitter": "SYNTHESIZER", "type": "SYNTHESIZED", "seq": 1}, "NAME", "emitter"),
        ({"emitter": "SYNTHESIZER", "type": "SYNTHESIZED", "incarnation": 1}, "NAME", "emitter"),
        ({"emitter": "Synthesizer"}, "NAME", "emitter"),
        ({"emitter": "orchestrator", "type": "SYNTHESIZED"}, "NAME", "emitter"),
        ({"emitter": "synthesizer", "type": "SYNTHESIZED"}, "NAME", "emitter"),
        ({"emitter": "ＯＲＣＨＥＳＴＲＡＴＯＲ"}, "NAME", "emitter"),  # noqa: RUF001 - full width
        ({"emitter": "SYNTHESIZER/x"}, "NAME", "emitter"),
        ({"emitter": "Orchestrator#2"}, "NAME", "emitter"),
        ({"emitter": "ORCHESTRATOR /x"}, "NAME", "emitter"),
        ({"emitter": "*/x"}, "NAME", "emitter"),
        ({"emitter": " A"}, "NAME", "emitter"),
        ({"emitter": "a\x1b[2Jb"}, "NAME", "emitter"),
        ({"emitter": b"\xffA"}, "NAME", "emitter"),
        ({"stream": "a\r\nb"}, "NAME", "stream"),
        ({"stream": LONG}, "LIMIT", "stream"),
        ({"task": "a\x00b"}, "NAME", "task"),
        ({"seq": "-1"}, "NUMBER", "seq"),
        ({"seq": "1.0"}, "NUMBER", "seq"),
        ({"seq": " 1"}, "NUMBER", "seq"),
        ({"seq": "\u0661"}, "NUMBER", "seq"),
        ({"seq": COUNTER_MAX + 1}, "NUMBER", "seq"),
        ({"seq": "9" * 5_000}, "NUMBER", "seq"),
        ({"incarnation": "one"}, "NUMBER", "incarnation"),
        ({"incarnation": COUNTER_MAX + 1}, "NUMBER", "incarnation"),
        ({"hops": "-1"}, "NUMBER", "hops"),
        ({"hops": HOPS_MAX + 1}, "NUMBER", "hops"),
        ({"at": "2025-12-30T19:30:00"}, "TIME", "at"),
        ({"at": "2025-12-30"}, "TIME", "at"),
        ({"at": "yesterday"}, "TIME", "at"),
        ({"at": ""}, "TIME", "at"),
        ({"at": r"2025\u002d12-30T19:30:00Z"}, "TIME", "at"),
        ({"at": '2025-12-30T19:30:00Z","x":"'}, "TIME", "at"),
        ({"at": "2" * (FIELD_BYTES_MAX + 1)}, "LIMIT", "at"),
        ({"trace": "0" * (FIELD_BYTES_MAX + 1)}, "LIMIT", "trace"),
        ({"sig": "0" * (FIELD_BYTES_MAX + 1)}, "LIMIT", "sig"),
        ({"payload": "{"}, "JSON", "payload"),
        ({"payload": "nothing"}, "JSON", "payload"),
        ({"payload": "[]"}, "VALUE", "payload"),
        ({"payload": "null"}, "VALUE", "payload"),
        ({"payload": '{"percent":NaN}'}, "JSON", "payload"),
        ({"payload": '{"percent":1,}'}, "JSON", "payload"),
        ({"payload": b'{"mine":"\xff"}'}, "VALUE", "payload"),
        ({"payload": r'{"mine":"\ud800"}'}, "JSON", "payload"),
        ({"payload": '{"mine":1e999}'}, "VALUE", "payload"),
        ({"payload": f'{{"mine":{"9" * 5_000}}}'}, "VALUE", "payload"),
        ({"payload": '{"percent":1e999}'}, "VALUE", "percent"),
        ({"payload": '{"percent":250}'}, "VALUE", "percent"),
        ({"payload": f'{{"percent":{"9" * 400}}}'}, "VALUE", "percent"),
        ({"payload": '{"checkpoint":""}'}, "VALUE", "checkpoint"),
        ({"payload": r'{"checkpoint":"a\u001b[2J"}'}, "VALUE", "checkpoint"),
        ({"payload": f'{{"checkpoint":"{LONG}"}}'}, "VALUE", "checkpoint"),
        ({"payload": '{"partial":{"findings":[{"key":"k"}]}}'}, "VALUE", FINDING),
        ({"payload": " " * (PAYLOAD_BYTES_MAX + 1)}, "LIMIT", "payload"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], code: str, field: str) -> None:
    error = refusal(flat(**{"type": "PROGRESS", **fields}))
    assert (error.reason_code, error.field) == (code, field)


def test_a_name_may_be_as_long_as_the_limit_and_a_payload_as_large() -> None:
    name = "x" * NAME_CHARS_MAX
    assert read(type="PROGRESS", session=name, emitter=name, stream=name, task=name).task == name
    padding = " " * (PAYLOAD_BYTES_MAX - 2)
    assert read(type="PROGRESS", payload=f"{{{padding}}}").payload == Progress()
    assert read(type="PROGRESS", seq=COUNTER_MAX).seq == COUNTER_MAX
    assert read(type="PROGRESS", sig="x" * FIELD_BYTES_MAX).emitter == "A"


@pytest.mark.parametrize("bracket", ["[]", '{"a":}'])
def test_a_payload_may_be_as_deep_as_the_limit(bracket: str) -> None:
    head, tail = bracket[:-1], bracket[-1]

    def nested(levels: int) -> str:
        inner = levels - 1
        return f'{{"mine":{head * inner}1{tail * inner}}}'

    assert read(type="PROGRESS", payload=nested(PAYLOAD_DEPTH_MAX)).raw
    for levels in (PAYLOAD_DEPTH_MAX + 1, 990, 10_000):
        error = refusal(flat(type="PROGRESS", payload=nested(levels)))
        assert error.reason_code == "LIMIT"
        assert error.given == str(levels)


def test_brackets_within_a_string_are_no_nesting() -> None:
    text = r"[[[[{{{{\"[[\\" * 50
    assert read(type="PROGRESS", payload=f'{{"mine":"{text}"}}').raw


@pytest.mark.parametrize("noise", ['\\"', '"\\"', '\\\\"', "\\"])
def test_the_search_for_nesting_does_not_grow_as_the_square(noise: str) -> None:
    # An unclosed string matches up to the end of the text. If each of a million quotes started a
    # search that fails, this would take an hour.
    for number in range(5):
        text = f'"{noise * number}'.encode()
        assert signal_error.STRINGS.match(text)
        assert signal_error.STRINGS.match(text + b"x")
    refusal(flat(type="PROGRESS", payload=("[" * 65 + noise * 1_000_000)[:PAYLOAD_BYTES_MAX]))


def test_an_entry_has_so_many_fields_and_no_more() -> None:
    extra = {f"mine{number}": "1" for number in range(ENTRY_FIELDS_MAX - 3)}
    assert read(type="PROGRESS", **extra).raw
    error = refusal(flat(type="PROGRESS", **extra, one="more"))
    assert (error.field, error.given) == ("entry", str(ENTRY_FIELDS_MAX + 1))
    assert refusal(flat(type="PROGRESS", **{f"mine{n}": "1" for n in range(5_000)})).given == "5003"


@pytest.mark.parametrize("field", ["session", "type", "emitter", "payload", "mine", "percent"])
def test_a_field_that_is_there_twice_is_refused_even_if_both_agree(field: str) -> None:
    again = {"session": "s", "type": "PROGRESS", "emitter": "A", "payload": "{}"}.get(field, "1")
    twice = [field.encode(), again.encode()]
    more = twice if field in ("mine", "percent") else []
    error = refusal(flat(type="PROGRESS", payload="{}") + more + twice)
    assert (error.reason_code, error.field) == ("AMBIGUOUS", field)


def test_a_chain_may_be_as_long_as_a_rule_may_say() -> None:
    (rule,) = [field for field in fields(Rules) if field.name == "hops_max"]
    number = rule.hint.note(Number)
    assert number is not None
    assert decode(flat(type="STARTED", hops=number.le)).hops == number.le == HOPS_MAX
