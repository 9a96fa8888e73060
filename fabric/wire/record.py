"""Decisions as stream entries: the log, the inboxes, the results and the dead letters.

Field names are the public contract (design, section 4): what `redis-cli XRANGE` shows.
"""

from __future__ import annotations

import msgspec

from fabric.core.decision import Kind, Message
from fabric.core.limits import ENTRY_FIELDS_MAX
from fabric.core.signal import Signal
from fabric.errors import SignalError

#: Prefix of a refused entry's own fields in the dead-letter stream: no value can pass for a reason.
RAW_PREFIX = b"raw."

#: Field that holds all of a refused entry's fields, in MessagePack, when there are very many.
RAW_PACKED = b"raw"

_SIGNAL = (b"kind", Kind.SIGNAL.value.encode())


def logged_signal(signal: Signal, now_ms: int) -> tuple[bytes | str, ...]:
    """Return the log entry of an accepted signal: its own fields, between `kind` and `ms`."""
    return (*_SIGNAL, *signal.fields, b"ms", b"%d" % now_ms)


def logged_refusal(signal: Signal, code: str, reason: str, now_ms: int) -> tuple[bytes | str, ...]:
    """Return the log entry of a refused signal; the signal itself is in `dead`."""
    return (
        "kind", Kind.REFUSED.value,
        "type", signal.type.value,
        "emitter", signal.emitter,
        "code", code,
        "reason", reason,
        "ms", b"%d" % now_ms,
    )  # fmt: skip


def logged_timer(timer: str, now_ms: int) -> tuple[bytes | str, ...]:
    """Return the log entry of a timer that took effect."""
    return ("kind", Kind.DERIVED.value, "type", "TIMER", "timer", timer, "ms", b"%d" % now_ms)


def logged_message(message: Message, cause: str, now_ms: int) -> tuple[bytes | str, ...]:
    """Return the log entry of a consequence. What is passed on keeps its payload in its cause."""
    fields: tuple[bytes | str, ...] = (
        "kind", message.kind.value,
        "type", message.type,
        "to", message.to,
        "from", message.sender,
        "stream", message.stream,
        "cause", cause,
    )  # fmt: skip
    if not message.forwarded:
        fields += ("payload", message.payload)
    return (*fields, "ms", b"%d" % now_ms)


def inbox(message: Message, cause: str) -> tuple[bytes | str, ...]:
    """Return the inbox or broadcast entry of a message."""
    return (
        "type", message.type,
        "from", message.sender,
        "stream", message.stream,
        "cause", cause,
        "payload", message.payload,
    )  # fmt: skip


def result(signal: Signal, incarnation: int, cause: str, now_ms: int) -> tuple[bytes | str, ...]:
    """Return the entry for the synthesizer: who found what, in which incarnation."""
    return (
        "session", signal.session,
        "type", signal.type.value,
        "emitter", signal.emitter,
        "stream", signal.stream,
        "incarnation", b"%d" % incarnation,
        "cause", cause,
        "ms", b"%d" % now_ms,
        "payload", signal.raw,
    )  # fmt: skip


def dead(
    fields: list[bytes], code: str, reason: str, source: str, entry_id: bytes
) -> tuple[bytes | str, ...]:
    """Return the dead letter of a refused entry: why, where it came from, and all it held."""
    kept: list[bytes | str] = ["code", code, "reason", reason, "source", source, "id", entry_id]
    if len(fields) > 2 * ENTRY_FIELDS_MAX:
        # More than a script can pass on one by one: kept in one piece.
        return (*kept, RAW_PACKED, msgspec.msgpack.encode(fields))
    for field, value in zip(fields[::2], fields[1::2], strict=True):
        kept += (RAW_PREFIX + field, value)
    return tuple(kept)


def revived(letter: list[bytes]) -> list[bytes]:
    """Return the fields of the entry that a dead letter holds, as they were sent."""
    fields: list[bytes] = []
    for field, value in zip(letter[::2], letter[1::2], strict=True):
        if field == RAW_PACKED:
            return msgspec.msgpack.decode(value, type=list[bytes])
        if field.startswith(RAW_PREFIX):
            fields += (field.removeprefix(RAW_PREFIX), value)
    return fields


def reason_of(error: SignalError) -> tuple[str, str]:
    """Return code and reason of a refused entry, as the dead-letter stream keeps them."""
    return error.reason_code, str(error)
