"""What a worker says of itself, for its peers and for `fabric workers`: one JSON value a worker."""

from __future__ import annotations

import msgspec

#: Longest record that is read, bytes: one of ours has some 400.
_BYTES_MAX = 4_096


class WorkerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One worker process. Times are the server's, ms since the epoch."""

    #: One process, however many of the same name there are.
    instance: str
    host: str
    pid: int
    #: Version, and a digest of the code.
    build: str
    #: Digest of the rules that it works by.
    rules: str
    began_ms: int
    #: It lives until then, unless it says so again.
    until_ms: int
    #: Round trip to the server, ms: the median of the last ones.
    trip_ms: float = 0.0
    #: Its clock minus the server's, ms.
    clock_ms: int = 0
    #: Why it leaves its share to its peers for now; "" when it does not.
    rests: str = ""
    #: Its share, beside those of its peers; 0: only when no other has one.
    weight: int = 1


_decoder = msgspec.json.Decoder(WorkerRecord)
_encoder = msgspec.json.Encoder()


def encode(record: WorkerRecord) -> bytes:
    """Return a record as it is stored."""
    return _encoder.encode(record)


def decode(stored: bytes) -> WorkerRecord | None:
    """Return a record; None for a value that is none: anybody may write there."""
    if len(stored) > _BYTES_MAX:
        return None
    try:
        return _decoder.decode(stored)
    except msgspec.MsgspecError:
        return None
