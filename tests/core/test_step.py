"""The tables of `step.py` are complete, and a handler's refusal leaves no effect behind."""

import pytest

from fabric.core.event import Decision, Outcome
from fabric.core.signal import PAYLOADS, SignalType
from fabric.core.step import ANSWERS, HANDLERS, TIMERS
from tests.support.random_history import Play, signal


def test_every_signal_type_has_a_handler() -> None:
    assert set(HANDLERS) == set(PAYLOADS.values())
    assert len(HANDLERS) == len(SignalType)


def test_every_question_of_the_fabric_has_an_answer() -> None:
    subjects = {"deadlock", "barrier", "silence", "mass_silence", "wedged", "unread", "group"}
    assert set(ANSWERS) == subjects | {"contradiction", "digest", "dependency", "task"}


def test_timer_keys_begin_with_the_name_of_their_alarm() -> None:
    silence = {"silence", "mass_silence"}
    tasks = {"offer", "progress", "quota"}
    others = {"undeclared", "barrier", "hold", "grant", "answer", "deadlock", "expected", "unread"}
    assert set(TIMERS) == others | silence | tasks | {"digest"}


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        (SignalType.INTEGRATED, {}, "BARRIER"),
        (SignalType.DECIDED, {"escalation": "9-9", "decision": "yes"}, "UNKNOWN"),
        (SignalType.TASKS_ADDED, {"tasks": [{"id": "u"}, {"id": "t"}]}, "DOUBLE"),
        (SignalType.TASK_DONE, {"task": "u"}, "UNKNOWN"),
        (SignalType.TASK_RETRY, {}, "UNKNOWN"),
    ],
)
def test_a_refused_signal_changes_no_record_but_the_agents_own(
    kind: SignalType, payload: dict[str, object], code: str
) -> None:
    play = Play()
    play.say(signal(SignalType.STARTED, "A", {"task": "t"}))
    session = play.session
    tables = (session.tasks, session.claims, session.barriers, session.escalations)
    for table in (*tables, session.dependencies):
        table.take_changes()
    decision: Decision = play.say(signal(kind, "A", payload))
    assert (decision.outcome, decision.code) == (Outcome.REFUSED, code)
    assert [message.type for message in decision.messages] == ["NOTICE"]
    assert not any(table.changed for table in (*tables, session.dependencies))
