"""Each client's events are read, and answers put into its words, as the real clients do it.

The samples are inputs of real hooks, sanitised; Cursor's follow its documentation.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from fabric.agents import dialect
from fabric.agents.event import Action, Answer, Event, Moment, Todo

SAMPLES = Path(__file__).parent / "samples"
PROJECT = "/home/dev/project"


def sample(harness: str, name: str) -> dict[str, Any]:
    """Return a hook's input; OpenCode's plugin says which of its hooks it is."""
    given: dict[str, Any] = json.loads((SAMPLES / harness / f"{name}.json").read_text())
    if harness != "opencode":
        return given
    hook = name.removeprefix("event.")
    for one in ("tool.execute.before", "tool.execute.after"):
        hook = one if hook.startswith(one) else hook
    return {"hook": hook, "directory": PROJECT, **(given if "input" in given else {"input": given})}


def read(harness: str, name: str) -> Event:
    event = dialect.read(harness, json.dumps(sample(harness, name)).encode(), "/elsewhere")
    assert event is not None
    return event


def said(event: Event, **answer: Any) -> Any:
    code, out, err = dialect.render(event, Answer(**answer))
    assert (code, err) == (0, b"")
    return json.loads(out) if out else None


#: Harness, sample → moment, action, files.
EVENTS = [
    ("claude", "SessionStart", Moment.SESSION_START, Action.OTHER, ()),
    ("claude", "PreToolUse.Write", Moment.BEFORE_TOOL, Action.OVERWRITE, ("new.py",)),
    ("claude", "PreToolUse.Edit", Moment.BEFORE_TOOL, Action.EDIT, ("a.txt",)),
    ("claude", "PostToolUse.Read", Moment.AFTER_TOOL, Action.READ, ("a.txt",)),
    ("claude", "PreToolUse.Bash", Moment.BEFORE_TOOL, Action.SHELL, ()),
    ("claude", "PostToolUseFailure.Bash", Moment.AFTER_TOOL, Action.SHELL, ()),
    ("claude", "PreToolUse.mcp_fabric_claim", Moment.BEFORE_TOOL, Action.OTHER, ()),
    ("claude", "Stop", Moment.TURN_END, Action.OTHER, ()),
    ("claude", "StopFailure.rate_limit", Moment.TURN_FAILED, Action.OTHER, ()),
    ("claude", "SubagentStart.in_subagent", Moment.SUBAGENT_START, Action.OTHER, ()),
    ("claude", "SubagentStop.in_subagent", Moment.SUBAGENT_END, Action.OTHER, ()),
    ("claude", "SessionEnd", Moment.SESSION_END, Action.OTHER, ()),
    ("codex", "UserPromptSubmit", Moment.TURN_START, Action.OTHER, ()),
    ("codex", "PreToolUse.Bash", Moment.BEFORE_TOOL, Action.SHELL, ()),
    (
        "codex",
        "PreToolUse.apply_patch",
        Moment.BEFORE_TOOL,
        Action.EDIT,
        ("c.py", "a.txt", "new.py"),
    ),
    ("codex", "PostModelRequest.429", Moment.TURN_FAILED, Action.OTHER, ()),
    ("gemini", "BeforeTool.write_file", Moment.BEFORE_TOOL, Action.OVERWRITE, ("g.py",)),
    ("gemini", "BeforeTool.replace", Moment.BEFORE_TOOL, Action.EDIT, ("a.txt",)),
    ("gemini", "AfterTool.run_shell_command", Moment.AFTER_TOOL, Action.SHELL, ()),
    ("gemini", "AfterAgent", Moment.TURN_END, Action.OTHER, ()),
    ("opencode", "tool.execute.before.write", Moment.BEFORE_TOOL, Action.OVERWRITE, ("o.py",)),
    ("opencode", "tool.execute.before.edit", Moment.BEFORE_TOOL, Action.EDIT, ("a.txt",)),
    ("opencode", "tool.execute.after.read", Moment.AFTER_TOOL, Action.READ, ("a.txt",)),
    ("opencode", "event.session.created", Moment.SESSION_START, Action.OTHER, ()),
    ("opencode", "event.session.idle", Moment.TURN_END, Action.OTHER, ()),
    ("cursor", "preToolUse.Write", Moment.BEFORE_TOOL, Action.OVERWRITE, ("new.py",)),
    ("cursor", "postToolUse.Shell", Moment.AFTER_TOOL, Action.SHELL, ()),
    ("cursor", "stop", Moment.TURN_END, Action.OTHER, ()),
]


@pytest.mark.parametrize(
    ("harness", "name", "moment", "action", "paths"), EVENTS, ids=lambda value: str(value)[:40]
)
def test_an_event_is_read(
    harness: str, name: str, moment: Moment, action: Action, paths: tuple[str, ...]
) -> None:
    event = read(harness, name)
    assert (event.moment, event.action) == (moment, action)
    assert event.paths == tuple(f"{PROJECT}/{path}" for path in paths)
    assert event.session_id
    assert event.cwd == PROJECT


def test_every_sample_is_read_or_left_alone() -> None:
    """No input makes a hook fail: the client would take that for nothing."""
    for path in SAMPLES.glob("*/*.json"):
        dialect.read(path.parent.name, path.read_bytes(), "/")
        given = sample(path.parent.name, path.stem)
        for field in given:
            values: tuple[Any, ...] = (None, 7, "x", [], [{}], {"a": 1})
            for value in values:
                body = json.dumps({**given, field: value}).encode()
                dialect.read(path.parent.name, body, "/")
    for harness in ("claude", "codex", "gemini", "opencode", "cursor"):
        for body in (b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000):
            assert dialect.read(harness, body, "/") is None


def test_a_sub_agent_is_named_beside_its_conversation() -> None:
    event = read("claude", "PreToolUse.Write.in_subagent")
    assert event.agent_id == "a0000000000000001"


@pytest.mark.parametrize(
    ("harness", "name", "todos"),
    [
        ("claude", "PostToolUse.TaskCreate", (Todo("do x", "pending", "1"),)),
        ("claude", "PostToolUse.TaskUpdate", (Todo("", "completed", "1"),)),
        ("opencode", "tool.execute.after.todowrite", (Todo("x", "in_progress"),)),
    ],
)
def test_a_list_of_tasks_is_read(harness: str, name: str, todos: tuple[Todo, ...]) -> None:
    assert read(harness, name).todos == todos


@pytest.mark.parametrize(
    ("harness", "name", "quota"),
    [
        ("claude", "StopFailure.rate_limit", "anthropic"),
        ("codex", "PostModelRequest.429", "openai"),
    ],
)
def test_a_limit_of_the_vendors_is_seen(harness: str, name: str, quota: str) -> None:
    assert read(harness, name).quota == quota


def test_a_refusal_in_each_clients_words() -> None:
    """Claude Code's words would let Gemini CLI write; exit code 2 would show a command line."""
    deny = {
        "hookEventName": "PreToolUse",
        "permissionDecision": "deny",
        "permissionDecisionReason": "no",
    }
    assert said(read("claude", "PreToolUse.Write"), refusal="no") == {"hookSpecificOutput": deny}
    patch = read("codex", "PreToolUse.apply_patch")
    assert said(patch, refusal="no") == {"hookSpecificOutput": deny}
    gemini = read("gemini", "BeforeTool.write_file")
    assert said(gemini, refusal="no") == {"decision": "deny", "reason": "no"}
    assert said(read("opencode", "tool.execute.before.write"), refusal="no") == {"refusal": "no"}
    cursor = said(read("cursor", "preToolUse.Write"), refusal="no")
    assert cursor == {"permission": "deny", "user_message": "no", "agent_message": "no"}


