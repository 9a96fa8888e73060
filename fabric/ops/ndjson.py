"""Signals from lines of text (NDJSON or shorthands), as any program can write them.

A line is handed on as soon as its line break arrives. Lines that arrive together are sent together.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import msgspec

from fabric.core.limits import PAYLOAD_BYTES_MAX
from fabric.errors import SignalError
from fabric.wire.signal_error import shown, too_large

#: Bytes read at a time; a pipe on Linux holds 64 KiB.
READ_BYTES = 1 << 16

#: Bytes of one line. JSON may need six bytes for a character (`\u0000`), and there is an envelope.
LINE_BYTES_MAX = 6 * PAYLOAD_BYTES_MAX + 65_536

#: Signals and (about) bytes of one script call at most: no call may block the server for long.
BATCH_SIGNALS_MAX = 256
BATCH_BYTES_MAX = 1 << 20

#: The number of a line, from 1, and its bytes; None in place of a line over LINE_BYTES_MAX.
Line = tuple[int, bytes | None]


def document(line: bytes | None) -> Mapping[str, Any]:
    """Return the document of a line: its JSON object, or its shorthand as the type.

    Raises SignalError when it is neither. The document is not checked as a signal yet.
    """
    if line is None:
        raise too_large("line", LINE_BYTES_MAX + 1, f"{LINE_BYTES_MAX} bytes")
    text = line.strip()
    if not text.startswith((b"{", b"[", b'"')):
        return {"type": text.decode("utf-8", "replace")}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise SignalError("JSON", "line", shown(text), f"a JSON object ({error})") from None
    if isinstance(value, str):
        return {"type": value}
    if not isinstance(value, dict):
        raise SignalError("JSON", "line", shown(text), "a JSON object, or a shorthand")
    return value


class Lines:
    """Cuts bytes into lines and numbers them. Empty lines are counted and left out."""

    def __init__(self) -> None:
        self.number = 0
        self._rest = bytearray()
        self._is_skipping = False

    def cut(self, chunk: bytes) -> list[Line]:
        """Take the next bytes; return the lines that they complete."""
        *whole, rest = chunk.split(b"\n")
        found: list[Line] = []
        for part in whole:
            found += self._end(part)
        self._keep(rest)
        return found

    def finish(self) -> list[Line]:
        """Return the last line, if it has no line break."""
        return list(self._end(b"")) if self._rest or self._is_skipping else []

    def _end(self, part: bytes) -> Iterator[Line]:
        self._keep(part)
        self.number += 1
        line, skipped = bytes(self._rest), self._is_skipping
        self._rest, self._is_skipping = bytearray(), False
        if skipped:
            yield self.number, None
        elif line.strip():
            yield self.number, line

    def _keep(self, part: bytes) -> None:
        if self._is_skipping or len(self._rest) + len(part) > LINE_BYTES_MAX:
            self._is_skipping = True
            self._rest.clear()
        else:
            self._rest += part


async def follow(descriptor: int) -> AsyncIterator[list[Line]]:
    """Yield lines as they arrive; those that arrive together in batches of bounded size."""
    lines = Lines()
    while chunk := await _read(descriptor):
        for batch in batches(lines.cut(chunk)):
            yield batch
    for batch in batches(lines.finish()):
        yield batch


def batches(lines: list[Line]) -> Iterator[list[Line]]:
    """Divide lines into batches of one script call each."""
    batch: list[Line] = []
    size = 0
    for number, line in lines:
        length = len(line or b"")
        if batch and (len(batch) == BATCH_SIGNALS_MAX or size + length > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append((number, line))
        size += length
    if batch:
        yield batch


async def _read(descriptor: int) -> bytes:
    """Read what is there, or wait for it; without a thread, for which Ctrl-C would have to wait."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except OSError:  # a plain file: reading it never blocks
        return os.read(descriptor, READ_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, READ_BYTES)
