"""Messages of the fabric as sentences for a model: facts, each with the one that says it."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.client.message import Message, strings
from fabric.core.divergence import MERGE
from fabric.core.event import ORCHESTRATOR
from fabric.view.text import plain

#: Characters of what another agent has said, and of one sentence.
QUOTE_CHARS_MAX = 400

#: Messages that the hook acts on by itself, or that concern nobody but their sender.
_SILENT = frozenset({"PROCEED", "WAIT", "CHECKPOINT_REACHED", "HEARTBEAT", "STARTED"})


def sentence(message: Message) -> str | None:
    """Return what a message says; None if the model need not know it."""
    if message.is_confirmation or message.type in _SILENT:
        return None
    said = message.payload
    if message.sender == ORCHESTRATOR:
        words = _directive(message.type, said)
    else:
        words = f"{message.sender} says {message.type}: {_quote(said)}"
    return plain(words)[: 2 * QUOTE_CHARS_MAX] if words else None


def _directive(kind: str, said: dict[str, Any]) -> str:
    reason = _text(said.get("reason"))
    if kind == "NUDGE":
        on = _text(said.get("on"))
        return f"{_names(said.get('waiting'))} wait for {on}, which you have or make."
    if kind == "CANCEL":
        return f"CANCEL: {reason}"
    if kind == "PAUSE":
        if said.get("reason") == "conflict":
            return f"Others want {_names(said.get('resources'))}, which you hold."
        return f"PAUSE: {reason}"
    if kind == "RESUME":
        return f"RESUME: {reason}" if reason and said.get("dependency") else ""
    if kind == "ASSIGN":
        return f"The task {_text(said.get('task'))} is ready, and offered to you. {reason}".strip()
    if kind == "DECISION":
        by = _text(said.get("by"))
        return f"{by} decided {_text(said.get('escalation'))}: “{_text(said.get('decision'))}”"
    if kind == "NOTICE":
        return f"NOTICE ({_text(said.get('code'))}): {reason}" if reason else ""
    if kind == "ESCALATE":
        return f"Question {_text(said.get('id'))}: “{_text(said.get('question'))}”"
    if kind == "CONFLICT_DETECTED" and said.get("kind") == MERGE:
        names, agents = _names(said.get("resources")), _names(said.get("agents"))
        if said.get("copies"):
            return f"git cannot merge {names}: {agents} have changed it, each in a copy."
        return f"{agents} write {names}, each in a copy: it will have to be merged."
    return f"{kind}: {_quote(said)}"


def _text(value: Any) -> str:
    return value[:QUOTE_CHARS_MAX] if isinstance(value, str) else ""


def _names(value: Any) -> str:
    names = strings(value)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _quote(said: dict[str, Any]) -> str:
    return f"“{msgspec.json.encode(said).decode('utf-8', 'replace')[:QUOTE_CHARS_MAX]}”"
