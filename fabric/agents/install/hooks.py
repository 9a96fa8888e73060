"""Which events of each client get the hook, with their time limits."""

from __future__ import annotations

import sys
from typing import Any

from fabric.agents.command import hook_command

#: Seconds for a hook that may wait for a file: over the hook's own limit, so that it answers first.
WAIT_S = 60
#: Seconds for any other.
ASK_S = 20
#: Seconds that Codex grants at most to the two last hooks of a session.
CODEX_END_S = 1
CODEX_INTERRUPT_S = 3

_WRITES = "Edit|Write|MultiEdit|NotebookEdit|Bash"

#: Client → event → the tools it is for ("" for all), and its time limit, s.
EVENTS: dict[str, dict[str, tuple[str, int]]] = {
    "claude": {
        "SessionStart": ("", ASK_S),
        "UserPromptSubmit": ("", ASK_S),
        "PreToolUse": (_WRITES, WAIT_S),
        "PostToolUse": ("", ASK_S),
        "PostToolUseFailure": ("", ASK_S),
        "Stop": ("", WAIT_S),
        "StopFailure": ("", ASK_S),
        "SubagentStart": ("", ASK_S),
        "SubagentStop": ("", ASK_S),
        "SessionEnd": ("", ASK_S),
    },
    "codex": {
        "SessionStart": ("", ASK_S),
        "UserPromptSubmit": ("", ASK_S),
        "PreToolUse": ("", WAIT_S),
        "PostToolUse": ("", ASK_S),
        "PostModelRequest": ("", ASK_S),
        "Stop": ("", WAIT_S),
        "SubagentStart": ("", ASK_S),
        "SubagentStop": ("", ASK_S),
        "Interrupt": ("", CODEX_INTERRUPT_S),
        "SessionEnd": ("", CODEX_END_S),
    },
    "gemini": {
        "SessionStart": ("", ASK_S),
        "BeforeAgent": ("", ASK_S),
        "BeforeTool": ("write_file|replace|run_shell_command", WAIT_S),
        "AfterTool": ("", ASK_S),
        "AfterAgent": ("", WAIT_S),
        "SessionEnd": ("", ASK_S),
    },
    # One unknown name would void the whole file, in silence.
    "cursor": {
        "sessionStart": ("", ASK_S),
        "beforeSubmitPrompt": ("", ASK_S),
        "preToolUse": ("Write|Edit|StrReplace|Delete|Shell", WAIT_S),
        "postToolUse": ("", ASK_S),
        "afterFileEdit": ("", ASK_S),
        "stop": ("", WAIT_S),
        "sessionEnd": ("", ASK_S),
    },
}


def entries(harness: str) -> dict[str, list[dict[str, Any]]]:
    """Return what belongs under `hooks` in a client's configuration: event → list of entries."""
    command = hook_command(harness)
    found: dict[str, list[dict[str, Any]]] = {}
    for event, (tools, limit_s) in EVENTS[harness].items():
        hook: dict[str, Any] = {"type": "command", "command": command, "timeout": limit_s}
        matcher = {"matcher": tools} if tools else {}
        if harness == "cursor":
            found[event] = [{"command": command, "timeout": limit_s, **matcher}]
            continue
        if harness == "gemini":
            hook |= {"name": "fabric", "timeout": limit_s * 1000}  # ms, there
        found[event] = [{**matcher, "hooks": [hook]}]
    return found


def fabric_command(*words: str) -> list[str]:
    """Return the command line of `fabric` with this Python, wherever the client runs it."""
    return [sys.executable, "-m", "fabric.cli", *words]
