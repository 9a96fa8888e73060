"""Tokens worth trying: those of the fabric's own formats, and those that break parsers."""

from __future__ import annotations

import msgspec

from fabric.core.signal import PAYLOADS, SignalType
from fabric.wire.spelling import ENVELOPE
from tests.fuzz.entry_bytes import ENTRY, FIELD

TYPES = [kind.value.encode() for kind in SignalType]

PAYLOAD_FIELDS = sorted(
    {field.name for struct in PAYLOADS.values() for field in msgspec.structs.fields(struct)}
)

FIELDS = [
    *sorted(ENVELOPE),
    *(b"signal", b"signal_type", b"timestamp"),
    *(name.encode() for name in PAYLOAD_FIELDS),
]

#: Tokens that break parsers, short enough for a dictionary.
HOSTILE = [
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b"null", b"true", b"{}", b"[]", b"*", b"%", b"/", b"~1"),
    *(b"NaN", b"-Infinity", b"-0", b"1e999", b"1e-999", b"18446744073709551616", b"9" * 40),
    *(b"99999999999999999999-0", b"0-0", b"1-0", b"-", b"$", b"(", b")", b":", b"::", b"**", b"?"),
    *(b'"\\ud800"', b"\xed\xa0\x80", b"\xff\xfe", b"\xc3\x28", "\ufeff".encode(), b"\x00", b"\r\n"),
    *(
        b"\x1b[2J",
        "\u202e".encode(),
        "\u2028".encode(),
        "\U000e0001".encode(),
        b"\x7f",
        b"\xc2\x9b",
    ),
    *("٣".encode(), "²".encode(), b"1_0", b" 1", b"+1", b"0x1", b"1.0", b"2**64"),
]

#: Tokens that break parsers and are too long for a dictionary.
HOSTILE_LONG = [
    *(b"9" * 5_000, b"0." + b"1" * 5_000, b"1" + b"0" * 5_000, b"1e" + b"9" * 5_000),
    *(b"[" * 2_000, b'{"a":' * 2_000, b"[" * 500 + b"]" * 500, b"[" * 64 + b"]" * 64),
    *(b'"' + b"\\u0000" * 600 + b'"', b"x" * 600, b"a/" * 400, b"*" * 500, b"[!a-" * 150),
]

FRAME = [ENTRY, FIELD]
