"""The content of a server, in memory: keys with typed values, and the writes of a batch on them."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from fabric.errors import ExhaustedError, MissingInputError, ServerError, TamperedError
from fabric.store.port import ANY, EXISTING, UNLINK, Batch, Entry
from fabric.store.value import SEQUENCE_MAX, Id, is_last, parse_id, successor
from fabric.wire.record import GIVEN, CopyingForm
from fabric.wire.stored import pairs_of, raw

#: What TYPE says of a key that is not there.
NOTHING = "none"


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
        """Add an entry under an id, or `*`. Raises ExhaustedError if the id cannot be the next."""
        following = parse_id(successor(b"%d-%d" % self.last))
        wanted = max((now_ms, 0), following) if entry_id == b"*" else parse_id(entry_id)
        if wanted <= self.last:
            raise ExhaustedError("of the fabric")
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
        start, stop = 0, len(self.ids)
        if first != b"-":
            find = bisect_right if first.startswith(b"(") else bisect_left
            start = find(self.ids, parse_id(first.lstrip(b"(")))
        if last != b"+":
            find = bisect_left if last.startswith(b"(") else bisect_right
            stop = find(self.ids, parse_id(last.lstrip(b"("), SEQUENCE_MAX))
        return self._slice(start, stop)

    def trim(self, upto: Id) -> None:
        """Remove the entries up to and including an id."""
        stop = bisect_right(self.ids, upto)
        del self.ids[:stop]
        del self.fields[:stop]

    def delete(self, ids: set[Id]) -> int:
        """Remove entries; return how many there were."""
        found = [index for index, one in enumerate(self.ids) if one in ids]
        for index in reversed(found):
            del self.ids[index], self.fields[index]
        return len(found)

    def _slice(self, start: int, stop: int) -> list[Entry]:
        return [
            (b"%d-%d" % self.ids[position], list(self.fields[position]))
            for position in range(start, min(stop, len(self.ids)))
        ]


_KINDS: dict[str, type] = {"stream": Stream, "hash": dict, "zset": dict}


class Keyspace:
    """Keys and their values, as a server holds them."""

    def __init__(self) -> None:
        #: Key → (type as TYPE names it, value).
        self.keys: dict[str, tuple[str, Any]] = {}
        #: What tells this server, and its history, from another.
        self.server = b"memory"
        self._changed = asyncio.Event()

    def kind(self, key: str) -> str | None:
        """Return a key's type; None when there is no such key, or an empty hash or set."""
        kind, value = self.keys.get(key, ("hash", None))
        return None if kind in ("hash", "zset") and not value else kind

    def peek(self, key: str, kind: str) -> Any:
        """Return a key's value, None when there is no such key. Raises TamperedError."""
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
        """Return a stream; create it if there is none."""
        return cast(Stream, self._value(key, "stream"))

    def hash(self, key: str) -> dict[bytes, bytes]:
        """Return a hash; create it if there is none."""
        return cast(dict[bytes, bytes], self._value(key, "hash"))

    def sorted_set(self, key: str) -> dict[bytes, int]:
        """Return a sorted set; create it if there is none."""
        return cast(dict[bytes, int], self._value(key, "zset"))

    def check_batch(self, batch: Batch, source: str) -> list[Entry]:
        """Check that a batch can be applied, as `commit.lua` does; return what it copies from.

        `source` is the input stream. Raises TamperedError, ExhaustedError, MissingInputError.
        """
        stream = self.peek(source, "stream") or Stream()
        for key, kind, first in zip(batch.keys, batch.types, batch.firsts, strict=True):
            must_exist, kind = kind.endswith(EXISTING), kind.removesuffix(EXISTING)
            if must_exist and self.kind(key) is None:
                raise TamperedError(key, NOTHING, kind)
            value = self.peek(key, kind) if kind != ANY else None
            if first and value is not None:
                last = b"%d-%d" % value.last
                if is_last(last) if first == "*" else value.last >= parse_id(first.encode()):
                    raise ExhaustedError(key)
        inputs: list[Entry] = []
        if ids := batch.copied:
            inputs = stream.between(ids[0], ids[-1])[: len(ids)]
            if [entry_id for entry_id, _ in inputs] != ids:
                raise MissingInputError(source)
        return inputs

    def apply(self, batch: Batch, now_ms: int, inputs: Sequence[Entry] = ()) -> None:
        """Carry out the writes of a batch, as `commit.lua` does."""
        changed = []
        for verb, key, arguments in writes(batch, inputs):
            changed.append(key)
            if verb == "XADD":
                self.stream(key).append(arguments[0], arguments[1:], now_ms)
            else:
                self._write(verb, key, arguments)
        self.wake(changed)

    def _write(self, verb: str, key: str, arguments: list[bytes]) -> None:
        if verb == "HSET":
            self.hash(key).update(pairs_of(arguments))
        elif verb == UNLINK:
            self.keys.pop(key, None)
        elif verb == "XTRIM":
            if stream := self.peek(key, "stream"):
                stream.delete({one for one in stream.ids if one < parse_id(arguments[-1])})
        elif verb == "ZADD":
            scores = {member: _score(score) for score, member in pairs_of(arguments)}
            self.sorted_set(key).update(scores)
        else:
            stored = self.hash(key) if verb == "HDEL" else self.sorted_set(key)
            for name in arguments:
                stored.pop(name, None)

    def wake(self, keys: Iterable[str] | None = None) -> None:
        """Let blocked readers check again: those of some keys, or all."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, limit_ms: int) -> None:
        """Wait for a write, for at most `limit_ms`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_ms / 1000):
                await self._changed.wait()


def writes(batch: Batch, inputs: Sequence[Entry] = ()) -> Iterator[tuple[str, str, list[bytes]]]:
    """Yield the writes of a batch as commands: verb, key, arguments, an entry's id first.

    `inputs` are the entries that `batch.copied` names.
    """
    operations, position = batch.operations, 0
    while position < len(operations):
        what, index, first = operations[position : position + 3]
        position += 3
        if isinstance(what, int):
            names = batch.forms[what]
            values: list[bytes] = []
            if isinstance(names, CopyingForm):
                fields = inputs[int(operations[position])][1]
                position += 1
                given = map(raw, operations[position : position + names.places.count(GIVEN)])
                position += names.places.count(GIVEN)
                values += (
                    next(given) if at == GIVEN else fields[2 * at + 1] for at in names.places
                )
            else:
                values += map(raw, operations[position : position + len(names)])
                position += len(names)
            entry = [raw(first)]
            for name, value in zip(names, values, strict=True):
                entry += (name if isinstance(name, bytes) else raw(name), value)
            yield "XADD", batch.keys[int(index)], entry
        else:
            stop = position + int(first)
            yield str(what), batch.keys[int(index)], [*map(raw, operations[position:stop])]
            position = stop


def _score(score: bytes) -> int:
    """Return a member's score. The server accepts only scores that fit a float."""
    number = int(score)
    if abs(number) >= 2**1024:
        raise ServerError("server: value is not a valid float")
    return number
