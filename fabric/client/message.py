"""What an agent receives: directives, and signals that the orchestrator passes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fabric.core.directive import CONFIRMED, DirectiveType
from fabric.core.event import ORCHESTRATOR
from fabric.errors import (
    DeadlockError,
    DependencyFailedError,
    FabricError,
    NotAllowedError,
    WaitTimeoutError,
)
from fabric.store.port import Entry
from fabric.wire.stored import pairs_of

#: Digits of a number of hops. A longer one was not written by the fabric.
_HOPS_DIGITS_MAX = 9

#: Fields by which a directive names what it is about; without one it is about the agent itself.
_SUBJECTS = ("dependency", "resources", "barrier", "escalation")


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of an agent's inbox, or of the broadcast stream.

    `id` is stable: the same id is the same message. `cause` is the log id of the signal that led to
    the message; `hops` counts the messages in the chain of answers before it.
    """

    id: str
    type: str
    sender: str
    stream: str
    cause: str
    payload: dict[str, Any]
    to_everyone: bool = False
    hops: int = 0

    @property
    def is_confirmation(self) -> bool:
        """Whether it only says that a signal was accepted, for which the sender had asked."""
        is_notice = self.type == DirectiveType.NOTICE and self.sender == ORCHESTRATOR
        return is_notice and self.payload.get("code") == CONFIRMED

    @property
    def is_about_agent(self) -> bool:
        """Whether it names nothing else, so that it is about the receiving agent as a whole."""
        return not any(self.payload.get(subject) for subject in _SUBJECTS)


def read(entry: Entry, *, to_everyone: bool = False) -> Message:
    """Return the message in an entry. Anybody may have written the entry: no field is required."""
    entry_id, flat = entry
    fields = {name.decode("utf-8", "replace"): value for name, value in pairs_of(flat)}

    def text(name: str) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    hops = text("hops")
    try:
        payload = msgspec.json.decode(fields.get("payload") or b"{}")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        payload = text("payload")
    if not isinstance(payload, dict):
        payload = {"payload": payload}
    return Message(
        entry_id.decode(),
        text("type"),
        text("from"),
        text("stream"),
        text("cause"),
        payload,
        to_everyone,
        int(hops) if hops.isdecimal() and len(hops) <= _HOPS_DIGITS_MAX else 0,
    )


def refusal(agent: str, message: Message) -> FabricError:
    """Return the error to raise for a CANCEL of something that the agent has asked for."""
    payload = message.payload
    reason = str(payload.get("reason") or "no reason given")
    if payload.get("code") == "DEADLOCK":
        cycle, affected = strings(payload.get("cycle")), strings(payload.get("affected"))
        return DeadlockError(reason, cycle, affected)
    if payload.get("code") == "DEADLINE":
        return WaitTimeoutError(f"{agent}: {reason}")
    if payload.get("code") == "ABANDONED":
        return DependencyFailedError(reason)
    return NotAllowedError(f"{agent} was refused: {reason}")


def place_in_line(agent: str, wait: Mapping[str, Any]) -> str:
    """Say who holds what the agent waits for, from the payload of the WAIT that told it."""
    holder = wait.get("holder") or "nobody"
    if barrier := wait.get("barrier"):
        return f"{holder} integrates {barrier}, and nobody else is granted anything until then"
    return f"{holder} has it; {agent} was number {wait.get('position')} in line"


def is_grant(message: Message) -> bool:
    """Whether a message grants resources: a PROCEED with a fencing token."""
    return message.type == DirectiveType.PROCEED and isinstance(message.payload.get("token"), int)


def given(**fields: Any) -> dict[str, Any]:
    """Return a payload of the fields that are given, not None."""
    return {name: value for name, value in fields.items() if value is not None}


def strings(value: Any) -> list[str]:
    """Return the strings of a list in a payload, and leave out everything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
