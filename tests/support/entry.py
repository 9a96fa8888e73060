"""Ingress entries for the tests of the wire format."""

import json
from typing import Any

import msgspec
import pytest

from fabric.core.signal import Signal
from fabric.errors import SignalError
from fabric.wire import record
from fabric.wire.entry import decode
from fabric.wire.spelling import canonical, encode
from fabric.wire.stored import raw

#: Characters of the longest refusal: the list of signal types, and values cut to 80.
COMPLAINT_CHARS_MAX = 700


def flat(**fields: Any) -> list[bytes]:
    """Return an entry's flat fields, with a default session and emitter (None leaves them out)."""
    given = {"session": "s", "emitter": "A", **fields}
    return [
        part
        for name, value in given.items()
        if value is not None
        for part in (name.encode(), value if isinstance(value, bytes) else str(value).encode())
    ]


def read(**fields: Any) -> Signal:
    """Decode an entry with these fields."""
    return decode(flat(**fields))


def heard(document: dict[str, Any]) -> Signal:
    """Decode a JSON document that a program sends as a signal."""
    return decode(encode({"session": "s", "emitter": "A", **canonical(document)}))


def dead_letter(
    fields: list[bytes],
    code: str = "CODE",
    reason: str = "reason",
    source: str = "fabric:{0}:signals",
    entry_id: bytes = b"5-0",
) -> list[bytes]:
    """Return an entry's dead letter as the server returns it."""
    names, values = record.dead_letter(fields, code, reason, source, entry_id)
    flat = [part for pair in zip(names, values, strict=True) for part in pair]
    return [part if isinstance(part, bytes) else raw(part) for part in flat]


def payload(signal: Signal) -> dict[str, Any]:
    """Return a signal's payload as its readers decode it."""
    found = json.loads(signal.raw)
    assert found == msgspec.json.decode(signal.raw)
    assert isinstance(found, dict)
    return found


def refusal(entry: list[bytes]) -> SignalError:
    """Return the error that refuses an entry; check its message as `checked` does."""
    with pytest.raises(SignalError) as caught:
        decode(entry)
    return checked(caught.value)


def checked(error: SignalError) -> SignalError:
    """Check that a refusal names the field, what was given and what is allowed, within bounds."""
    assert error.reason_code.isupper()
    assert error.field
    assert error.given
    assert error.allowed
    assert len(str(error)) <= COMPLAINT_CHARS_MAX, str(error)
    assert str(error) == f"{error.field}: got {error.given}; allowed: {error.allowed}"
    assert str(error).isprintable()
    return error
