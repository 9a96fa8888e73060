"""A session as a file of JSON lines: every entry, field and member of its keys; and back.

    {"format":"fabric-session/1","session":"demo","prefix":"fabric:{0}:demo","now_ms":…}
    {"key":"log","id":"1-0","fields":["kind","signal",…]}
    {"key":"agents","field":"A","value":"{…}"}
    {"key":"queue:a.py","member":"B","score":17}
    {"end":3,"is_whole":true}

A key is named without its prefix. What is no UTF-8 stands as {"base64":"…"}. The last line counts
those between: a file without it is cut off. `is_whole`: nothing of the log, the records and the
synthesis changed while it was written. What agents have read may have.
"""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from fabric.errors import CallerError, ExhaustedError, TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.keyspace import Keyspace
from fabric.store.port import Entry
from fabric.store.value import parse_id

#: Name and version of the format.
FORMAT = "fabric-session/1"

#: Keys by the first part of their names; all others are hashes.
_STREAMS = frozenset({"log", "broadcast", "inbox", "revisions"})
_SORTED_SETS = frozenset({"queue", "arrived", "said"})

#: What reading a line raises that nobody has exported.
_NONSENSE = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(EOFError, RecursionError, zlib.error),
)

_encode = msgspec.json.Encoder().encode


def kind_of(name: str) -> str:
    """Return the Redis type of a session's key, by its name without the prefix."""
    first = name.partition(":")[0]
    if first in _STREAMS:
        return "stream"
    return "zset" if first in _SORTED_SETS else "hash"


def opened(path: Path, mode: str) -> IO[bytes]:
    """Open a file of JSON lines; one named *.gz is compressed."""
    if path.name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, mode))
    return path.open(mode)


def header(keys: SessionKeys, now_ms: int) -> bytes:
    """Return the first line."""
    fields = {"session": keys.name, "prefix": keys.prefix, "now_ms": now_ms}
    return _encode({"format": FORMAT, **fields}) + b"\n"


def entry_line(name: str, entry: Entry) -> bytes:
    """Return the line of an entry of a stream."""
    fields = [_text(item) for item in entry[1]]
    return _encode({"key": name, "id": entry[0].decode(), "fields": fields}) + b"\n"


def field_line(name: str, field: bytes, value: bytes) -> bytes:
    """Return the line of a field of a hash."""
    return _encode({"key": name, "field": _text(field), "value": _text(value)}) + b"\n"


def member_line(name: str, member: bytes, score: int) -> bytes:
    """Return the line of a member of a sorted set."""
    return _encode({"key": name, "member": _text(member), "score": score}) + b"\n"


def last_line(count: int, *, is_whole: bool) -> bytes:
    """Return the last line: how many lines are between it and the first."""
    return _encode({"end": count, "is_whole": is_whole}) + b"\n"


def _text(item: bytes) -> str | dict[str, str]:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(item).decode()}


def _bytes(item: Any) -> bytes:
    if isinstance(item, dict):
        return base64.b64decode(item["base64"], validate=True)
    return cast("bytes", item.encode())


class FileStore:
    """What a file of a session holds, as a store that is only read (see ClientStore)."""

    def __init__(self, path: Path) -> None:
        """Read a file. Raises CallerError, naming the line, if it is no whole session."""
        self.data = Keyspace()
        self.is_whole = False
        number = 0
        try:
            with opened(path, "rb") as file:
                lines = enumerate(file, 1)
                number, first = next(lines)
                self._begin(msgspec.json.decode(first))
                is_over = False
                for number, line in lines:
                    if is_over:
                        raise ValueError("there is more behind the end")
                    is_over = self._take(msgspec.json.decode(line))
                    if is_over and (count := number - 2) != self._count:
                        raise ValueError(f"{count} lines before it, not {self._count}")
            if not is_over:
                raise ValueError("the end is missing: the file is cut off")
        except OSError as error:
            raise CallerError(f"{path} cannot be read: {error.strerror or error}") from None
        except StopIteration:
            raise CallerError(f"{path} is empty: no session") from None
        except (*_NONSENSE, ExhaustedError, TamperedError) as error:
            raise CallerError(f"{path}:{number}: not a session's file ({error})") from None

    def _begin(self, head: dict[str, Any]) -> None:
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']!r}, this version reads {FORMAT!r}")
        self.keys = SessionKeys(str(head["prefix"]), str(head["session"]))
        self._now_ms, self._count = int(head["now_ms"]), 0

    def _take(self, line: dict[str, Any]) -> bool:
        """Take up a line; return whether it is the last."""
        if "end" in line:
            # Files of an earlier version do not say it, or said it before they knew.
            self._count, self.is_whole = int(line["end"]), line.get("is_whole") is True
            return True
        key = f"{self.keys.prefix}:{line['key']}"
        if "id" in line:
            fields = [_bytes(item) for item in line["fields"]]
            self.data.stream(key).append(line["id"].encode(), fields, 0)
        elif "field" in line:
            self.data.hash(key)[_bytes(line["field"])] = _bytes(line["value"])
        else:
            self.data.sorted_set(key)[_bytes(line["member"])] = int(line["score"])
        return False

    async def now_ms(self, at: str | None = None) -> int:
        """Return when the file was written, by the server's clock."""
        return self._now_ms

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        """See ClientStore."""
        return [dict(self.data.peek(key, "hash") or {}) for key in keys]

    async def fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        """See ClientStore."""
        stored = self.data.peek(key, "hash") or {}
        return [stored.get(name.encode()) for name in names]

    async def scores(self, key: str) -> list[tuple[bytes, int]]:
        """See ClientStore."""
        return list((self.data.peek(key, "zset") or {}).items())

    async def length(self, key: str) -> int:
        """See ClientStore."""
        return len(self.data.peek(key, "stream") or ())

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        """See ClientStore: nothing more comes."""
        found = {}
        for key, place in after.items():
            stream = self.data.peek(key, "stream")
            if stream is not None and (entries := stream.after(parse_id(place), count)):
                found[key] = entries
        return found

    async def entries(
        self, key: str, first: bytes, last: bytes, count: int, *, newest_first: bool = False
    ) -> list[Entry]:
        """See ClientStore."""
        stream = self.data.peek(key, "stream")
        found: list[Entry] = stream.between(first, last) if stream is not None else []
        return (found[::-1] if newest_first else found)[:count]
