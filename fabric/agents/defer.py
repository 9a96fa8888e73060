"""A run of Claude Code that ends at a write which has to wait, and is resumed at its turn.

    fabric run    says in the client's environment that it can resume it (VARIABLE)
    hook          waits as always, and then answers `defer` instead of a refusal
    client        ends with `stop_reason: tool_deferred`, exit code 0
    fabric run    asks the agent daemon for the end of the wait, and starts it with `--resume`

Meanwhile no process of the client waits, and the model is not asked. Only one call can be resumed:
of two that are deferred Claude Code forgets the first, and by its documentation it may run a
deferred call that is not the only one of its message. Others are refused as always.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

#: Tells the hooks that the client can be resumed.
VARIABLE = "FABRIC_DEFER"

#: Options with which a run cannot be resumed, or is a resumed one already.
_NEVER = (
    *("-c", "--continue", "-r", "--resume", "--session-id", "--fork-session"),
    *("--no-session-persistence", "--input-format", "--bg", "--background"),
)

#: Bytes at the end of a conversation's file in which its last message is looked for.
_TAIL_BYTES = 1024 * 1024


def can_resume(command: Sequence[str]) -> bool:
    """Whether a command is a run of Claude Code that can be resumed, and says when it must be."""
    words = {word.partition("=")[0] for word in command[1:]}
    is_headless = bool(words & {"-p", "--print"})
    is_read = any(one.endswith("json") for one in _values(command, "--output-format"))
    is_claude = Path(command[0]).name == "claude"
    return is_claude and is_headless and is_read and not words & set(_NEVER)


def _values(command: Sequence[str], option: str) -> list[str]:
    after = [two for one, two in pairwise(command) if one == option]
    return after + [word.partition("=")[2] for word in command if word.startswith(f"{option}=")]


def resumption(command: Sequence[str], conversation: str, prompt: str) -> tuple[str, ...]:
    """Return the command that goes on with a conversation; it has had its prompt."""
    words = [word for word in command[1:] if not prompt or word.strip() != prompt.strip()]
    return (command[0], *words, "--resume", conversation)


def is_only_call(transcript: str, call: str) -> bool:
    """Whether a call of a tool is the only one of its message, by the client's own file."""
    try:
        with Path(transcript).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return False
    calls: dict[str, set[str]] = {}
    for line in lines:
        try:
            message = json.loads(line).get("message") or {}
            parts = message["content"] if message.get("role") == "assistant" else ()
            found = {part["id"] for part in parts if part.get("type") == "tool_use"}
            calls.setdefault(str(message.get("id")), set()).update(found)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # cut off, or another kind of line
    return {call} in calls.values()
