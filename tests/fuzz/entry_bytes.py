"""Stream entries as bytes, and back, so that a fuzzer can cut, join and repeat them.

The byte 0x1e separates entries, 0x1f their names and values. Any bytes decode to some list of
entries; only these two bytes cannot be inside a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fabric.wire.stored import fields_of

ENTRY, FIELD = b"\x1e", b"\x1f"

#: Entries decoded from one input: with few of them, a slow input is a long or a deep one.
ENTRIES_MAX = 24


def entries(data: bytes) -> list[list[bytes]]:
    """Decode bytes to entries, each a flat list of pairs as Redis returns it."""
    found = []
    for part in data.split(ENTRY)[:ENTRIES_MAX]:
        flat = part.split(FIELD)
        if len(flat) % 2:
            flat.append(b"")
        found.append(flat)
    return found


def packed(flats: Iterable[Sequence[bytes | str | int]]) -> bytes:
    """Encode entries as bytes."""
    return ENTRY.join(FIELD.join(map(_bytes, flat)) for flat in flats)


def hashed(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of an entry as a hash."""
    return fields_of(flat)


def flattened(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """Return a hash as a flat entry."""
    return [part for pair in fields.items() for part in pair]


def _bytes(part: bytes | str | int) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
