"""What each client says, read into events, and answers put into its words. One module a client.

A module has `read(data, cwd)`, which returns None for an event that concerns nobody else, and
`render(event, answer)`, which returns the document that the client reads, or None to say nothing.
Standard library only: the hook uses these without the packages of the fabric's environment.
"""

from __future__ import annotations

import json
from typing import Any

from fabric.agents.dialect import claude, codex, cursor, gemini, opencode
from fabric.agents.event import Answer, Event

_DIALECTS = {
    "claude": claude,
    "codex": codex,
    "gemini": gemini,
    "opencode": opencode,
    "cursor": cursor,
}


def read(harness: str, body: bytes, cwd: str) -> Event | None:
    """Return the event that a client has given; None if there is nothing to do. Never raises."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    try:
        return _DIALECTS[harness].read(data, cwd) if isinstance(data, dict) else None
    except (AttributeError, KeyError, TypeError):  # another version's shape: let the client go on
        return None


def render(event: Event, answer: Answer) -> tuple[int, bytes, bytes]:
    """Return exit code, stdout and stderr of the hook for an answer."""
    document = _DIALECTS[event.harness].render(event, answer)
    return 0, json.dumps(document).encode() if document else b"", b""
