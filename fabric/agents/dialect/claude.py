"""Claude Code. What each answer really does was tried with the client (docs/coding-agents.md).

Refusals are JSON, not exit code 2: with that, the model also reads the hook's whole command line.
"""

from __future__ import annotations

from posixpath import join
from typing import Any

from fabric.agents.event import Action, Answer, Event, Moment, Todo

MOMENTS = {
    "SessionStart": Moment.SESSION_START,
    "UserPromptSubmit": Moment.TURN_START,
    "PreToolUse": Moment.BEFORE_TOOL,
    "PostToolUse": Moment.AFTER_TOOL,
    "PostToolUseFailure": Moment.AFTER_TOOL,
    "Stop": Moment.TURN_END,
    "StopFailure": Moment.TURN_FAILED,
    "SessionEnd": Moment.SESSION_END,
    "SubagentStart": Moment.SUBAGENT_START,
    "SubagentStop": Moment.SUBAGENT_END,
}

#: Events whose answer may carry text for the model.
CONTEXT = frozenset(
    {"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "SubagentStart"}
)

#: Tool → what it does, and the field with its path.
_TOOLS = {
    "Write": (Action.OVERWRITE, "file_path"),
    "Edit": (Action.EDIT, "file_path"),
    "MultiEdit": (Action.EDIT, "file_path"),
    "NotebookEdit": (Action.EDIT, "notebook_path"),
    "Read": (Action.READ, "file_path"),
    "Bash": (Action.SHELL, ""),
    "TodoWrite": (Action.TODO, ""),
    "TaskCreate": (Action.TODO, ""),
    "TaskUpdate": (Action.TODO, ""),
}

#: Errors of StopFailure that say that a limit of the vendor's is used up.
_LIMITS = frozenset({"rate_limit", "overloaded", "billing_error"})


def read(data: dict[str, Any], cwd: str) -> Event | None:
    """Return the event in a hook's input."""
    name = data["hook_event_name"]
    if name not in MOMENTS:
        return None
    cwd = data.get("cwd") or cwd
    tool, given = data.get("tool_name") or "", data.get("tool_input") or {}
    action, field = _TOOLS.get(tool, (Action.OTHER, ""))
    path = given.get(field) if field else None
    error = str(data.get("error") or "") if name == "StopFailure" else ""
    todos, is_whole = _todos(tool, given, data.get("tool_response"))
    return Event(
        harness="claude",
        moment=MOMENTS[name],
        name=name,
        session_id=str(data["session_id"]),
        agent_id=str(data.get("agent_id") or ""),
        cwd=cwd,
        tool=tool,
        action=action,
        paths=(join(cwd, path),) if path else (),
        tool_id=str(data.get("tool_use_id") or ""),
        todos=todos,
        is_whole_list=is_whole,
        error=error,
        quota="anthropic" if error in _LIMITS else "",
        is_held=bool(data.get("stop_hook_active")),
        prompt=str(data.get("prompt") or ""),
        transcript=str(data.get("transcript_path") or ""),
        takes_context=name in CONTEXT,
    )


def _todos(tool: str, given: dict[str, Any], said: Any) -> tuple[tuple[Todo, ...], bool]:
    if tool == "TodoWrite":
        listed = given.get("todos") or []
        return tuple(Todo(str(one["content"]), str(one["status"])) for one in listed), True
    if tool == "TaskCreate" and isinstance(said, dict):  # only the answer has the number
        task = said.get("task") or {}
        return (Todo(str(given["subject"]), "pending", str(task["id"])),), False
    if tool == "TaskUpdate":
        words = str(given.get("subject") or "")
        return (Todo(words, str(given.get("status") or ""), str(given["taskId"])),), False
    return (), False


def render(event: Event, answer: Answer) -> dict[str, Any] | None:
    """Return what the client reads."""
    if answer.hold:
        return {"decision": "block", "reason": answer.hold}
    said: dict[str, Any] = {}
    if answer.is_deferred:
        said = {"permissionDecision": "defer"}
    elif answer.refusal:
        said = {"permissionDecision": "deny", "permissionDecisionReason": answer.refusal}
    if answer.context and event.takes_context:
        said["additionalContext"] = answer.context
    return {"hookSpecificOutput": {"hookEventName": event.name, **said}} if said else None
