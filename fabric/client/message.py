"""What an agent receives: a directive, or a signal that was passed on to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from fabric.store.port import Entry
from fabric.wire.stored import pairs_of

#: Digits of a number of hops: what is longer was made up.
_HOPS_DIGITS_MAX = 9


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of an inbox, or of the broadcast stream.

    `id` is stable: who sees it twice has seen the same message. `cause` is the log id of the signal
    that it follows from; `hops` counts the messages that led to it, one answering the other.
    """

    id: str
    type: str
    sender: str
    stream: str
    cause: str
    payload: dict[str, Any]
    to_everyone: bool = False
    hops: int = 0


def read(entry: Entry, *, to_everyone: bool = False) -> Message:
    """Return the message of an entry. A person may have written it by hand: nothing is required."""
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
