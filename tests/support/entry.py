"""Ingress entries for the tests of the wire."""

import json
from typing import Any

import msgspec
import pytest

from fabric.core.signal import Signal
from fabric.errors import SignalError
from fabric.wire.entry import decode
from fabric.wire.spelling import canonical, encode

#: Characters of the longest refusal: the list of signal types, and values cut to 80.
COMPLAINT_CHARS_MAX = 700


def flat(**fields: Any) -> list[bytes]:
    """An entry's flat fields; session and emitter unless they are given (None leaves them out)."""
    given = {"session": "s", "emitter": "A", **fields}
    return [
        part
        for name, value in given.items()
        if value is not None
        for part in (name.encode(), value if isinstance(value, bytes) else str(value).encode())
    ]


def read(**fields: Any) -> Signal:
    """The signal that an entry of these fields spells."""
    return decode(flat(**fields))


def heard(document: dict[str, Any]) -> Signal:
    """The signal that a document spells, as a program sends it."""
    return decode(encode({"session": "s", "emitter": "A", **canonical(document)}))


def payload(signal: Signal) -> dict[str, Any]:
    """The payload as any reader reads it."""
    found = json.loads(signal.raw)
    assert found == msgspec.json.decode(signal.raw)
    assert isinstance(found, dict)
    return found


def refusal(entry: list[bytes]) -> SignalError:
    """The refusal of an entry; checks that it is one that a person can act on."""
    with pytest.raises(SignalError) as caught:
        decode(entry)
    return checked(caught.value)


def checked(error: SignalError) -> SignalError:
    """A refusal says which field, what was given and what is allowed, within bounds."""
    assert error.reason_code.isupper()
    assert error.field
    assert error.given
    assert error.allowed
    assert len(str(error)) <= COMPLAINT_CHARS_MAX, str(error)
    assert str(error) == f"{error.field}: got {error.given}; allowed: {error.allowed}"
    assert str(error).isprintable()
    return error
