"""An entry of the results stream, to what the fold takes; or the reason why not."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from fabric.core.contradiction import Settled, is_part
from fabric.core.limits import Percent
from fabric.core.signal import Failed, Signal, SignalType
from fabric.core.signal import Refined as RefinedSignal
from fabric.core.synthesis.fold import Result
from fabric.core.synthesis.part import Verdict, canonical_raw
from fabric.core.synthesis.partial import Given, Refusal, Said, Strategy, statements
from fabric.core.synthesis.reducer import Strategies
from fabric.core.synthesis.state import Refined
from fabric.errors import SignalError
from fabric.wire import signal_error
from fabric.wire.entry import counter, name, session_name
from fabric.wire.stored import fields_of, pairs_of

_decode_percent = msgspec.json.Decoder(Percent).decode
_decode_given = msgspec.json.Decoder(Given).decode
_decode_failed = msgspec.json.Decoder(Failed).decode
_decode_settled = msgspec.json.Decoder(Settled).decode
_decode_refined = msgspec.json.Decoder(RefinedSignal).decode

_TYPES = {kind.value.encode(): kind for kind in SignalType}

#: Signals that give something to the synthesis. By any other one an agent has begun.
_GIVING = frozenset({SignalType.PROGRESS, SignalType.PARTIAL_RESULT, SignalType.COMPLETED})

#: How documents are taken apart where no rule says otherwise.
_DEFAULTS = Strategies()


def check(signal: Signal) -> None:
    """Refuse a signal whose result would not be folded, before it is sent. Raises SignalError."""
    if signal.type not in _GIVING:
        return
    said = Said(signal.emitter, signal.incarnation, 0, 0)
    found = statements(_decode_given(signal.raw), said, _DEFAULTS.of)
    if isinstance(found, Refusal):
        raise SignalError(found.code, "partial", found.given, found.allowed)


def session_of(fields: list[bytes]) -> str:
    """Return the session of an entry. Raises SignalError."""
    for field, value in pairs_of(fields):
        if field == b"session":
            return session_name(value)
    raise SignalError("MISSING", "session", "nothing", "a name; every result has one")


def decode(fields: list[bytes], strategy: Strategy) -> Result:
    """Return the result that an entry holds. Raises SignalError, and nothing else."""
    entry = fields_of(fields)
    kind = _TYPES.get(entry.get(b"type", b""))
    if kind is None:
        raise signal_error.unknown_type(entry.get(b"type", b"").decode("utf-8", "replace"))
    raw = entry.get(b"payload") or b"{}"
    signal_error.check_payload(raw)
    said = Said(
        name(b"emitter", entry.get(b"emitter")),
        counter(b"incarnation", entry.get(b"incarnation") or b"1"),
        counter(b"cause", entry.get(b"cause", b"").partition(b"-")[0]),
        counter(b"ms", entry.get(b"ms", b"")),
    )
    try:
        return _result(kind, said, raw, entry, strategy)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        expected = f"what the fabric writes with {kind} ({error})"
        raise SignalError("VALUE", "payload", signal_error.shown(raw), expected) from None


def _result(
    kind: SignalType, said: Said, raw: bytes, entry: dict[bytes, bytes], strategy: Strategy
) -> Result:
    if kind is SignalType.DECIDED:
        settled = _decode_settled(raw)
        if not is_part(settled.part):
            raise SignalError(
                "VALUE", "part", signal_error.shown(settled.part), "the name of a part"
            )
        verdict = Verdict(
            settled.decision,
            settled.by,
            said.log,
            said.ms,
            settled.chosen,
            settled.rejected,
            canonical_raw(settled.value) if isinstance(settled.value, msgspec.Raw) else UNSET,
        )
        return Result(kind, said, verdict=(settled.part, verdict))
    if kind is SignalType.REFINED:
        given = _decode_refined(raw)
        refined = Refined(canonical_raw(given.value), said.log, said.ms, given.revision)
        return Result(kind, said, refined=(given.refiner, refined))
    found = statements(_decode_given(raw), said, strategy) if kind in _GIVING else {}
    refusal = found if isinstance(found, Refusal) else None
    is_failure = kind is SignalType.FAILED
    return Result(
        kind,
        said,
        {} if isinstance(found, Refusal) else found,
        _percent(entry.get(b"percent")),
        (_decode_failed(raw).error or "") if is_failure else "",
        is_silent=b"silent" in entry,
        refusal=refusal,
    )


def _percent(value: bytes | None) -> int | float | None:
    try:
        percent = _decode_percent(value) if value else None
    except (msgspec.MsgspecError, ValueError):
        expected = "a number, 0 to 100"
        raise SignalError("VALUE", "percent", signal_error.shown(value), expected) from None
    # 100 and 100.0 are the same, whichever came first: so they are kept as the same.
    return int(percent) if percent is not None and percent == int(percent) else percent
