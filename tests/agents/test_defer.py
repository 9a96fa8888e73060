"""When a run of Claude Code can be put off, and with which command it goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fabric.agents import defer, dialect
from fabric.agents.decision import Facts, Obstacle, decide
from fabric.agents.event import Action, Answer, Event, Moment
from fabric.agents.output import Output

RUN = ("/bin/claude", "-p", "Review it", "--output-format", "stream-json", "--verbose")
WRITE = Event("claude", Moment.BEFORE_TOOL, "PreToolUse", "1", action=Action.OVERWRITE)


def test_a_run_that_says_how_it_ends_can_be_resumed() -> None:
    assert defer.can_resume(RUN)
    assert defer.can_resume(("claude", "--print", "x", "--output-format=json"))


@pytest.mark.parametrize(
    "command",
    [
        ("claude",),
        ("claude", "Review it", "--output-format", "json"),
        ("claude", "-p", "Review it"),
        ("claude", "-p", "Review it", "--output-format", "text"),
        ("codex", *RUN[1:]),
        (*RUN, "--resume", "1"),
        (*RUN, "--session-id=1"),
        (*RUN, "--input-format", "stream-json"),
        (*RUN, "-c"),
    ],
)
def test_any_other_run_waits_in_its_hook(command: tuple[str, ...]) -> None:
    assert not defer.can_resume(command)


def test_a_resumed_run_does_not_get_its_prompt_again() -> None:
    words = defer.resumption(RUN, "id", "Review it\n")
    assert words == ("/bin/claude", "-p", *RUN[3:], "--resume", "id")
    assert defer.resumption(RUN, "id", "") == (*RUN, "--resume", "id")


def line(message: str, *calls: str) -> str:
    parts = [{"type": "text", "text": "x"}] + [{"type": "tool_use", "id": one} for one in calls]
    return json.dumps({"message": {"id": message, "role": "assistant", "content": parts}})


def test_only_the_one_call_of_a_message_can_be_resumed(tmp_path: Path) -> None:
    file = tmp_path / "conversation.jsonl"
    # Claude Code writes a line for each part of a message.
    user = json.dumps({"message": {"role": "user", "content": "hello"}})
    file.write_text(
        "\n".join([user, line("1", "a"), line("2", "b"), line("2", "c"), "{", "[]", ""])
    )
    assert defer.is_only_call(str(file), "a")
    assert not defer.is_only_call(str(file), "b")
    assert not defer.is_only_call(str(file), "unknown")
    assert not defer.is_only_call(str(tmp_path / "none"), "a")
    assert not defer.is_only_call("", "")


def test_a_write_is_put_off_instead_of_a_refusal() -> None:
    facts = Facts(agent="A", session="demo", obstacles=(Obstacle("a.py", "QA"),), is_deferred=True)
    answer = decide(WRITE, facts)
    assert (answer.is_deferred, answer.refusal) == (True, "")
    assert not decide(replace(WRITE, action=Action.READ), facts).is_deferred
    _, out, _ = dialect.render(WRITE, Answer(is_deferred=True))
    assert json.loads(out)["hookSpecificOutput"]["permissionDecision"] == "defer"


def test_the_output_names_the_conversation_once() -> None:
    output = Output("A", "demo")
    said = {"type": "result", "is_error": False, "stop_reason": "tool_deferred", "session_id": "7"}
    assert [*output.read(json.dumps(said).encode())] == []
    assert [output.take_deferred(), output.take_deferred()] == ["7", ""]
