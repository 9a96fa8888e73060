"""OpenCode. Its plugin (`opencode.js`) gives what its own hooks get, and acts on what is answered.

The answer is a document for the plugin: `refusal`, `context`, `hold`, `env`.
"""

from __future__ import annotations

from posixpath import join
from typing import Any

from fabric.agents import patch
from fabric.agents.event import Action, Answer, Event, Moment, Todo

_MOMENTS = {
    "init": Moment.SESSION_START,
    "chat.message": Moment.TURN_START,
    "tool.execute.before": Moment.BEFORE_TOOL,
    "tool.execute.after": Moment.AFTER_TOOL,
    "shell.env": Moment.SESSION_START,
    "session.created": Moment.SESSION_START,
    "session.idle": Moment.TURN_END,
    "session.error": Moment.TURN_FAILED,
    "session.deleted": Moment.SESSION_END,
    "system.transform": Moment.SESSION_START,
}

_CONTEXT = frozenset({"tool.execute.after", "system.transform"})

#: Tool → what it does, and the field with its path.
_TOOLS = {
    "write": (Action.OVERWRITE, "filePath"),
    "edit": (Action.EDIT, "filePath"),
    "multiedit": (Action.EDIT, "filePath"),
    "patch": (Action.EDIT, ""),
    "apply_patch": (Action.EDIT, ""),
    "read": (Action.READ, "filePath"),
    "bash": (Action.SHELL, ""),
    "todowrite": (Action.TODO, ""),
}


def read(data: dict[str, Any], cwd: str) -> Event | None:
    """Return the event that the plugin has passed on."""
    name = data["hook"]
    if name not in _MOMENTS:
        return None
    given = data.get("input") or {}
    cwd = data.get("directory") or cwd
    properties = given.get("properties") or {}
    session_id = given.get("sessionID") or properties.get("sessionID")
    if not session_id:
        return None
    tool, args = given.get("tool") or "", data.get("args") or given.get("args") or {}
    action, field = _TOOLS.get(tool, (Action.OTHER, ""))
    found: tuple[str, ...] = (args[field],) if field and args.get(field) else ()
    if tool in ("patch", "apply_patch"):
        found = patch.paths(str(args.get("patchText") or args.get("patch") or ""))
    listed = args.get("todos") or [] if action is Action.TODO else []
    error = properties.get("error") or {}
    status = (error.get("data") or {}).get("statusCode")
    return Event(
        harness="opencode",
        moment=_MOMENTS[name],
        name=name,
        session_id=str(session_id),
        cwd=cwd,
        tool=tool,
        action=action,
        paths=tuple(join(cwd, path) for path in found),
        tool_id=str(given.get("callID") or ""),
        todos=tuple(Todo(str(one["content"]), str(one["status"])) for one in listed),
        is_whole_list=True,
        error=str(error.get("name") or ""),
        quota="opencode" if status == 429 else "",
        takes_context=name in _CONTEXT,
        is_lasting=name != "system.transform",
    )


def render(event: Event, answer: Answer) -> dict[str, Any] | None:
    """Return what the plugin reads."""
    said: dict[str, Any] = {}
    if answer.refusal:
        said["refusal"] = answer.refusal
    if answer.hold:
        said["hold"] = answer.hold
    if answer.context and event.takes_context:
        said["context"] = answer.context
    if answer.variables and event.name == "shell.env":
        said["env"] = dict(answer.variables)
    return said or None
