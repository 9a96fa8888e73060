"""Decodes an ingress entry to a typed signal, or says why it is refused.

This is the hot path: an entry in canonical fields (docs/protocol.md) is checked without being
rewritten. The struct of its type decodes the payload once and reads only the fields that the rules
need; the log repeats the entry's own bytes. Other spellings are rewritten first (`spelling.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import Annotated, Any

import msgspec

from fabric.core.event import EVERYONE, ORCHESTRATOR, SYNTHESIZER, is_reserved
from fabric.core.limits import (
    COUNTER_MAX,
    ENTRY_FIELDS_MAX,
    FIELD_BYTES_MAX,
    HOPS_MAX,
    NAME_CHARS_MAX,
)
from fabric.core.signal import GIVING, PAYLOADS, Signal, SignalType
from fabric.errors import SignalError
from fabric.wire import signal_error
from fabric.wire.spelling import ENVELOPE, rewrite
from fabric.wire.stored import fields_of

#: A type's word, what reads its payload, and members that hold results where nobody reads them.
_Decoder = tuple[SignalType, Callable[[bytes], Any], frozenset[str]]
#: By the word as it is in an entry.
_DECODERS: dict[bytes, _Decoder] = {
    kind.value.encode(): (
        kind,
        msgspec.json.Decoder(payload).decode,
        frozenset({"findings", "partial", "result"} if kind in GIVING else {"findings", "partial"})
        - frozenset(payload.__struct_fields__),
    )
    for kind, payload in PAYLOADS.items()
}
_decode_time = msgspec.json.Decoder(Annotated[datetime, msgspec.Meta(tz=True)]).decode

#: Names seen recently, decoded and checked: most entries repeat them. Emptied when full.
_NAMES_MAX = 50_000
_names: dict[bytes, str] = {}
#: The same for senders: names that agents may have.
_senders: dict[bytes, str] = {}
#: The same for numbers: agents begin at 1, and many are about as far.
_numbers: dict[bytes, int] = {}
_sessions: dict[bytes, str] = {}

#: Index of a field that an entry does not have: `_signal` appends an empty value there.
ABSENT = -1


class Shape(msgspec.Struct, frozen=True):
    """Where the envelope fields are in an entry: an emitter sends the same fields every time.

    `pick` returns the values of _PICKED, in one call.
    """

    names: tuple[bytes, ...]
    type: int
    pick: itemgetter[Any]
    rare: tuple[bytes, ...]


#: The fields that a signal is made of, besides its type.
_PICKED = (
    *(b"session", b"emitter", b"stream", b"payload", b"seq"),
    *(b"incarnation", b"task", b"hops", b"instance"),
)


#: Shapes seen recently. Emptied when full: an emitter that shuffles its fields slows only itself.
_SHAPES_MAX = 1_000
_shapes: dict[tuple[bytes, ...], Shape] = {}

#: What the synthesizer sends, without numbers.
_SYNTHESIZERS = frozenset(
    {SignalType.CONFLICT_DETECTED, SignalType.DECIDED, SignalType.REFINED}
    | {SignalType.RUN_PURGED, SignalType.SYNTHESIZED}
)

#: Envelope fields that are kept and never used.
_RARE = frozenset({b"at", b"trace", b"sig"})

#: What every delta of a result begins with; see `core/synthesis/delta.py`.
_DELTA = b'"$'

#: Reads the whole payload, to make sure that every other JSON reader can.
_decode_any = msgspec.json.Decoder().decode


def decode(fields: list[bytes], *, is_logged: bool = False) -> Signal:
    """Return the signal in an entry's flat fields, in any spelling. Raises only SignalError.

    `is_logged`: it was accepted once, perhaps by an older version that did not look for results
    that nobody reads.
    """
    names, values = tuple(fields[::2]), fields[1::2]
    shape = _shapes.get(names) or _shape_of(names)
    is_canonical = True
    known = _DECODERS.get(values[shape.type]) if shape is not None else None
    if known is None:
        is_canonical = False
        if len(fields) > 2 * ENTRY_FIELDS_MAX:
            raise signal_error.too_large("entry", len(fields) // 2, f"{ENTRY_FIELDS_MAX} fields")
        fields = rewrite(fields)
        shape, values = _shape_of(tuple(fields[::2])), fields[1::2]
        assert shape is not None, "a rewritten entry is canonical"
        known = _DECODERS[values[shape.type]]
    assert shape is not None, "an entry without a shape is rewritten"
    return _signal(shape, values, known, is_canonical=is_canonical, is_logged=is_logged)


def _shape_of(names: tuple[bytes, ...]) -> Shape | None:
    """Return the shape of entries with these field names, None if they are not canonical."""
    if b"type" not in names or not ENVELOPE.issuperset(names) or len(set(names)) < len(names):
        return None
    if len(_shapes) >= _SHAPES_MAX:
        _shapes.clear()
    places = (names.index(field) if field in names else ABSENT for field in _PICKED)
    rare = tuple(field for field in _RARE if field in names)
    shape = _shapes[names] = Shape(names, names.index(b"type"), itemgetter(*places), rare)
    return shape


def _signal(
    shape: Shape,
    values: list[bytes],
    known: _Decoder,
    *,
    is_canonical: bool,
    is_logged: bool,
) -> Signal:
    kind, decoder, stray = known
    # Every field that the entry lacks has the index of this last value.
    values.append(b"")
    session, emitter, stream, sent, seq, incarnation, task, hops, instance = shape.pick(values)
    values.pop()
    raw = sent or b"{}"
    signal_error.check_payload(raw)
    try:
        payload = decoder(raw)
        whole = _decode_any(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise signal_error.payload_error(kind, raw, error) from None
    if not is_logged and not stray.isdisjoint(whole):
        signal_error.check_results(whole, is_giving=kind in GIVING)
    if _DELTA in raw and kind in GIVING and not is_logged:
        signal_error.check_deltas(whole)
    sender = _senders.get(emitter)
    if sender is None:
        is_own = kind in _SYNTHESIZERS and not (seq or incarnation)
        sender = _sender(emitter, is_own=is_own, is_logged=is_logged)
    if shape.rare:
        _check_rest(shape, values)
    return Signal(
        kind,
        _sessions.get(session) or session_name(session),
        sender,
        (_names.get(stream) or name(b"stream", stream)) if stream else "",
        payload,
        raw,
        shape.names,
        values,
        (_numbers.get(seq) or counter(b"seq", seq)) if seq else 0,
        (_numbers.get(incarnation) or counter(b"incarnation", incarnation)) if incarnation else 0,
        name(b"task", task) if task else "",
        counter(b"hops", hops, HOPS_MAX) if hops else 0,
        is_canonical and raw is sent,
        (_names.get(instance) or name(b"instance", instance)) if instance else "",
    )


def _sender(value: bytes, *, is_own: bool, is_logged: bool) -> str:
    """Decode and check a sender's name. `is_own`: the synthesizer itself may send such a signal."""
    text = name(b"emitter", value)
    if text == SYNTHESIZER and is_own:
        return text
    # An older version has let an agent be called Synthesizer.
    if is_reserved(text) and is_logged and text not in (EVERYONE, ORCHESTRATOR, SYNTHESIZER):
        return text
    refuse_reserved(text)
    if len(_senders) >= _NAMES_MAX:
        _senders.clear()
    _senders[value] = text
    return text


