"""How many entries to ask for at a time: their size is known only when they are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fabric.errors import UnreachableError
from fabric.store.port import Entry

#: First number of entries to read, before their size is known; doubled while they prove small.
COUNT_FIRST = 32


class ReadSize:
    """A number of entries that fits a bound on bytes, as far as the last ones tell."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = self._most = count_max
        self._bytes_max = bytes_max
        self.count = min(COUNT_FIRST, count_max)
        #: Bytes of an average entry of those that came last.
        self.entry_bytes = 0

    def note(self, entries: Iterable[Entry]) -> None:
        """Follow the size of what came."""
        sizes = [len(b"".join(fields)) for _, fields in entries]
        if sizes:
            self.entry_bytes = sum(sizes) // len(sizes)
            fitting = self._bytes_max * len(sizes) // max(sum(sizes), 1)
            self.count = max(1, min(fitting, self.count * 2, self._count_max))

    def took(self, took_ms: float, limit_ms: float) -> None:
        """Ask for fewer from now on if what came took too long; for more again if it did not."""
        if took_ms > limit_ms:
            self._count_max = max(1, int(self.count * limit_ms / took_ms))
        elif took_ms < limit_ms / 2:
            self._count_max = min(2 * self._count_max, self._most)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ask for half as many next time, if a read brings nothing in time."""
        try:
            yield
        except UnreachableError:
            self.count = max(1, self.count // 2)
            raise
