"""The output of a refiner's process: a signal's payload, or a failure in words."""

from __future__ import annotations

from fabric.wire.entry import decode
from tests.fuzz.tokens import HOSTILE
from workers.child_process import RunError
from workers.refinement import Run, _payload

ANSWERS = (RunError,)
WORDS = [b'{"value":', b'{"error":', b"}", b"null", *HOSTILE]


def seeds() -> list[bytes]:
    """Return good outputs."""
    return [b'{"value":{"a":[1,2.5,null,"x"]}}', b'{"value":null}', b"{}", b'{"value":1.0}']


def run(data: bytes) -> None:
    """Make a payload of an output; the worker sends it without another check."""
    payload = _payload(Run("s", "R"), data)
    if payload:
        fields = [b"session", b"s", b"type", b"REFINED", b"emitter", b"A", b"payload", payload]
        assert decode(fields).raw == payload
