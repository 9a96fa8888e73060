"""An ingress entry, as read from the stream, to a typed signal; or the reason why not.

The hot path: an entry in canonical fields (design, section 4) is checked without being rewritten.
Its payload is decoded once, by the struct of its type, which looks only at the fields the rules
need; the log repeats the entry's own bytes. Other spellings are first rewritten (`spelling.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from fabric.core.limits import (
    COUNTER_MAX,
    ENTRY_FIELDS_MAX,
    FIELD_BYTES_MAX,
    NAME_CHARS_MAX,
    PAYLOAD_BYTES_MAX,
    PAYLOAD_DEPTH_MAX,
)
from fabric.core.signal import PAYLOADS, Signal, SignalType
from fabric.errors import SignalError
from fabric.wire import complaint
from fabric.wire.spelling import ENVELOPE, rewrite

_DECODERS: dict[bytes, tuple[SignalType, Callable[[bytes], Any]]] = {
    kind.value.encode(): (kind, msgspec.json.Decoder(payload).decode)
    for kind, payload in PAYLOADS.items()
}
_decode_time = msgspec.json.Decoder(Annotated[datetime, msgspec.Meta(tz=True)]).decode

#: Names seen lately, decoded and checked: most entries repeat them. Emptied when full.
_NAMES_MAX = 50_000
_names: dict[bytes, str] = {}

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def decode(fields: list[bytes]) -> Signal:
    """Return the signal that an entry's flat fields spell, in any accepted spelling.

    Raises SignalError, naming field, value and what is allowed. Never anything else, whatever the
    bytes.
    """
    pairs = iter(fields)
    entry = dict(zip(pairs, pairs, strict=False))
    known = _DECODERS.get(entry.get(b"type", b""))
    if known is None or len(entry) * 2 != len(fields) or not entry.keys() <= ENVELOPE:
        if len(fields) > 2 * ENTRY_FIELDS_MAX:
            raise complaint.excess("entry", len(fields) // 2, f"{ENTRY_FIELDS_MAX} fields")
        fields = rewrite(fields)
        pairs = iter(fields)
        entry = dict(zip(pairs, pairs, strict=True))
        known = _DECODERS[entry[b"type"]]
    return _signal(fields, entry, *known)


def _signal(
    fields: list[bytes],
    entry: dict[bytes, bytes],
    kind: SignalType,
    decoder: Callable[[bytes], Any],
) -> Signal:
    session = name(b"session", entry.get(b"session"))
    if ":" in session:
        raise SignalError("NAME", "session", repr(session), "a name without ':'")
    raw = entry.get(b"payload") or b"{}"
    check_payload(raw)
    try:
        payload = decoder(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise complaint.payload(kind, raw, error) from None
    stream, task = entry.get(b"stream"), entry.get(b"task")
    seq, incarnation = entry.get(b"seq"), entry.get(b"incarnation")
    if len(entry) > 6:
        _check_rest(entry)
    return Signal(
        kind,
        session,
        name(b"emitter", entry.get(b"emitter")),
        name(b"stream", stream) if stream else "",
        payload,
        raw,
        fields,
        counter(b"seq", seq) if seq else 0,
        counter(b"incarnation", incarnation) if incarnation else 0,
        name(b"task", task) if task else "",
    )


def name(field: bytes, value: bytes | None) -> str:
    """Decode and check a name. Raises SignalError."""
    if not value:
        raise SignalError("MISSING", field.decode(), "nothing", "a name; every signal has one")
    known = _names.get(value)
    if known is not None:
        return known
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise SignalError("NAME", field.decode(), complaint.shown(value), "UTF-8 text") from None
    if len(text) > NAME_CHARS_MAX:
        raise complaint.excess(field.decode(), len(text), f"{NAME_CHARS_MAX} characters")
    if not text.isprintable() or text != text.strip():
        raise SignalError(
            "NAME",
            field.decode(),
            complaint.shown(value),
            "printable characters, no line break or other control character, no outer spaces",
        )
    if len(_names) >= _NAMES_MAX:
        _names.clear()
    _names[value] = text
    return text


def counter(field: bytes, value: bytes) -> int:
    """Decode a sequence number or an incarnation. Raises SignalError."""
    if value.isdigit() and len(value) <= 19:
        number = int(value)
        if number <= COUNTER_MAX:
            return number
    raise SignalError(
        "NUMBER", field.decode(), complaint.shown(value), f"a whole number, 0 to {COUNTER_MAX}"
    )


def check_payload(raw: bytes) -> None:
    """Refuse a payload that is too large, too deep or no text. Raises SignalError."""
    if len(raw) > PAYLOAD_BYTES_MAX:
        raise complaint.excess("payload", len(raw), f"{PAYLOAD_BYTES_MAX} bytes")
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError:
            raise SignalError("JSON", "payload", complaint.shown(raw), "JSON in UTF-8") from None
    if raw.count(b"{") + raw.count(b"[") > PAYLOAD_DEPTH_MAX and _depth(raw) > PAYLOAD_DEPTH_MAX:
        raise complaint.excess("payload", _depth(raw), f"{PAYLOAD_DEPTH_MAX} levels of nesting")


def _depth(raw: bytes) -> int:
    deepest = level = 0
    for bracket in _STRINGS.sub(b"", raw).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            level += 1
            deepest = max(deepest, level)
        else:
            level -= 1
    return deepest


def _check_rest(entry: dict[bytes, bytes]) -> None:
    """Check the envelope's rarer fields: they are kept as they are, so long as they are sane."""
    at = entry.get(b"at")
    if at is not None:
        try:
            _decode_time(b'"%s"' % at)
        except (msgspec.MsgspecError, ValueError):
            raise SignalError(
                "TIME", "at", complaint.shown(at), "RFC 3339 with an offset: 2025-12-30T19:30:00Z"
            ) from None
    for field in (b"at", b"trace", b"sig"):
        value = entry.get(field, b"")
        if len(value) > FIELD_BYTES_MAX:
            raise complaint.excess(field.decode(), len(value), f"{FIELD_BYTES_MAX} bytes")
