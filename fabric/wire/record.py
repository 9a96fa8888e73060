"""Encodes decisions as stream entries: the log, inboxes, results, revisions, and dead letters.

Field names are public: `redis-cli XRANGE` shows them, and docs/protocol.md lists them.

Each function returns a form and all its values. Many of them are those of the input entry: then the
form can say which (`CopyingForm`), and the commit copies them on the server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

import msgspec

from fabric.core.event import (
    NO_PEERS,
    NOTHING_READ,
    ORCHESTRATOR,
    Kind,
    Message,
    Peers,
    Reading,
)
from fabric.core.limits import ENTRY_FIELDS_MAX
from fabric.core.record import AgentRecord
from fabric.core.rules import Rules
from fabric.core.signal import Failed, Signal, SignalType, Started
from fabric.errors import SignalError
from fabric.wire.stored import pairs_of, text, texts

#: Prefix of a refused entry's own fields in a dead letter: they cannot be mistaken for ours.
RAW_PREFIX = b"raw."

#: Field with all fields of a refused entry as MessagePack, used if there are very many.
RAW_PACKED = b"raw"

#: `kind` of the log entry with the rules in force from there on; its type is `RULES`.
RULES_KIND = "rules"

#: Type of a timer's log entry.
TIMER_TYPE = "TIMER"

#: Type of the log entry that says how long no signal could be decided.
OUTAGE_TYPE = "OUTAGE"

#: Type of a log entry from which on tokens are above a number: above those of deleted sessions, or
#: of a history that the server may have lost.
TOKENS_TYPE = "TOKENS"

#: Type of the log entry that says that an entry in an agent's name was no signal.
UNREADABLE_TYPE = "UNREADABLE"

#: Field names of each kind of entry, in order; the functions below return the values.
RULES = ("kind", "type", "payload", "ms")
TIMER = ("kind", "type", "timer", "ms")
PEERS_TIMER = ("kind", "type", "timer", "peers_silent", "peers_heard", "ms")
READ_TIMER = ("kind", "type", "timer", "read", "ms")
OUTAGE = ("kind", "type", "outage_ms", "ms")
TOKENS = ("kind", "type", "token", "ms")
UNREADABLE = ("kind", "type", "emitter", "code", "reason", "ms")
DERIVED = ("kind", "type", "to", "from", "stream", "cause", "payload", "ms")
FORWARDED = ("kind", "type", "to", "from", "stream", "cause", "ms")
MESSAGE = ("type", "from", "stream", "cause", "payload")
ANSWERABLE = (*MESSAGE, "hops")
#: Of a dead letter; the fields of the refused entry follow.
LETTER = ("code", "reason", "source", "id")
RESULT = (
    "session", "type", "emitter", "stream", "incarnation", "cause", "ms", "payload", "percent",
)  # fmt: skip
#: With the log number of the checkpoint that the agent has passed last, or resumes from.
SINCE_RESULT = (*RESULT, "since")
#: For an agent declared dead: the fabric says so, not the agent.
DEATH = (*RESULT, "silent")
OWN_SIGNAL = ("session", "type", "emitter", "payload")
REVISION = ("patch", "causes", "ms", "final")

#: Forms remembered: an emitter that shuffles its fields must not fill the memory.
_FORMS_MAX = 1_000

#: An entry of a stream: its field names, and their values. Bytes are given as `text`.
Form = tuple[str | bytes, ...]
Values = Sequence[str | int]

#: Place of a value that the input entry does not have.
GIVEN: Final = -1

#: Our names for what a signal's own fields say. Its log entry repeats their names as bytes.
_OWN_FIELDS: Final = {
    "session": b"session", "type": b"type", "emitter": b"emitter", "from": b"emitter",
    "stream": b"stream", "payload": b"payload",
}  # fmt: skip


class CopyingForm(tuple[str | bytes, ...]):
    """A form of which some values are those of an input entry with known field names.

    `places`: for each name the index of the input entry's field with its value, or GIVEN. `given`
    picks the other values, of which there are at least two.
    """

    places: tuple[int, ...]
    given: itemgetter[Any]

    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        is_same = isinstance(other, CopyingForm) and self.places == other.places
        return is_same and super().__eq__(other)


def _copying(form: Form, places: Iterable[int]) -> CopyingForm:
    made = CopyingForm(form)
    made.places = tuple(places)
    made.given = itemgetter(*(at for at, place in enumerate(made.places) if place == GIVEN))
    return made


class Copies:
    """The forms that copy from the input entries of signals with these field names."""

    def __init__(self, names: tuple[bytes, ...]) -> None:
        own = range(len(names))
        #: Stand for a signal's own values, which the commit copies.
        self.blank = ("",) * len(names)
        self.signal = _copying(signal_form(names), (GIVEN, *own, GIVEN))
        refused = signal_form(names, "code", "reason")
        self.refusal = _copying(refused, (GIVEN, *own, GIVEN, GIVEN, GIVEN))
        at = {own: names.index(field) for own, field in _OWN_FIELDS.items() if field in names}
        self.result, self.since_result, self.forwarded, self.answerable = (
            _copying(form, (at.get(name, GIVEN) for name in form))
            for form in (RESULT, SINCE_RESULT, FORWARDED, ANSWERABLE)
        )


_copies = lru_cache(_FORMS_MAX)(Copies)


def copies_of(signal: Signal) -> Copies | None:
    """Return the forms that copy from a signal's entry; None if its fields were rewritten."""
    return _copies(signal.names) if signal.is_verbatim else None


