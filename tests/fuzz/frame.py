"""Stream entries as one run of bytes, and back: what a fuzzer can cut, join and repeat.

Entries are parted by the byte 0x1e, their names and values by 0x1f. Every run of bytes is some list
of entries; only these two bytes cannot stand inside a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fabric.wire.stored import fields_of

ENTRY, FIELD = b"\x1e", b"\x1f"

#: Entries of one input: what is beyond that is left out, so that time tells of lengths and depths.
ENTRIES_MAX = 24


def entries(data: bytes) -> list[list[bytes]]:
    """Return the entries in a run of bytes, each a flat list of pairs as Redis gives them."""
    found = []
    for part in data.split(ENTRY)[:ENTRIES_MAX]:
        flat = part.split(FIELD)
        if len(flat) % 2:
            flat.append(b"")
        found.append(flat)
    return found


def packed(flats: Iterable[Sequence[bytes | str | int]]) -> bytes:
    """Return entries as one run of bytes."""
    return ENTRY.join(FIELD.join(map(_bytes, flat)) for flat in flats)


def hashed(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return an entry as the hash with these fields."""
    return fields_of(flat)


def flattened(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """Return a hash as an entry."""
    return [part for pair in fields.items() for part in pair]


def _bytes(part: bytes | str | int) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
