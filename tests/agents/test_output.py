"""What is read in a program's output. `events/` has what the real clients have printed."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.agents.output import BLOCK_LINES_MAX, Output
from fabric.core.signal import SignalType

EVENTS = Path(__file__).with_name("events")


def read(text: str, harness: str = "") -> tuple[list[dict[str, Any]], Output]:
    output = Output("QA", "s", harness)
    lines = text.encode().split(b"\n")
    return [document for line in lines for document in output.read(line)], output


def events(name: str) -> tuple[list[dict[str, Any]], Output]:
    return read((EVENTS / f"{name}.jsonl").read_text())


@pytest.mark.parametrize(
    "line",
    [
        "PROGRESS(25%)",
        "  BLOCKED(schema-change)\r",
        '{"signal": "PROGRESS", "percent": 50, "checkpoint": "files_analyzed"}',
        '{"signal_type": "DEPENDENCY_RESOLVED", "payload": {"dependency_id": "x"}}',
        '{"type": "HEARTBEAT"}',
        '{"signal": "PROGRESS(25%)"}',
    ],
)
def test_a_line_that_is_a_signal_is_one(line: str) -> None:
    documents, _ = read(line)
    assert len(documents) == 1


@pytest.mark.parametrize(
    "line",
    [
        "PROGRESS",
        "STARTED",
        "FAILED tests/test_x.py::test_y",
        "now at PROGRESS(25%)",
        "FAILED()",
        '{"type": "error", "message": "429"}',
        '{"type": "text", "part": {"text": "PROGRESS(1%)"}}',
        '{"signal": 5}',
        "[1]",
        "{",
        "",
        "\x00\xff",
    ],
)
def test_any_other_line_is_text(line: str) -> None:
    documents, output = read(line)
    assert (documents, output.ending, output.error, output.harness) == ([], None, None, "")


def test_a_document_over_several_lines_is_one_signal() -> None:
    text = json.dumps({"signal": "PROGRESS", "percent": 50, "partial": {"n": 1}}, indent=2)
    documents, _ = read(f"so far:\n{text}\nPROGRESS(60%)")
    assert [one.get("percent", one.get("type")) for one in documents] == [50, "PROGRESS(60%)"]


def test_what_begins_like_a_document_hides_no_later_signal() -> None:
    documents, _ = read("{\n" + "x\n" * BLOCK_LINES_MAX + "PROGRESS(1%)")
    assert len(documents) == 1


def test_the_end_is_kept_for_the_exit_code() -> None:
    documents, output = read('{"signal": "COMPLETED", "result": {"n": 1}}')
    assert documents == []
    assert output.ending == (SignalType.COMPLETED, {"signal": "COMPLETED", "result": {"n": 1}})


def test_nobody_speaks_for_another_agent_nor_with_its_numbers() -> None:
    documents, output = read(
        '{"type": "PROGRESS", "emitter": "QA", "session": "s", "seq": 7, "percent": 1}\n'
        '{"type": "RELEASE", "emitter": "OTHER"}\n{"type": "RELEASE", "session": "other"}'
    )
    assert (documents, output.foreign) == ([{"type": "PROGRESS", "percent": 1}], 2)


def test_claude_code() -> None:
    documents, output = events("claude")
    assert documents == [
        {"type": "BLOCKED(schema-change)"},
        {"signal": "PROGRESS", "percent": 10, "checkpoint": "files_read"},
        {"type": "PROGRESS", "percent": 50},
    ]
    assert (output.harness, output.result, output.error) == ("claude", "All done.", None)


def test_claude_code_with_one_document_at_the_end() -> None:
    line = (EVENTS / "claude.jsonl").read_text().splitlines()[-1]
    documents, output = read(line)
    assert (documents, output.harness, output.result) == ([], "claude", "All done.")


@pytest.mark.parametrize("harness", ["codex", "gemini", "opencode"])
def test_the_other_clients(harness: str) -> None:
    documents, output = events(harness)
    assert documents == []
    assert (output.harness, output.error) == (harness, None)
    assert output.result is not None
    assert output.result.endswith("All done.")


def test_a_message_of_gemini_that_comes_in_pieces() -> None:
    pieces = ["I think\nPROG", "RESS(5", "0%)\nnow."]
    said = [
        {"type": "message", "role": "assistant", "content": one, "delta": True} for one in pieces
    ]
    lines = [{"type": "init", "session_id": "1"}, *said, {"type": "result", "status": "success"}]
    documents, output = read("\n".join(map(json.dumps, lines)))
    assert documents == [{"type": "PROGRESS(50%)"}]
    assert output.result == "I think\nPROGRESS(50%)\nnow."


def test_a_list_of_codex_is_its_progress() -> None:
    def listed(*done: bool) -> dict[str, Any]:
        items = [{"text": "x", "completed": one} for one in done]
        return {"type": "item.updated", "item": {"type": "todo_list", "items": items}}

    lines = [listed(False, False, False, False), listed(True, False, False, False), listed(True)]
    documents, _ = read("\n".join(map(json.dumps, lines)), "codex")
    assert [one["percent"] for one in documents] == [25, 100]


@pytest.mark.parametrize(
    ("name", "quota"), [("claude", "anthropic"), ("codex", "openai"), ("opencode", "opencode")]
)
def test_a_quota_that_is_used_up_is_told_once(name: str, quota: str) -> None:
    documents, output = events(f"{name}_429")
    assert [(one["type"], one["on"]) for one in documents] == [("BLOCKED", f"quota:{quota}")]
    assert output.is_limited
    assert output.error


def test_an_error_that_was_overcome_is_none() -> None:
    lines = (EVENTS / "codex_429.jsonl").read_text().splitlines()[:3]
    _, output = read("\n".join([*lines, '{"type": "turn.completed"}']))
    assert (output.error, output.is_limited) == (None, False)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "PROGRESS(1%)", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "content", "todos", "status", "input", "message", "data"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
_TYPES = [
    "system", "init", "thread.started", "assistant", "result", "item.started", "item.completed",
    "turn.failed", "turn.completed", "message", "tool_use", "text", "error", "PROGRESS", "FAILED",
]  # fmt: skip
_EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(_TYPES) | _VALUES, "session_id": st.just("1")},
    optional=dict.fromkeys(
        (
            *("signal", "signal_type", "message", "item", "part", "error", "result", "is_error"),
            *("status", "role", "content", "subtype", "tool_name", "parameters", "emitter"),
            *("payload", "is_api_error_message", "api_error_status"),
        ),
        _VALUES,
    ),
)


@settings(max_examples=200)
@given(st.lists(_EVENTS, max_size=3))
def test_nothing_that_is_printed_stops_the_run(lines: list[dict[str, Any]]) -> None:
    documents, _ = read("\n".join(map(json.dumps, lines)))
    assert all(isinstance(one, dict) for one in documents)


def test_what_names_two_types_goes_on_to_be_refused() -> None:
    documents, _ = read('{"type": "text", "signal": "PROGRESS"}')
    assert documents == [{"type": "text", "signal": "PROGRESS"}]
