"""Cursor, by its documented formats (https://cursor.com/docs/hooks); not tried with the client.

Its roots are in `workspace_roots`; a refusal has one text for the model and one for the person.
"""

from __future__ import annotations

from posixpath import join
from typing import Any

from fabric.agents.event import Action, Answer, Event, Moment

_MOMENTS = {
    "sessionStart": Moment.SESSION_START,
    "beforeSubmitPrompt": Moment.TURN_START,
    "preToolUse": Moment.BEFORE_TOOL,
    "postToolUse": Moment.AFTER_TOOL,
    "postToolUseFailure": Moment.AFTER_TOOL,
    "afterFileEdit": Moment.AFTER_TOOL,
    "stop": Moment.TURN_END,
    "sessionEnd": Moment.SESSION_END,
}

_CONTEXT = frozenset({"sessionStart", "postToolUse"})

_TOOLS = {
    "Write": Action.OVERWRITE,
    "Edit": Action.EDIT,
    "StrReplace": Action.EDIT,
    "Delete": Action.EDIT,
    "Read": Action.READ,
    "Shell": Action.SHELL,
}

#: Fields that hold a tool's path, by version.
_PATHS = ("file_path", "path", "target_file")


def read(data: dict[str, Any], cwd: str) -> Event | None:
    """Return the event in a hook's input."""
    name = data["hook_event_name"]
    if name not in _MOMENTS:
        return None
    roots = data.get("workspace_roots") or []
    cwd = data.get("cwd") or (roots[0] if roots else cwd)
    tool, given = data.get("tool_name") or "", data.get("tool_input") or {}
    action = _TOOLS.get(tool, Action.OTHER)
    if name == "afterFileEdit":
        action, given = Action.EDIT, data
    path = next((given[field] for field in _PATHS if given.get(field)), None)
    return Event(
        harness="cursor",
        moment=_MOMENTS[name],
        name=name,
        session_id=str(data.get("conversation_id") or data["session_id"]),
        cwd=cwd,
        tool=tool,
        action=action,
        paths=(join(cwd, path),) if path and action is not Action.OTHER else (),
        tool_id=str(data.get("tool_use_id") or ""),
        is_held=bool(data.get("loop_count")),
        takes_context=name in _CONTEXT,
    )


def render(event: Event, answer: Answer) -> dict[str, Any] | None:
    """Return what the client reads."""
    if answer.refusal:
        words = {"user_message": answer.refusal, "agent_message": answer.refusal}
        return {"permission": "deny", **words}
    if answer.hold:
        return {"followup_message": answer.hold}
    if answer.context and event.takes_context:
        return {"additional_context": answer.context}
    return None
