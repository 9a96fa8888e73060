"""Rewrites the other spellings of a signal to the canonical fields (docs/protocol.md).

Every boundary accepts these, as a JSON document and as stream fields:

- result streaming: `{"signal": "PROGRESS", "percent": 50, "checkpoint": …, "partial": {…}}`
- propagation: `{"signal_type": …, "emitter": …, "stream": …, "timestamp": …, "payload": {…}}`
- shorthand: `PROGRESS(25%)`, `BLOCKED(schema-change)`, `INTENT(writes=a.py, reads=b.py)`

Unknown fields are kept in the payload.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from typing import Any

import msgspec
from msgspec import inspect

from fabric.core.signal import PAYLOADS, SignalType
from fabric.errors import SignalError
from fabric.wire import signal_error
from fabric.wire.stored import pairs_of

#: The canonical ingress fields.
ENVELOPE = frozenset(
    {
        b"session", b"type", b"emitter", b"stream", b"payload",
        b"at", b"seq", b"incarnation", b"task", b"trace", b"sig", b"hops",
        b"instance",
    }
)  # fmt: skip
_ENVELOPE_NAMES = frozenset(field.decode() for field in ENVELOPE)

_UNREADABLE = (msgspec.MsgspecError, RecursionError)

#: The fields for the type, one for each spelling.
TYPE_FIELDS = ("type", "signal", "signal_type")
_SHORTHAND = re.compile(r"(?P<type>[A-Z_]+)\((?P<argument>.*)\)", re.DOTALL)

#: The payload field that the brackets of a shorthand hold.
ARGUMENT: dict[SignalType, str] = {
    SignalType.STARTED: "task",
    SignalType.PROGRESS: "percent",
    SignalType.BLOCKED: "on",
    SignalType.FAILED: "error",
    SignalType.CHECKPOINT_REACHED: "checkpoint",
    SignalType.DEPENDENCY_RESOLVED: "dependency_id",
    SignalType.CONFLICT_DETECTED: "resources",
    SignalType.INTEGRATION_REQUIRED: "name",
    SignalType.ESCALATE: "question",
    SignalType.INTENT: "writes",
    SignalType.RELEASE: "resources",
    SignalType.INTEGRATED: "name",
    SignalType.TASK_DONE: "task",
    SignalType.AGENTS_EXPECTED: "agents",
    SignalType.TASK_RETRY: "task",
    SignalType.RENAMED: "from",
    SignalType.SAME_AS: "keys",
}


#: A word before `=` in a shorthand: a field, or a part of a file's name.
_WORD = re.compile(r"(?:^|[,\s])([A-Za-z_]{1,40})\s*=")

#: Words of a shorthand that are looked at: each look is dear, and no type has as many fields.
WORDS_MAX = 30

#: From this likeness (difflib's ratio) on a name counts as a slip.
_NEAR = 0.75

#: The brackets of these hold a sentence, commas and all.
_SENTENCES = frozenset({"question", "error"})

#: Lists of names: a text names several with commas.
_LISTED = frozenset(
    {"reads", "writes", "resources", "produces", "quotas", "consumers", "agents", "expect", "keys"}
)


def _accepts(field_type: Any) -> set[type]:
    info = inspect.type_info(field_type)
    choices = info.types if isinstance(info, inspect.UnionType) else (info,)
    return {type(choice) for choice in choices}


#: The kinds of values of each payload field, to read the text of a flat entry.
_FIELD_TYPES: dict[SignalType, dict[str, set[type]]] = {
    kind: {field.name: _accepts(field.type) for field in msgspec.structs.fields(payload)}
    for kind, payload in PAYLOADS.items()
}


def canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document in canonical fields, the payload as an object. Raises SignalError."""
    kind, argument = _type(document)
    payload = document.get("payload")
    if payload is None or payload == "":
        payload = {}
    if not isinstance(payload, dict):
        raise signal_error.wrong("VALUE", "payload", payload, "a JSON object")
    kept = dict(payload)
    fields: dict[str, Any] = {}
    for key, value in document.items():
        if key in TYPE_FIELDS or key == "payload":
            continue
        target = "at" if key == "timestamp" else key
        into = fields if target in _ENVELOPE_NAMES else kept
        _settle(into, target, value)
    for key, value in argument.items():
        _settle(kept, key, value)
    fields["type"] = kind.value
    if kept:
        fields["payload"] = kept
    return fields