def refuse_reserved(emitter: str) -> None:
    """Raise SignalError for a name that no agent may have."""
    if is_reserved(emitter):
        is_star = emitter.startswith(EVERYONE)
        why = "* stands for all" if is_star else "the fabric itself sends under this one"
        allowed = f"the name of one agent; {why}"
        raise signal_error.wrong("NAME", "emitter", emitter.encode(), allowed)


def session_name(value: bytes) -> str:
    """Decode and check a session's name. Raises SignalError."""
    text = name(b"session", value)
    if ":" in text:
        raise SignalError("NAME", "session", repr(text), "a name without ':'")
    if len(_sessions) >= _NAMES_MAX:
        _sessions.clear()
    _sessions[value] = text
    return text


def sender_of(fields: list[bytes]) -> tuple[str, str] | None:
    """Return session and agent of an entry that is no signal; None where it does not say."""
    sent = fields_of(fields) if len(fields) % 2 == 0 else {}
    try:
        return session_name(sent.get(b"session", b"")), name(b"emitter", sent.get(b"emitter"))
    except SignalError:
        return None


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
        raise signal_error.wrong("NAME", field.decode(), value, "UTF-8 text") from None
    if len(text) > NAME_CHARS_MAX:
        raise signal_error.too_large(field.decode(), len(text), f"{NAME_CHARS_MAX} characters")
    if not text.isprintable() or text != text.strip():
        rest = "no line break or other control character, no outer spaces"
        raise signal_error.wrong("NAME", field.decode(), value, f"printable characters, {rest}")
    if len(_names) >= _NAMES_MAX:
        _names.clear()
    _names[value] = text
    return text


def counter(field: bytes, value: bytes, most: int = COUNTER_MAX) -> int:
    """Decode a sequence number, an incarnation or a number of hops. Raises SignalError."""
    if value.isdigit() and len(value) <= 19:
        number = int(value)
        if number <= most:
            if most == COUNTER_MAX:
                if len(_numbers) >= _NAMES_MAX:
                    _numbers.clear()
                _numbers[value] = number
            return number
    raise signal_error.wrong("NUMBER", field.decode(), value, f"a whole number, 0 to {most}")


def _check_rest(shape: Shape, values: list[bytes]) -> None:
    """Check the envelope fields that are only kept: their size, and the time's format."""
    for field in shape.rare:
        value = values[shape.names.index(field)]
        if len(value) > FIELD_BYTES_MAX:
            raise signal_error.too_large(field.decode(), len(value), f"{FIELD_BYTES_MAX} bytes")
        if field == b"at":
            try:
                # The value itself, not what JSON would make of its backslashes.
                _decode_time(b'"%s"' % value.replace(b"\\", rb"\\"))
            except (msgspec.MsgspecError, ValueError):
                allowed = "RFC 3339 with an offset: 2025-12-30T19:30:00Z"
                raise signal_error.wrong("TIME", "at", value, allowed) from None