def test_text_for_the_model_in_each_clients_words() -> None:
    event = read("claude", "PostToolUse.Bash")
    text = {"hookEventName": "PostToolUse", "additionalContext": "news"}
    assert said(event, context="news") == {"hookSpecificOutput": text}
    text = {"hookEventName": "AfterTool", "additionalContext": "news"}
    assert said(read("gemini", "AfterTool.replace"), context="news") == {"hookSpecificOutput": text}
    assert said(read("opencode", "tool.execute.after.bash"), context="x") == {"context": "x"}
    assert said(read("cursor", "postToolUse.Shell"), context="x") == {"additional_context": "x"}


def test_text_that_a_client_does_not_show_is_not_given() -> None:
    """It would count as read, and nobody would have read it."""
    for harness, name in (
        ("gemini", "BeforeTool.replace"),
        ("claude", "Stop"),
        ("opencode", "tool.execute.before.write"),
        ("cursor", "preToolUse.Write"),
    ):
        event = read(harness, name)
        assert not event.takes_context
        assert said(event, context="news") is None


def test_a_turn_that_is_held() -> None:
    assert said(read("claude", "Stop"), hold="wait") == {"decision": "block", "reason": "wait"}
    assert said(read("codex", "Stop"), hold="wait") == {"decision": "block", "reason": "wait"}
    assert said(read("gemini", "AfterAgent"), hold="wait") == {"decision": "deny", "reason": "wait"}
    assert said(read("opencode", "event.session.idle"), hold="wait") == {"hold": "wait"}
    assert said(read("cursor", "stop"), hold="wait") == {"followup_message": "wait"}
