"""A Redis stream in memory: ids, ranges, trimming; what the memory store needs of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from fabric.core.limits import ENTRY_FIELDS_MAX
from fabric.errors import CallerError
from fabric.store.port import Entry

Id = tuple[int, int]


#: Highest sequence number within a millisecond, and highest time.
SEQUENCE_MAX = 2**64 - 1

#: Bytes of an id: two numbers of 64 bits, and zeros that somebody has put before them.
_ID_MAX = 60


def parse_id(entry_id: bytes, sequence_default: int = 0) -> Id:
    """Read `ms-seq`, or `ms` alone. Raises ValueError when no server would take it for an id."""
    milliseconds, dash, sequence = entry_id.partition(b"-")
    if not milliseconds.isdigit() or (dash and not sequence.isdigit()) or len(entry_id) > _ID_MAX:
        raise ValueError("no id of an entry")
    found = int(milliseconds), int(sequence or sequence_default)
    if max(found) > SEQUENCE_MAX:
        raise ValueError("an id beyond 64 bits")
    return found


def check_entries(entries: Sequence[Sequence[bytes]]) -> None:
    """Refuse what a script would fail on with half of it done. Raises CallerError."""
    for entry in entries:
        if not 0 < len(entry) <= 2 * ENTRY_FIELDS_MAX or len(entry) % 2:
            raise CallerError(
                f"an entry of {len(entry)} names and values: it needs pairs of them, "
                f"1 to {ENTRY_FIELDS_MAX}"
            )


class Stream:
    """Entries by rising id. `groups` maps a consumer group to its position."""

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.fields: list[list[bytes]] = []
        self.last: Id = (0, 0)
        self.groups: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, entry_id: bytes, fields: list[bytes], now_ms: int) -> bytes:
        """Add an entry; an id that cannot be the next one is replaced, as `commit.lua` does."""
        try:
            wanted = None if entry_id == b"*" else parse_id(entry_id)
        except ValueError:
            wanted = None
        if wanted is None or wanted <= self.last:
            wanted = max((now_ms, 0), (self.last[0], self.last[1] + 1))
        self.last = wanted
        self.ids.append(wanted)
        self.fields.append(fields)
        return b"%d-%d" % wanted

    def after(self, entry_id: Id, count: int) -> list[Entry]:
        """Return up to `count` entries above an id."""
        start = bisect_right(self.ids, entry_id)
        return self._slice(start, start + count)

    def between(self, first: bytes, last: bytes) -> list[Entry]:
        """Return a range, with the bounds of XRANGE."""
        start = 0
        if first != b"-":
            find = bisect_right if first.startswith(b"(") else bisect_left
            start = find(self.ids, parse_id(first.lstrip(b"(")))
        stop = len(self.ids)
        if last != b"+":
            find = bisect_left if last.startswith(b"(") else bisect_right
            stop = find(self.ids, parse_id(last.lstrip(b"("), SEQUENCE_MAX))
        return self._slice(start, stop)

    def trim(self, upto: Id) -> None:
        """Remove the entries up to and with an id."""
        stop = bisect_right(self.ids, upto)
        del self.ids[:stop]
        del self.fields[:stop]

    def delete(self, ids: set[Id]) -> int:
        """Remove entries; return how many there were."""
        kept = [(i, f) for i, f in zip(self.ids, self.fields, strict=True) if i not in ids]
        removed = len(self.ids) - len(kept)
        self.ids = [i for i, _ in kept]
        self.fields = [f for _, f in kept]
        return removed

    def _slice(self, start: int, stop: int) -> list[Entry]:
        return [
            (b"%d-%d" % self.ids[position], list(self.fields[position]))
            for position in range(start, min(stop, len(self.ids)))
        ]