def _settle(fields: dict[str, Any], field: str, value: Any) -> None:
    """Set a field; if it is given in two places, both values must agree."""
    known = fields.setdefault(field, value)
    with suppress(RecursionError):
        if known is value or known == value:
            return
    given = f"{signal_error.shown(known)} and {signal_error.shown(value)}"
    raise SignalError("AMBIGUOUS", signal_error.shown_name(field), given, "one value")


def rewrite(flat: list[bytes]) -> list[bytes]:
    """Return an entry's flat fields in canonical form. Raises SignalError."""
    document: dict[str, Any] = {}
    for key, value in pairs_of(flat):
        field = signal_error.decode_text("field name", key)
        if field in document:
            named = signal_error.shown_name(field)
            raise SignalError("AMBIGUOUS", named, "it twice", "each field once")
        document[field] = signal_error.decode_text(field, value)
    if "payload" in document:
        document["payload"] = _payload(document["payload"])
    kind, _ = _type(document)
    for field, value in document.items():
        if field not in _ENVELOPE_NAMES and field not in TYPE_FIELDS and field != "timestamp":
            document[field] = _flat_value(kind, field, value)
    return encode(canonical(document))


def encode(fields: Mapping[str, Any]) -> list[bytes]:
    """Return canonical fields as the flat list for XADD. Raises SignalError."""
    flat: list[bytes] = []
    for field, value in fields.items():
        if value is None:
            continue
        if field == "payload":
            encoded = _encode(value)
        elif isinstance(value, str):
            encoded = value.encode("utf-8", "surrogatepass")
        elif isinstance(value, int) and not isinstance(value, bool):
            encoded = b"%d" % value
        else:
            raise signal_error.wrong("VALUE", field, value, "text or a whole number")
        flat += (field.encode(), encoded)
    return flat


def _type(document: Mapping[str, Any]) -> tuple[SignalType, dict[str, Any]]:
    """Return the signal's type, and the payload field that a shorthand gives."""
    given = {field: document[field] for field in TYPE_FIELDS if document.get(field)}
    if not given:
        raise signal_error.unknown_type("")
    if len(set(map(signal_error.shown, given.values()))) > 1:
        raise signal_error.wrong("AMBIGUOUS", "type", given, f"one of {', '.join(TYPE_FIELDS)}")
    text = next(iter(given.values()))
    if not isinstance(text, str):
        raise signal_error.unknown_type(text)
    word, argument = text.strip(), ""
    short = _SHORTHAND.fullmatch(word)
    if short:
        word, argument = short["type"], short["argument"].strip()
    try:
        kind = SignalType(word)
    except ValueError:
        raise signal_error.unknown_type(text) from None
    return kind, _shorthand(kind, argument) if argument else {}


def _shorthand(kind: SignalType, argument: str) -> dict[str, Any]:
    """Return the fields in a shorthand's brackets: the type's own one, then such as are named."""
    first, named = _named(kind, argument)
    if not first:
        return named
    field = ARGUMENT.get(kind)
    if field is None:
        allowed = f"{kind.value}, with nothing in brackets"
        raise signal_error.wrong("TYPE", "type", f"{kind.value}({argument})", allowed)
    for name, value in _unnamed(kind, field, first).items():
        _settle(named, name, value)
    return named


def _unnamed(kind: SignalType, field: str, argument: str) -> dict[str, Any]:
    if field == "percent":
        return {field: _number(argument)}
    if kind is SignalType.DEPENDENCY_RESOLVED:
        first, *consumers = [part.strip() for part in argument.split(",")]
        listed = [name.strip("[] ") for name in consumers if name.strip("[] ")]
        return {field: first, **({"consumers": listed} if listed else {})}
    if field in ("resources", "writes"):
        return {field: _items(argument)}
    return {field: argument}


