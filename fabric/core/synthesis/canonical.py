"""The one spelling of a JSON value that the synthesis stores: equal values are equal bytes."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

#: Beyond this, JSON readers disagree about a whole number.
WHOLE_MAX = 2**53

_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


def canonical(value: Any) -> bytes:
    """Return a value as JSON, the same bytes for the same value: 1.0 is 1, members are sorted."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return _encode_sorted(value)
    return _encode_sorted(_normal(value))


def canonical_raw(raw: Raw) -> Raw:
    """Return JSON in its canonical form."""
    return Raw(canonical(_decode(raw)))


def _normal(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < WHOLE_MAX else value
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {name: _normal(item) for name, item in value.items()}
    return value
