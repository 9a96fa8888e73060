"""Lines of `fabric emit -`: each becomes a checked entry, or a SignalError with the reason."""

from __future__ import annotations

from fabric.client.emitter import prepare
from fabric.errors import SignalError
from fabric.ops.ndjson import Lines, batches, document
from fabric.wire.entry import decode
from fabric.wire.spelling import rewrite
from tests.fuzz.tokens import FIELDS, HOSTILE, TYPES

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [*(b'"%s":' % field for field in FIELDS), *TYPES, b"\n", *HOSTILE]

_DEFAULTS = {"session": "s", "emitter": "A", "stream": None}


def seeds() -> list[bytes]:
    """Return lines in every spelling."""
    return [
        b'PROGRESS(25%)\nBLOCKED(schema-change)\n\n{"type":"STARTED","emitter":"B"}\n',
        b'\x07{"signal":"PROGRESS","percent":50,"checkpoint":"files","partial":{"n":12}}\n"COMPLETED"',
        b'\x01{"signal_type":"DEPENDENCY_RESOLVED","timestamp":"2025-12-30T19:30:00Z",'
        b'"payload":{"dependency_id":"m","output_location":"x.py","consumers":["B"]},"seq":1}',
        b'{"type":"INTENT","writes":["a","b"],"session":"t","incarnation":2,"hops":1}\r\n',
        b'{"type":"ESCALATE","question":"why","options":["a"],"context":{"x":[1,2.5,null]}}\n',
        b"DEPENDENCY_RESOLVED(m, [A, B])\nCONFLICT_DETECTED(a, b)\nFAILED(it broke)\n",
    ]


def run(data: bytes) -> None:
    """Read a pipe in pieces; the first byte gives their size."""
    lines = Lines()
    size, rest = data[:1], data[1:]
    step = size[0] + 1 if size else 1
    found = [line for at in range(0, len(rest), step) for line in lines.cut(rest[at : at + step])]
    found += lines.finish()
    whole = [(number, line) for number, line in enumerate(rest.split(b"\n"), 1) if line.strip()]
    assert found == whole, "the same lines, however they arrive"
    assert [line for batch in batches(found) for line in batch] == found
    for _, line in found:
        try:
            entry = prepare(document(line), _DEFAULTS)
        except SignalError as error:
            assert str(error).isprintable(), "a refusal is one line"
        else:
            signal = decode(list(entry))
            assert decode(rewrite(list(entry))).type is signal.type
