"""Dead letters return the entry that they hold; other entries have the documented fields."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.event import EVERYONE, Kind, Message
from fabric.core.limits import ENTRY_FIELDS_MAX
from fabric.core.record import AgentRecord, AgentStatus
from fabric.core.rule_table import Domain
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.errors import SignalError
from fabric.wire import record
from fabric.wire.stored import fields_of
from tests.support.effort import examples
from tests.support.entry import dead_letter, read, refusal

entries = st.lists(st.binary(max_size=20), max_size=40).map(
    lambda parts: parts[: len(parts) // 2 * 2]
)


@examples(300)
@given(entries)
def test_a_dead_letter_gives_back_what_came_in(fields: list[bytes]) -> None:
    letter = dead_letter(fields)
    assert record.sent_fields(letter) == fields
    # No field name of the entry can replace the fabric's reason.
    assert letter[:8] == [
        *(b"code", b"CODE", b"reason", b"reason"),
        *(b"source", b"fabric:{0}:signals", b"id", b"5-0"),
    ]
    assert not {b"code", b"reason", b"source", b"id"} & set(letter[8::2])


@pytest.mark.parametrize("number", [0, 1, ENTRY_FIELDS_MAX, ENTRY_FIELDS_MAX + 1, 5_000])
def test_a_dead_letter_has_few_fields_whatever_the_number(number: int) -> None:
    fields = [part for n in range(number) for part in (b"field %d" % n, b"\x00\xff%d" % n)]
    letter = dead_letter(fields)
    assert record.sent_fields(letter) == fields
    assert len(letter) <= 2 * ENTRY_FIELDS_MAX + 8


@pytest.mark.parametrize("name", [b"raw", b"raw.", b"raw.raw", b"code", b"", b"\xff"])
def test_a_field_called_like_one_of_ours_is_kept_apart(name: bytes) -> None:
    for fields in ([name, b"value"], [name, b"value"] * 100):
        assert record.sent_fields(dead_letter(fields)) == fields


def test_a_reason_is_code_and_sentence() -> None:
    error = refusal([b"type", b"PROGRESS"])
    assert isinstance(error, SignalError)
    assert record.reason_of(error) == ("MISSING", str(error))


def test_a_logged_signal_is_its_own_fields_between_kind_and_time() -> None:
    signal = read(type="PROGRESS", payload='{ "percent":5 }', seq=3)
    form, values = record.logged_signal(signal, 1_234)
    assert dict(zip(map(str_of, form), map(str_of, values), strict=True)) == {
        "kind": "signal",
        "session": "s",
        "emitter": "A",
        "type": "PROGRESS",
        "payload": '{ "percent":5 }',
        "seq": "3",
        "ms": "1234",
    }


def test_a_refused_signal_is_logged_whole_with_the_reason() -> None:
    signal = read(type="PROGRESS", payload='{ "percent":5 }', stream="X", seq=3, trace="00-a")
    form, values = record.logged_refusal(signal, "ENDED", "too late", 1_234)
    logged = [str_of(part) for pair in zip(form, values, strict=True) for part in pair]
    named = fields_of(logged)
    assert named == {
        "kind": "refused",
        "session": "s",
        "emitter": "A",
        "type": "PROGRESS",
        "payload": '{ "percent":5 }',
        "stream": "X",
        "seq": "3",
        "trace": "00-a",
        "code": "ENDED",
        "reason": "too late",
        "ms": "1234",
    }


def test_an_answerable_message_says_how_many_led_to_it() -> None:
    for hops in (0, 4):
        message = Message(Kind.DIRECTIVE, "ESCALATE", "B", "A", "S", b"{}", True, hops)
        form, values = record.inbox(message, "4-0")
        inbox = dict(zip(map(str_of, form), map(str_of, values), strict=True))
        assert inbox.get("hops") == ("4" if hops else None)


def test_rules_are_known_by_the_bytes_that_the_log_has() -> None:
    rules = Rules(agents_max=3, priorities={"b": 1, "a": 2})
    same = Rules(agents_max=3, priorities={"a": 2, "b": 1})
    document = record.rules_document(rules)
    assert document == record.rules_document(same)
    assert record.read_rules(document) == rules
    assert record.rules_digest(document) not in (
        "",
        record.rules_digest(record.rules_document(Rules(agents_max=4))),
    )
    assert record.rules_digest(record.rules_document(Rules())) == ""
    assert record.read_rules(record.rules_document(Rules())) == Rules()
    form, values = record.logged_rules(document, 5)
    assert dict(zip(form, values, strict=True)) == {
        "kind": "rules",
        "type": "RULES",
        "payload": document.decode(),
        "ms": 5,
    }


def test_what_is_passed_on_keeps_its_payload_in_its_cause() -> None:
    for forwarded in (False, True):
        message = Message(
            Kind.DIRECTIVE, "RESUME", "B", "A", "S", b'{"reason":"r"}', forwarded=forwarded
        )
        form, values = record.logged_message(message, "4-0", 99)
        logged = dict(zip(map(str_of, form), map(str_of, values), strict=True))
        assert ("payload" in logged) is not forwarded
        assert (logged["to"], logged["from"], logged["cause"]) == ("B", "A", "4-0")
        form, values = record.inbox(message, "4-0")
        inbox = dict(zip(map(str_of, form), map(str_of, values), strict=True))
        assert inbox == {
            "type": "RESUME",
            "from": "A",
            "stream": "S",
            "cause": "4-0",
            "payload": '{"reason":"r"}',
        }


def test_every_form_has_a_name_for_each_value() -> None:
    signal = read(type="PARTIAL_RESULT", payload='{"partial":{}}')
    message = Message(Kind.DERIVED, "RESUME", EVERYONE, "A", "", b"{}")
    agent = AgentRecord(AgentStatus.DEAD, 1)
    for form, values in (
        record.logged_signal(signal, 1),
        record.logged_refusal(signal, "CODE", "reason", 1),
        record.logged_timer("undeclared:x", 1),
        record.logged_rules(b"{}", 1),
        record.logged_message(message, "1-0", 1),
        record.inbox(message, "1-0"),
        record.result(signal, agent, b"", "1-0", 1),
        record.death("s", "A", agent, "1-0", 1),
        record.own_signal("s", SignalType.DECIDED, "SYNTHESIZER", b"{}"),
        record.revision(b"[]", [1], 1, final=True),
    ):
        assert len(form) == len(values)
        assert len(set(form)) == len(form)


def named(entry: tuple[record.Form, record.Values]) -> dict[str, str]:
    form, values = entry
    return dict(zip(map(str_of, form), map(str_of, values), strict=True))


def test_a_result_says_in_which_incarnation_and_how_far() -> None:
    signal = read(type="PROGRESS", stream="X", payload='{"percent": 7.50}')
    agent = AgentRecord(AgentStatus.ACTIVE, 3, percent=7.5)
    assert named(record.result(signal, agent, b"", "4-0", 9)) == {
        "session": "s",
        "type": "PROGRESS",
        "emitter": "A",
        "stream": "X",
        "incarnation": "3",
        "cause": "4-0",
        "ms": "9",
        "payload": '{"percent": 7.50}',
        "percent": "7.5",
    }


def test_a_result_may_have_another_payload_than_its_signal_and_no_agent() -> None:
    signal = read(type="DECIDED", payload='{"escalation": "findings:k", "decision": "A"}')
    found = named(record.result(signal, None, b'{"part": "findings:k"}', "4-0", 9))
    assert found["payload"] == '{"part": "findings:k"}'
    assert (found["incarnation"], found["percent"]) == (str(signal.incarnation), "")


def test_a_death_by_silence_is_a_failure_that_says_so() -> None:
    agent = AgentRecord(AgentStatus.DEAD, 2, stream="X", error="silent for 60 s")
    found = named(record.death("s", "A", agent, "5-0", 9))
    assert (found["type"], found["silent"], found["incarnation"]) == ("FAILED", "1", "2")
    payload = msgspec.json.decode(found["payload"])
    assert (payload["error"], payload["retryable"]) == ("silent for 60 s", True)


def test_a_revision_names_the_log_entries_that_it_follows_from() -> None:
    found = named(record.revision(b"[]", [3, 5], 9, final=False))
    assert found == {"patch": "[]", "causes": "3-0 5-0", "ms": "9", "final": "0"}


def test_forms_that_emitters_invent_do_not_fill_the_memory() -> None:
    for number in range(5_000):
        record.signal_form((b"session", b"%d" % number))
    kept = record.signal_form.cache_info().currsize
    assert kept <= 1_000


def str_of(part: str | bytes | int) -> str:
    return part.decode() if isinstance(part, bytes) else str(part)


RULES = Rules(ageing_ms=5_000, domains=(Domain("src/**", "LEAD"),))


def test_rules_are_read_as_they_were_written() -> None:
    assert record.read_rules(record.rules_document(RULES)) == RULES
    assert record.read_rules(record.rules_document(Rules())) == Rules()


def test_the_defaults_have_no_digest_and_others_have_their_own() -> None:
    others = [RULES, Rules(ageing_ms=1), Rules(preemption=True)]
    digests = [record.rules_digest(record.rules_document(rules)) for rules in others]
    assert record.rules_digest(record.rules_document(Rules())) == ""
    assert len({*digests, ""}) == 4


def test_what_the_hook_is_given_is_not_written_down() -> None:
    with_hook = Rules(hook=("notify", "--token", "s3cret"), ageing_ms=5_000)
    assert b"s3cret" not in record.rules_document(with_hook)
    assert record.rules_document(Rules(hook=("notify",))) == record.rules_document(Rules())