@lru_cache(_FORMS_MAX)
def signal_form(names: tuple[bytes, ...], *why: str) -> Form:
    """Return the field names of a signal's log entry: its own, and `why` if it was refused."""
    return ("kind", *names, *why, "ms")


def logged_signal(signal: Signal, now_ms: int, copies: Copies | None = None) -> tuple[Form, Values]:
    """Return the log entry of an accepted signal, with its own values."""
    if copies is not None:
        return copies.signal, (Kind.SIGNAL, *copies.blank, now_ms)
    return signal_form(signal.names), (Kind.SIGNAL, *texts(signal.values), now_ms)


def logged_refusal(
    signal: Signal, code: str, reason: str, now_ms: int, copies: Copies | None = None
) -> tuple[Form, Values]:
    """Return the log entry of a refused signal, complete: it may have changed the session."""
    if copies is not None:
        return copies.refusal, (Kind.REFUSED, *copies.blank, code, reason, now_ms)
    form = signal_form(signal.names, "code", "reason")
    return form, (Kind.REFUSED, *texts(signal.values), code, reason, now_ms)


def logged_rules(document: bytes, now_ms: int) -> tuple[Form, Values]:
    """Return the log entry with the rules in force from there on."""
    return RULES, (RULES_KIND, RULES_KIND.upper(), text(document), now_ms)


def logged_timer(
    timer: str, now_ms: int, peers: Peers = NO_PEERS, reading: Reading = NOTHING_READ
) -> tuple[Form, Values]:
    """Return the log entry of a timer that took effect, with what was found out elsewhere."""
    if reading != NOTHING_READ:
        read = " ".join(f"{log}-{number}" for log, number in reading)
        return READ_TIMER, (Kind.DERIVED, TIMER_TYPE, timer, read, now_ms)
    if peers != NO_PEERS:
        return PEERS_TIMER, (Kind.DERIVED, TIMER_TYPE, timer, *peers, now_ms)
    return TIMER, (Kind.DERIVED, TIMER_TYPE, timer, now_ms)


def logged_outage(outage_ms: int, now_ms: int) -> tuple[Form, Values]:
    """Return the log entry of an outage by which the session's timers moved."""
    return OUTAGE, (Kind.DERIVED, OUTAGE_TYPE, outage_ms, now_ms)


def logged_tokens(token: int, now_ms: int) -> tuple[Form, Values]:
    """Return the log entry that says above which fencing token a session begins."""
    return TOKENS, (Kind.DERIVED, TOKENS_TYPE, token, now_ms)


def logged_unreadable(name: str, code: str, reason: str, now_ms: int) -> tuple[Form, Values]:
    """Return the log entry of an entry that is no signal, of which its sender was told."""
    return UNREADABLE, (Kind.REFUSED, UNREADABLE_TYPE, name, code, reason, now_ms)


def logged_message(
    message: Message, cause: str, now_ms: int, copies: Copies | None = None
) -> tuple[Form, Values]:
    """Return the log entry of a consequence. A forwarded signal has its payload in its cause."""
    kind, to, sender, stream = message.kind, message.to, message.sender, message.stream
    if message.forwarded:
        form = copies.forwarded if copies is not None else FORWARDED
        return form, (kind, message.type, to, sender, stream, cause, now_ms)
    payload = text(message.payload)
    return DERIVED, (kind, message.type, to, sender, stream, cause, payload, now_ms)


def inbox(message: Message, cause: str, copies: Copies | None = None) -> tuple[Form, Values]:
    """Return a message's inbox or broadcast entry, with `hops` if an answer can be passed on."""
    start = (message.type, message.sender, message.stream, cause)
    if not message.hops:
        return MESSAGE, (*start, text(message.payload))
    if copies is not None and message.forwarded:
        return copies.answerable, (*start, "", message.hops)
    return ANSWERABLE, (*start, text(message.payload), message.hops)


def result(
    signal: Signal,
    agent: AgentRecord | None,
    payload: bytes,
    cause: str,
    now_ms: int,
    copies: Copies | None = None,
) -> tuple[Form, Values]:
    """Return the results entry of a signal: agent, incarnation, progress, and the result."""
    incarnation = agent.incarnation if agent is not None else signal.incarnation
    percent = agent.percent if agent is not None and agent.percent is not None else ""
    sender = (signal.session, signal.type, signal.emitter, signal.stream, incarnation)
    copied = copies if not payload else None
    own = "" if copied is not None else text(payload or signal.raw)
    values = (*sender, cause, now_ms, own, str(percent))
    if agent is None or not (agent.passed or agent.resumable):
        return copied.result if copied is not None else RESULT, values
    since = _since(signal, agent, cause)
    return copied.since_result if copied is not None else SINCE_RESULT, (*values, since)