def _named(kind: SignalType, argument: str) -> tuple[str, dict[str, Any]]:
    """Split `a.py, reads=b.py` into what has no name and the fields that have one.

    Only a payload's own fields count as names: a file may be called `date=2026-11-30/a.csv`. A
    sentence (a question, an error) is taken whole, unless it begins with a name.
    """
    names = "|".join(_FIELD_TYPES[kind])
    parts = re.split(rf"(?:^|[,\s])({names})\s*=", argument) if names else [argument]
    first = parts[0].strip().removesuffix(",")
    if ARGUMENT.get(kind) in _SENTENCES:
        if first:
            return argument, {}
    else:
        words = islice(_WORD.finditer(argument), WORDS_MAX)
        check_names(kind, [word[1] for word in words])
    fields: dict[str, Any] = {}
    for field, text in zip(parts[1::2], parts[2::2], strict=True):
        value = text.strip().removesuffix(",")
        _settle(fields, field, _flat_value(kind, field, value))
    return first, fields


def check_names(kind: SignalType, names: Iterable[str]) -> None:
    """Refuse a name that is almost a field's: a slip would be kept, and would do nothing.

    Raises SignalError, which names the field that was meant.
    """
    fields = [*_FIELD_TYPES[kind], *sorted(_ENVELOPE_NAMES)]
    for name in names:
        if name in fields or name in TYPE_FIELDS or name in ("payload", "timestamp"):
            continue
        longer = [field for field in fields if field.endswith(f"_{name}")]
        if near := longer or get_close_matches(name, fields, 1, _NEAR):
            raise signal_error.unknown_field(kind, name, near[0])


def _flat_value(kind: SignalType, field: str, text: str) -> Any:
    expected = _FIELD_TYPES[kind].get(field)
    if field == "percent":
        return _number(text)
    if not text.startswith(("{", "[")) if expected is None else inspect.StrType in expected:
        return text
    try:
        return msgspec.json.decode(text)
    except _UNREADABLE:
        if not expected or inspect.ListType not in expected:
            return text
        return _items(text) if field in _LISTED else [text]


def _items(text: str) -> list[str]:
    """Read a list without JSON's quotes: `a,b` or `[a, b]`. Commas in braces are the core's."""
    if text.startswith("[") and text.endswith("]") and "," in text:
        text = text[1:-1]
    if "{" in text:
        return [text]
    return [item.strip() for item in text.split(",") if item.strip()] or [text]


def _number(text: str) -> Any:
    """Read `25%`, `25` or `2.5`; the struct refuses anything else."""
    try:
        return msgspec.json.decode(text.removesuffix("%").strip())
    except _UNREADABLE:
        return text


def _payload(text: str) -> Any:
    try:
        return msgspec.json.decode(text) if text else {}
    except _UNREADABLE as error:
        raise signal_error.wrong("JSON", "payload", text, f"a JSON object ({error})") from None


def _encode(payload: Any) -> bytes:
    """Encode a program's payload, which may hold values that JSON cannot represent."""
    try:
        encoded = msgspec.json.encode(payload)
        # The encoder writes null for these.
        found = signal_error.not_finite(payload) if b"null" in encoded else None
    except (*_UNREADABLE, TypeError, ValueError, OverflowError) as error:
        allowed = f"what JSON can say ({error})"
        raise signal_error.wrong("VALUE", "payload", payload, allowed) from None
    if found is not None:
        place = signal_error.shown_name(found[0] or "payload")
        raise SignalError("VALUE", place, found[1], "a number that JSON has")
    return encoded


def size_of(value: Any) -> int:
    """Return how many bytes a value takes in a payload; 0 if it cannot be written at all."""
    try:
        return len(msgspec.json.encode(value))
    except (*_UNREADABLE, TypeError, ValueError, OverflowError):
        return 0
