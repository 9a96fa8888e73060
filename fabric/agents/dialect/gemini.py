"""Gemini CLI. Paths may be relative; text for the model is read after a tool, not before one.

It reads `decision`, not Claude Code's `permissionDecision`: with that, the write goes through.
"""

from __future__ import annotations

from posixpath import join
from typing import Any

from fabric.agents.event import Action, Answer, Event, Moment, Todo

_MOMENTS = {
    "SessionStart": Moment.SESSION_START,
    "BeforeAgent": Moment.TURN_START,
    "BeforeTool": Moment.BEFORE_TOOL,
    "AfterTool": Moment.AFTER_TOOL,
    "AfterAgent": Moment.TURN_END,
    "SessionEnd": Moment.SESSION_END,
}

_CONTEXT = frozenset({"SessionStart", "BeforeAgent", "AfterTool"})

#: Tool → what it does, and the field with its path.
_TOOLS = {
    "write_file": (Action.OVERWRITE, "file_path"),
    "replace": (Action.EDIT, "file_path"),
    "read_file": (Action.READ, "file_path"),
    "run_shell_command": (Action.SHELL, ""),
    "write_todos": (Action.TODO, ""),
}


def read(data: dict[str, Any], cwd: str) -> Event | None:
    """Return the event in a hook's input."""
    name = data["hook_event_name"]
    if name not in _MOMENTS:
        return None
    cwd = data.get("cwd") or cwd
    tool, given = data.get("tool_name") or "", data.get("tool_input") or {}
    action, field = _TOOLS.get(tool, (Action.OTHER, ""))
    path = given.get(field) or given.get("absolute_path") if field else None
    listed = given.get("todos") or [] if action is Action.TODO else []
    return Event(
        harness="gemini",
        moment=_MOMENTS[name],
        name=name,
        session_id=str(data["session_id"]),
        cwd=cwd,
        tool=tool,
        action=action,
        paths=(join(cwd, path),) if path else (),
        todos=tuple(Todo(str(one["description"]), str(one["status"])) for one in listed),
        is_whole_list=True,
        is_held=bool(data.get("stop_hook_active")),
        takes_context=name in _CONTEXT,
    )


def render(event: Event, answer: Answer) -> dict[str, Any] | None:
    """Return what the client reads."""
    if answer.refusal or answer.hold:
        return {"decision": "deny", "reason": answer.refusal or answer.hold}
    if answer.context and event.takes_context:
        said = {"hookEventName": event.name, "additionalContext": answer.context}
        return {"hookSpecificOutput": said}
    return None