def _since(signal: Signal, agent: AgentRecord, cause: str) -> int:
    """Return the log number of the checkpoint before a result, or that a start resumes from."""
    if isinstance(signal.payload, Started):
        return agent.resumable.get(signal.payload.resumes_from or "", 0)
    log = int(cause.partition("-")[0])
    return max((passed for passed in agent.passed.values() if passed < log), default=0)


def death(session: str, name: str, agent: AgentRecord, cause: str, ms: int) -> tuple[Form, Values]:
    """Return the results entry for an agent declared dead."""
    payload = msgspec.json.encode(Failed(agent.error, retryable=True))
    sender = (session, SignalType.FAILED, name, agent.stream, agent.incarnation)
    return DEATH, (*sender, cause, ms, text(payload), "", "1")


def purged(session: str, ms: int) -> tuple[Form, Values]:
    """Return the results entry of a session that is to be deleted."""
    sender = (session, SignalType.RUN_PURGED, ORCHESTRATOR, "", 0)
    return RESULT, (*sender, "0-0", ms, "{}", "")


def roster(session: str, told: bytes, cause: str, ms: int) -> tuple[Form, Values]:
    """Return the results entry that says which agents a run expects, or no longer expects."""
    sender = (session, SignalType.AGENTS_EXPECTED, ORCHESTRATOR, "", 0)
    return RESULT, (*sender, cause, ms, text(told), "")


def own_signal(session: str, kind: SignalType, emitter: str, payload: bytes) -> tuple[Form, Values]:
    """Return the ingress entry of a signal from the fabric itself."""
    return OWN_SIGNAL, (session, kind, emitter, text(payload))


def revision(patch: bytes, causes: Sequence[int], ms: int, *, final: bool) -> tuple[Form, Values]:
    """Return the entry of one revision: its patch, and the log ids of its causes."""
    return REVISION, (text(patch), " ".join(f"{cause}-0" for cause in causes), ms, int(final))


def dead_letter(
    fields: list[bytes],
    code: str,
    reason: str,
    source: str,
    entry_id: bytes,
    *,
    copies: bool = False,
) -> tuple[Form, Values]:
    """Return the dead letter of a refused entry: the reason, its origin, and all its fields."""
    why = (code, reason, source, text(entry_id))
    if len(fields) > 2 * ENTRY_FIELDS_MAX:
        # Too many for a script to pass one by one: kept in one piece.
        return (*LETTER, RAW_PACKED), (*why, text(msgspec.msgpack.encode(fields)))
    values = fields[1::2]
    names = [RAW_PREFIX + field for field in fields[: 2 * len(values) : 2]]
    form: Form = (*LETTER, *names)
    if copies:
        form = _copying(form, (*(GIVEN for _ in LETTER), *range(len(names))))
        return form, (*why, *("" for _ in names))
    return form, (*why, *texts(values))


def sent_fields(letter: list[bytes]) -> list[bytes]:
    """Return the fields of a dead letter's entry as sent; [] if the fabric did not write it."""
    fields: list[bytes] = []
    for field, value in pairs_of(letter):
        if field == RAW_PACKED:
            try:
                fields = msgspec.msgpack.decode(value, type=list[bytes])
            except (msgspec.MsgspecError, RecursionError):
                return []
            return [] if len(fields) % 2 else fields
        if field.startswith(RAW_PREFIX):
            fields += (field.removeprefix(RAW_PREFIX), value)
    return fields


def reason_of(error: SignalError) -> tuple[str, str]:
    """Return the code and reason of a refused entry, for its dead letter."""
    return error.reason_code, str(error)


#: The document of the default rules.
DEFAULT_RULES: Final = b"{}"

#: The rules of retention, with their defaults.
_RETENTION: Final = {
    name: getattr(Rules(), name)
    for name in (
        *("ended_ms", "sessions_max", "recent_ms", "read_events", "inbox_max", "inbox_bytes"),
        *("revisions_max", "dead_ms", "dead_bytes", "look_ms"),
    )
}

#: Bytes of a digest of rules: enough that no two rule sets of a session share one.
_RULES_DIGEST_BYTES = 8


def rules_document(rules: Rules) -> bytes:
    """Return rules as JSON for the log: the same bytes from every process for the same rules.

    The hook and retention are left out: no decision depends on them, and one of the hook's
    arguments may be a secret.
    """
    kept = msgspec.structs.replace(rules, hook=(), **_RETENTION)
    return DEFAULT_RULES if kept == Rules() else msgspec.json.encode(kept, order="deterministic")


def rules_digest(raw: bytes) -> str:
    """Return the digest that names a document of rules, in hexadecimal; "" for the defaults."""
    digest = hashlib.blake2b(raw, digest_size=_RULES_DIGEST_BYTES)
    return "" if raw == DEFAULT_RULES else digest.hexdigest()


def read_rules(raw: bytes) -> Rules:
    """Return the rules in a document. Raises MsgspecError, ValueError or RecursionError."""
    return msgspec.json.decode(raw, type=Rules)
