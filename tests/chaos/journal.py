"""A process's own record of what it did and saw: one JSON document a line, written at once.

A line is in the kernel before the process acts on it: a killed process loses no line, and at most
the last one is cut short.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

#: Bytes of a journal that are read at a time.
CHUNK_BYTES = 1 << 20

Line = dict[str, Any]


def now_ms() -> float:
    """Return the monotonic clock in ms: all processes share it, and no fault changes it."""
    return time.monotonic_ns() / 1_000_000


class Journal:
    """An append-only record. Each line has `what`, and the time `at` in ms."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")  # the predecessor was killed while writing

    def note(self, what: str, **fields: Any) -> None:
        """Add a line."""
        document = {"what": what, "at": round(now_ms(), 3), **fields}
        os.write(self._file, msgspec.json.encode(document) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def lines(path: Path) -> Iterator[Line]:
    """Yield every whole line of a journal, in order; skip a line that was cut short."""
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as file:
        for line in file:
            try:
                found = decode(line)
            except msgspec.DecodeError:
                continue
            yield found


def write_json(path: Path, document: Any) -> None:
    """Write one document as indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
