"""Codex. Its hooks are Claude Code's, with other tools, and files named in patches.

`update_plan` fires no hook. A limit of the vendor's shows in PostModelRequest alone.
"""

from __future__ import annotations

from posixpath import join
from typing import Any

from fabric.agents import patch
from fabric.agents.dialect.claude import CONTEXT, MOMENTS, render
from fabric.agents.event import Action, Event, Moment, Todo

__all__ = ["read", "render"]

#: Events that Claude Code does not have.
_MOMENTS = {**MOMENTS, "Interrupt": Moment.TURN_END}


def read(data: dict[str, Any], cwd: str) -> Event | None:
    """Return the event in a hook's input."""
    name = data["hook_event_name"]
    error = ""
    if name == "PostModelRequest":
        error = str(data.get("error") or "")
        if "429" not in error:
            return None
        moment = Moment.TURN_FAILED
    elif name in _MOMENTS:
        moment = _MOMENTS[name]
    else:
        return None
    cwd = data.get("cwd") or cwd
    tool, given = data.get("tool_name") or "", data.get("tool_input") or {}
    action = Action.OTHER
    paths: tuple[str, ...] = ()
    todos: tuple[Todo, ...] = ()
    command = str(given.get("command") or "")
    if tool == "apply_patch" or (tool == "Bash" and "*** Begin Patch" in command):
        # In a shell too: Codex takes `apply_patch <<EOF` out of a command and runs it itself.
        action, paths = Action.EDIT, patch.paths(command)
    elif tool == "Bash":
        action = Action.SHELL
    elif tool == "update_plan":
        action = Action.TODO
        todos = tuple(Todo(str(one["step"]), str(one["status"])) for one in given["plan"])
    return Event(
        harness="codex",
        moment=moment,
        name=name,
        session_id=str(data["session_id"]),
        agent_id=str(data.get("agent_id") or ""),
        cwd=cwd,
        tool=tool,
        action=action,
        paths=tuple(join(cwd, path) for path in paths),
        tool_id=str(data.get("tool_use_id") or ""),
        todos=todos,
        is_whole_list=True,
        error=error,
        quota="openai" if error else "",
        is_held=bool(data.get("stop_hook_active")),
        takes_context=name in CONTEXT,
    )
