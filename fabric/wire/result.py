"""Decodes an entry of the results stream to what `fold` takes, or says what is wrong with it."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from fabric.core.contradiction import DecidedResult, is_part
from fabric.core.limits import Percent
from fabric.core.resource_name import normalise
from fabric.core.roster import RosterResult
from fabric.core.signal import GIVING, Failed, Refined, Renamed, SameAs, Signal, SignalType
from fabric.core.synthesis.canonical import canonical_raw
from fabric.core.synthesis.fold import Result
from fabric.core.synthesis.merge import Strategies, Strategy
from fabric.core.synthesis.partial import Origin, Refusal, ResultPayload, statements
from fabric.core.synthesis.relation import Pair, Rename
from fabric.core.synthesis.state import RefinementRecord, Verdict
from fabric.errors import SignalError
from fabric.wire import signal_error
from fabric.wire.entry import counter, name, session_name
from fabric.wire.stored import fields_of

_decode_percent = msgspec.json.Decoder(Percent).decode
_decode_payload = msgspec.json.Decoder(ResultPayload).decode
_decode_failed = msgspec.json.Decoder(Failed).decode
_decode_decided = msgspec.json.Decoder(DecidedResult).decode
_decode_roster = msgspec.json.Decoder(RosterResult).decode
_decode_renamed = msgspec.json.Decoder(Renamed).decode
_decode_same_as = msgspec.json.Decoder(SameAs).decode
_decode_refined = msgspec.json.Decoder(Refined).decode

#: The types that can say that they give all that the agent still says.
WHOLE = frozenset({SignalType.PARTIAL_RESULT, SignalType.COMPLETED})

_TYPES = {kind.value.encode(): kind for kind in SignalType}

#: How documents are taken apart if no rule says otherwise.
_DEFAULTS = Strategies()


def check(signal: Signal) -> None:
    """Refuse a signal before it is sent if its result could not be folded. Raises SignalError."""
    if signal.type not in GIVING:
        return
    origin = Origin(signal.emitter, signal.incarnation, 0, 0)
    found = statements(_decode_payload(signal.raw), origin, _DEFAULTS.of)
    if isinstance(found, Refusal):
        raise SignalError(found.code, "partial", found.given, found.allowed)


def session_of(fields: list[bytes]) -> str:
    """Return the session of an entry. Raises SignalError."""
    session = fields_of(fields).get(b"session")
    if session is None:
        raise SignalError("MISSING", "session", "nothing", "a name; every result has one")
    return session_name(session)


def decode(fields: list[bytes], strategy: Strategy) -> Result:
    """Return the result that an entry holds. Raises SignalError, and nothing else."""
    entry = fields_of(fields)
    kind = _TYPES.get(entry.get(b"type", b""))
    if kind is None:
        raise signal_error.unknown_type(entry.get(b"type", b"").decode("utf-8", "replace"))
    raw = entry.get(b"payload") or b"{}"
    signal_error.check_payload(raw)
    is_roster = kind is SignalType.AGENTS_EXPECTED  # the fabric's own: no agent has said it
    origin = Origin(
        "" if is_roster else name(b"emitter", entry.get(b"emitter")),
        counter(b"incarnation", entry.get(b"incarnation") or b"1"),
        counter(b"cause", entry.get(b"cause", b"").partition(b"-")[0]),
        counter(b"ms", entry.get(b"ms", b"")),
        counter(b"since", entry.get(b"since") or b"0"),
    )
    try:
        if kind is SignalType.DECIDED:
            return Result(kind, origin, verdict=_verdict(raw, origin))
        if is_roster:
            told = _decode_roster(raw)
            return Result(kind, origin, roster=(told.agents, told.is_absent))
        if kind in (SignalType.RENAMED, SignalType.SAME_AS):
            return Result(kind, origin, relations=_relations(kind, raw, origin))
        if kind is SignalType.REFINED:
            return Result(kind, origin, refined=_refined(raw, origin))
        payload = _decode_payload(raw)
        found = statements(payload, origin, strategy) if kind in GIVING else {}
        percent = _percent(entry.get(b"percent"))
        reason = (_decode_failed(raw).error or "") if kind is SignalType.FAILED else ""
        is_silent = b"silent" in entry
        given, refusal = ({}, found) if isinstance(found, Refusal) else (found, None)
        for statement in given.values() if origin.since else ():
            statement.since = origin.since
        is_whole = payload.is_whole and kind in WHOLE and refusal is None
        return Result(kind, origin, given, percent, reason, is_silent, refusal, is_whole=is_whole)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        expected = f"what the fabric writes with {kind} ({error})"
        raise signal_error.wrong("VALUE", "payload", raw, expected) from None


def _verdict(raw: bytes, origin: Origin) -> tuple[str, Verdict]:
    decided = _decode_decided(raw)
    if not is_part(decided.part):
        raise signal_error.wrong("VALUE", "part", decided.part, "the name of a part")
    value = canonical_raw(decided.value) if isinstance(decided.value, msgspec.Raw) else UNSET
    said, by, chosen, rejected = decided.decision, decided.by, decided.chosen, decided.rejected
    others = [canonical_raw(one) for one in decided.others]
    return decided.part, Verdict(said, by, origin.log, origin.ms, chosen, rejected, value, others)


def _refined(raw: bytes, origin: Origin) -> tuple[str, RefinementRecord]:
    given = _decode_refined(raw)
    value = canonical_raw(given.value)
    return given.refiner, RefinementRecord(
        value, origin.log, origin.ms, given.revision, given.markdown
    )


def _relations(kind: SignalType, raw: bytes, origin: Origin) -> list[Pair | Rename]:
    if kind is SignalType.RENAMED:
        moved = _decode_renamed(raw)
        # `src/` is what `src` is: all keys beneath it.
        paths = [normalise(one).removesuffix("/**") for one in (moved.old, moved.new)]
        is_move = paths[0] != paths[1]
        return [Rename(paths[0], paths[1], origin.log, moved.by or origin.agent)] if is_move else []
    said = _decode_same_as(raw)
    first, *others = dict.fromkeys(said.keys)
    return [
        Pair((min(first, one), max(first, one)), origin.log, said.by or origin.agent, said.distinct)
        for one in others
    ]


def _percent(value: bytes | None) -> int | float | None:
    try:
        percent = _decode_percent(value) if value else None
    except (msgspec.MsgspecError, ValueError):
        raise signal_error.wrong("VALUE", "percent", value, "a number, 0 to 100") from None
    # 100 and 100.0 are the same number: they are stored alike, whichever came first.
    return int(percent) if percent is not None and percent == int(percent) else percent
