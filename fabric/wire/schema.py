"""The signals as JSON Schema (draft 2020-12), for programs in other languages.

A document schema accepts a signal in any of its spellings: payload fields may be beside the
envelope's fields or under `payload`, and a shorthand may give one of them. The fabric also checks
some things that the schema leaves out: that names are printable, that two spellings of one field
in one document agree, and that the `default` of a question comes with its `deadline_ms`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.limits import COUNTER_MAX, FIELD_BYTES_MAX, HOPS_MAX, Name
from fabric.core.signal import PAYLOADS, SignalType
from fabric.wire.spelling import ARGUMENT, TYPE_FIELDS

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_REF = "#/$defs/{name}"

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
    # The definitions that payloads refer to, without the payloads.
    shared = parts.keys() - {payload.__name__ for payload in PAYLOADS.values()}
    used = {name: part for name, part in parts.items() if name in shared}
    if kind is not None:
        return {"$schema": DRAFT, **documents[kind.value], **({"$defs": used} if used else {})}
    return {
        "$schema": DRAFT,
        "title": "Signal",
        "description": "A signal, in any of its spellings.",
        "anyOf": [{"$ref": _REF.format(name=name)} for name in documents],
        "$defs": {**documents, **used},
    }


def _document(kind: SignalType, payload: Schema) -> Schema:
    fields: Schema = payload["properties"]
    said = ARGUMENT.get(kind)
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
            {"anyOf": [_word(field, _pattern(kind, said)) for field in TYPE_FIELDS]},
            *(_given(kind, field, said) for field in payload["required"]),
        ],
    }


def _envelope() -> Schema:
    name = msgspec.json.schema(Name)
    session = {**name, "pattern": r"^[^:\x00-\x1f\x7f-\x9f]*$"}
    # Stream fields are text: a whole number stands for the text of its digits.
    number: Schema = {"type": "integer"}
    text = {"type": ["string", "integer", "null"], "maxLength": FIELD_BYTES_MAX}
    time = {"type": ["string", "null"], "maxLength": FIELD_BYTES_MAX, "format": "date-time"}
    counter = _count(COUNTER_MAX, pattern="^[0-9]{1,19}$")
    hops = _count(HOPS_MAX, pattern="^0*([0-9]{1,3}|1000)?$", maxLength=19)
    optional = {"anyOf": [name, number, {"enum": ["", None]}]}
    return {
        "session": {
            "description": "the parallel run; by default the sender's FABRIC_SESSION",
            "anyOf": [session, number, {"enum": ["", None]}],
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
        "instance": {
            "description": "which living process sends it: a second one under a name is refused",
            **optional,
        },
        "trace": {"description": "W3C traceparent", **text},
        "sig": {"description": "a signature of the signal", **text},
    }


def _count(most: int, **text: Any) -> Schema:
    """Return the schema of a number from 0 on, or its digits as text of this form."""
    number = {"type": "integer", "minimum": 0, "maximum": most}
    return {"anyOf": [number, {"type": "string", **text}, {"type": "null"}]}


def _word(field: str, pattern: str) -> Schema:
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
        places += [_word(name, shorthand) for name in TYPE_FIELDS]
    return {"anyOf": places}
