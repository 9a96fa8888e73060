"""The signals as JSON Schema (draft 2020-12), for programs in other languages.

A document schema accepts a signal in any of its spellings: payload fields may be beside the
envelope's fields or under `payload`, and a shorthand may give one of them. The fabric also checks
two things that a schema cannot express: that names are printable, and that two spellings of one
field in one document agree.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.limits import COUNTER_MAX, FIELD_BYTES_MAX, Name
from fabric.core.signal import PAYLOADS, SignalType
from fabric.errors import SignalError
from fabric.wire.entry import HOPS_MAX
from fabric.wire.spelling import canonical

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_REF = "#/$defs/{name}"

#: The fields for the type, one for each spelling.
_TYPE_FIELDS = ("type", "signal", "signal_type")

Schema = dict[str, Any]


def payload_schema(kind: SignalType) -> Schema:
    """Return the schema of a signal's payload."""
    (schema,), parts = msgspec.json.schema_components([PAYLOADS[kind]], ref_template=_REF)
    own = parts.pop(PAYLOADS[kind].__name__, schema)
    return {"$schema": DRAFT, **own, **({"$defs": parts} if parts else {})}


def document_schema(kind: SignalType | None = None) -> Schema:
    """Return the schema of a signal as a document: of one type, or of any type."""
    kinds = list(SignalType) if kind is None else [kind]
    _, parts = msgspec.json.schema_components([PAYLOADS[one] for one in kinds], ref_template=_REF)
    documents = {one.value: _document(one, parts[PAYLOADS[one].__name__]) for one in kinds}
    used = {name: part for name, part in parts.items() if name in _shared(parts)}
    if kind is not None:
        return {"$schema": DRAFT, **documents[kind.value], **({"$defs": used} if used else {})}
    return {
        "$schema": DRAFT,
        "title": "Signal",
        "description": "A signal, in any of its spellings.",
        "anyOf": [{"$ref": _REF.format(name=name)} for name in documents],
        "$defs": {**documents, **used},
    }


def _shared(parts: dict[str, Schema]) -> set[str]:
    """Return the names of the definitions that payloads refer to, without the payloads."""
    return parts.keys() - {payload.__name__ for payload in PAYLOADS.values()}


def _document(kind: SignalType, payload: Schema) -> Schema:
    fields: Schema = payload["properties"]
    said = _said_shortly(kind)
    return {
        "title": kind.value,
        "description": payload.get("description", ""),
        "type": "object",
        "properties": {
            # If a payload field and an envelope field share a name, it is the envelope's.
            **fields,
            **_envelope(),
            "payload": {"type": ["object", "null"], "properties": fields},
        },
        "allOf": [
            {"anyOf": [_word(field, _pattern(kind, said)) for field in _TYPE_FIELDS]},
            *(_given(kind, field, said) for field in payload["required"]),
        ],
    }


def _envelope() -> Schema:
    name = msgspec.json.schema(Name)
    # Stream fields are text: a whole number stands for the text of its digits.
    number: Schema = {"type": "integer"}
    text = {"type": ["string", "integer", "null"], "maxLength": FIELD_BYTES_MAX}
    time = {"type": ["string", "null"], "maxLength": FIELD_BYTES_MAX, "format": "date-time"}
    counter = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": COUNTER_MAX},
            {"type": "string", "pattern": "^[0-9]{1,19}$"},
            {"type": "null"},
        ]
    }
    hops = {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": HOPS_MAX},
            {"type": "string", "pattern": "^0*([0-9]{1,3}|1000)?$", "maxLength": 19},
            {"type": "null"},
        ]
    }
    optional = {"anyOf": [name, number, {"enum": ["", None]}]}
    return {
        "session": {
            "description": "the parallel run; by default the sender's FABRIC_SESSION",
            "anyOf": [
                {**name, "pattern": r"^[^:\x00-\x1f\x7f-\x9f]*$"},
                number,
                {"enum": ["", None]},
            ],
        },
        "emitter": {
            "description": "the agent that sends it; by default the sender's FABRIC_AGENT",
            **optional,
        },
        "stream": {"description": "its line of work", **optional},
        "at": {"description": "when it happened", **time},
        "timestamp": {"description": "another name for `at`", **time},
        "seq": {"description": "grows with every signal of an incarnation", **counter},
        "incarnation": {"description": "grows each time the agent starts", **counter},
        "task": {"description": "what the agent works on", **optional},
        "hops": {
            "description": "how many messages led to it, each one an answer to the one before",
            **hops,
        },
        "trace": {"description": "W3C traceparent", **text},
        "sig": {"description": "a signature of the signal", **text},
    }


def _word(field: str, pattern: str) -> Schema:
    """Return the schema of a type field with a value of this pattern."""
    return {"required": [field], "properties": {field: {"type": "string", "pattern": pattern}}}


def _pattern(kind: SignalType, said: str | None) -> str:
    """Return the pattern of a type field: the type, alone or with a shorthand's brackets."""
    if said is None:
        argument = r"\s*"
    elif said == "percent":
        argument = r"\s*([0-9]+(\.[0-9]+)?\s*%?\s*)?"
    else:
        argument = r"[\s\S]*"
    return rf"^\s*{kind.value}(\({argument}\))?\s*$"


def _given(kind: SignalType, field: str, said: str | None) -> Schema:
    """Return the schema of a required payload field, in any of the places where it may be."""
    places: list[Schema] = [
        {"required": [field]},
        {"required": ["payload"], "properties": {"payload": {"required": [field]}}},
    ]
    if field == said:
        shorthand = rf"^\s*{kind.value}\(\s*\S[\s\S]*\)\s*$"
        places += [_word(name, shorthand) for name in _TYPE_FIELDS]
    return {"anyOf": places}


def _said_shortly(kind: SignalType) -> str | None:
    """Return the payload field that the brackets of a shorthand hold, None if it has none."""
    try:
        payload = canonical({"type": f"{kind.value}(1)"})["payload"]
    except SignalError:
        return None
    return str(next(iter(payload)))
