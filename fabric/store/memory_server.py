"""What a server holds, in memory: keys with typed values, and the writes of a batch on them."""

from __future__ import annotations

import asyncio
from typing import Any

from fabric.errors import ServerError, TamperedError
from fabric.store.port import Batch
from fabric.store.stream import Stream

_KINDS: dict[str, type] = {"stream": Stream, "hash": dict, "zset": dict, "string": bytes}


class MemoryServer:
    """Keys and their values, as a server would hold them."""

    def __init__(self) -> None:
        #: Key → (type as TYPE names it, value).
        self.keys: dict[str, tuple[str, Any]] = {}
        self._changed = asyncio.Event()

    def kind(self, key: str) -> str | None:
        """Return a key's type; None where there is none, or a hash or set with nothing in it."""
        kind, value = self.keys.get(key, ("hash", None))
        return None if kind in ("hash", "zset") and not value else kind

    def peek(self, key: str, kind: str) -> Any:
        """Return a key's value, None where there is none. Raises TamperedError."""
        found = self.kind(key)
        if found is None:
            return None
        if found != kind:
            raise TamperedError(key, found, kind)
        return self.keys[key][1]

    def _value(self, key: str, kind: str) -> Any:
        if self.kind(key) is None:
            self.keys[key] = (kind, _KINDS[kind]())
            return self.keys[key][1]
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
            what, index = operations[position : position + 2]
            key = batch.keys[int(index)]
            if isinstance(what, int):
                names = batch.forms[what]
                stop = position + 3 + len(names)
                entry_id, *values = map(_bytes, operations[position + 2 : stop])
                pairs = zip(map(_bytes, names), values, strict=True)
                self.stream(key).append(entry_id, [item for pair in pairs for item in pair], now_ms)
            else:
                stop = position + 3 + int(operations[position + 2])
                self._write(str(what), key, [*map(_bytes, operations[position + 3 : stop])], now_ms)
            position = stop
        self.wake()

    def _write(self, verb: str, key: str, arguments: list[bytes], now_ms: int) -> None:
        pairs = list(zip(arguments[::2], arguments[1::2], strict=False))
        if verb == "XADD":
            self.stream(key).append(arguments[0], arguments[1:], now_ms)
        elif verb == "HSET":
            self.hash(key).update(pairs)
        elif verb == "ZADD":
            self.sorted_set(key).update({member: _score(score) for score, member in pairs})
        elif verb == "SET":
            self.keys[key] = ("string", arguments[0])
        else:
            stored = self.hash(key) if verb == "HDEL" else self.sorted_set(key)
            for name in arguments:
                stored.pop(name, None)

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


def _score(score: bytes) -> int:
    """Return a member's score. The server takes none that a float cannot hold."""
    number = int(score)
    if abs(number) >= 2**1024:
        raise ServerError("server: value is not a valid float")
    return number
