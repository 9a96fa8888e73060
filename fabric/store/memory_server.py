"""What a server holds, in memory: keys with typed values, and the writes of a batch on them."""

from __future__ import annotations

import asyncio
from typing import Any

from fabric.errors import TamperedError
from fabric.store.port import Batch
from fabric.store.stream import Stream

_KINDS: dict[str, type] = {"stream": Stream, "hash": dict, "zset": dict, "string": bytes}


class MemoryServer:
    """Keys and their values, as a server would hold them."""

    def __init__(self) -> None:
        #: Key → (type as TYPE names it, value).
        self.keys: dict[str, tuple[str, Any]] = {}
        self._changed = asyncio.Event()

    def peek(self, key: str, kind: str) -> Any:
        """Return a key's value, None where there is none. Raises TamperedError."""
        found = self.keys.get(key)
        if found is None:
            return None
        if found[0] != kind:
            raise TamperedError(key, found[0], kind)
        return found[1]

    def _value(self, key: str, kind: str) -> Any:
        if key not in self.keys:
            self.keys[key] = (kind, _KINDS[kind]())
        return self.peek(key, kind)

    def stream(self, key: str) -> Stream:
        """Return a stream, made when there is none."""
        stream: Stream = self._value(key, "stream")
        return stream

    def hash(self, key: str) -> dict[bytes, bytes]:
        """Return a hash, made when there is none."""
        stored: dict[bytes, bytes] = self._value(key, "hash")
        return stored

    def sorted_set(self, key: str) -> dict[bytes, int]:
        """Return a sorted set, made when there is none."""
        stored: dict[bytes, int] = self._value(key, "zset")
        return stored

    def apply(self, batch: Batch, now_ms: int) -> None:
        """Carry out the writes of a batch, as `commit.lua` does."""
        operations, position = batch.operations, 0
        while position < len(operations):
            verb, index, count = operations[position : position + 3]
            arguments = [_bytes(item) for item in operations[position + 3 : position + 3 + count]]  # type: ignore[operator] # the third of an operation is its count
            self._write(str(verb), batch.keys[int(index)], arguments, now_ms)
            position += 3 + int(count)
        self.wake()

    def _write(self, verb: str, key: str, arguments: list[bytes], now_ms: int) -> None:
        pairs = list(zip(arguments[::2], arguments[1::2], strict=False))
        if verb == "XADD":
            self.stream(key).append(arguments[0], arguments[1:], now_ms)
        elif verb == "HSET":
            self.hash(key).update(pairs)
        elif verb == "ZADD":
            self.sorted_set(key).update({member: int(score) for score, member in pairs})
        elif verb == "SET":
            self.keys[key] = ("string", arguments[0])
        else:
            stored = self.hash(key) if verb == "HDEL" else self.sorted_set(key)
            for name in arguments:
                stored.pop(name, None)
            if not stored:
                del self.keys[key]

    def wake(self) -> None:
        """Let blocked readers look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, limit_ms: int) -> None:
        """Wait for a write, for at most so long."""
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await self._changed.wait()
        except TimeoutError:
            pass


def _bytes(item: str | bytes | int) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()
