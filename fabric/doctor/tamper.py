"""Does every key of a namespace hold what the fabric writes there? (`shape.py` says what that is.)

Everything is bounded: keys by `KEYS_EXAMINED_MAX`; of streams, which can hold gigabytes, the id
that they have come to and the newest entries are looked at. What was found is named, never shown:
it may be anything.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from fabric.config.defaults import PARTITIONS_MAX
from fabric.doctor.diagnosis import Finding, Level
from fabric.doctor.shape import Known, known
from fabric.errors import FabricError, TamperedError, UnreachableError
from fabric.store.keys import partition_of
from fabric.store.redis import SCHEMA, RedisStore
from fabric.store.value import parse_id, whole_number

#: Keys looked into: some three requests each, so a few seconds on one's own machine. A session of
#: 5,000 agents has as many inboxes.
KEYS_EXAMINED_MAX: Final = 10_000

#: Keys that one SCAN looks at, and scans in all: a server shared with others may hold millions.
SCAN_COUNT: Final = 1_000
SCANS_MAX: Final = 1_000

#: Fields of one hash, or members of one sorted set, that are looked at: the most that a session
#: may have; and how many of them at a time.
FIELDS_EXAMINED_MAX: Final = 50_000
FIELDS_COUNT: Final = 500

#: Entries of one stream that are looked at, from the newest on: each may have a megabyte.
ENTRIES_EXAMINED: Final = 10

#: Odd keys that are named; more are counted.
ODD_NAMED_MAX: Final = 20

#: Characters of a foreign name that are shown.
SHOWN_CHARS_MAX: Final = 120


async def partitions(store: RedisStore, default: int) -> int:
    """Return how many partitions a namespace says it has; the default when it says nothing."""
    try:
        (stored,) = await store.fields(store.namespace.meta, ["partitions"])
    except TamperedError:
        return default
    return whole_number(stored, PARTITIONS_MAX + 1) or default


async def keys(store: RedisStore, count: int) -> list[Finding]:
    """Look at every key of a namespace that has `count` partitions; name the odd ones."""
    try:
        names, is_all = await _names(store)
    except UnreachableError:
        raise
    except FabricError as error:
        return [Finding("keys", Level.UNKNOWN, f"not known: {error}")]
    odd = [finding async for finding in _odd(store, names, count)]
    more = "" if is_all else "; there are more, which were not looked at"
    if not odd:
        found = f"{len(names)} looked at, all of the type and shape that the fabric writes{more}"
        return [Finding("keys", Level.OK, found)]
    odd.sort(key=lambda finding: (finding.level is not Level.FAIL, finding.found))
    found = f"{len(names)} looked at, {len(odd)} of them odd{more}"
    return [
        *odd[:ODD_NAMED_MAX],
        Finding("keys", odd[0].level, found, "see docs/protocol.md, Keys"),
    ]


async def _names(store: RedisStore) -> tuple[list[bytes], bool]:
    """Return the names of the namespace's keys, sorted, and whether these are all."""
    prefix = "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in store.namespace.name)
    names: set[bytes] = set()
    is_all = True
    for server in (await store.servers()).values():
        cursor = b"0"
        for _ in range(SCANS_MAX):
            cursor, found = await server.call(
                "SCAN", cursor, "MATCH", f"{prefix}:*", "COUNT", SCAN_COUNT
            )
            names.update(found)
            if cursor == b"0" or len(names) > KEYS_EXAMINED_MAX:
                break
        is_all = is_all and cursor == b"0" and len(names) <= KEYS_EXAMINED_MAX
    return sorted(names)[:KEYS_EXAMINED_MAX], is_all


async def _odd(store: RedisStore, names: list[bytes], count: int) -> AsyncIterator[Finding]:
    highest = -1
    for name in names:
        found = _read(store, name)
        key = _shown(name)
        if found is None:
            advice = (
                f"the fabric does not touch it; if nobody needs it: redis-cli DEL {_word(name)}"
            )
            yield Finding(
                "key", Level.WARN, f"{key}: unknown, the fabric writes no such key", advice
            )
            continue
        if found.session is not None and found.partition is not None:
            highest = max(highest, found.partition)
        try:
            fault = _misplaced(found, count) or await _fault(store, name, found)
        except TamperedError:  # it became another type while we looked
            fault = f"is no {found.kind.type}", "it was changed while we looked: look again"
        if fault:
            yield Finding("key", Level.FAIL, f"{key}: {fault[0]}", fault[1])
    meta = store.namespace.meta
    if highest >= 0 and not await store.call("EXISTS", meta, at=meta):
        advice = (
            f"before a worker starts: redis-cli HSET {meta} schema {SCHEMA} partitions N, where N"
        )
        yield Finding(
            "key",
            Level.FAIL,
            f"{meta}: gone, and with it the number of partitions",
            f"{advice} was set by you, or 1; it is above {highest}",
        )


def _read(store: RedisStore, name: bytes) -> Known | None:
    try:
        return known(store.namespace, name.decode())
    except UnicodeDecodeError:
        return None


async def _fault(store: RedisStore, key: bytes, found: Known) -> tuple[str, str] | None:
    """Return what is wrong with a key and what to do about it; None when nothing is."""
    kind = found.kind
    if not kind.type:
        return None
    given = (await store.call("TYPE", key, at=key.decode())).decode()
    if given == "none":  # deleted since
        return None
    if given != kind.type:
        advice = f"move it out of the namespace (redis-cli RENAME {_word(key)} …), or delete it"
        return f"is a {given}, the fabric keeps a {kind.type} there", advice
    if given == "stream":
        return await _stream_fault(store, key, found)
    if kind.judge is None:
        return None
    async for field, value in _pairs(store, key, given):
        try:
            field.decode()
            kind.judge(field, value)
        except (ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
            reason = _shown(str(error).encode())
            verb = "HDEL" if given == "hash" else "ZREM"
            advice = f"put it right, or take it out: redis-cli {verb} {_word(key)} {_word(field)}"
            return f"{_shown(field)} is not what the fabric writes ({reason})", advice
    return None


async def _stream_fault(store: RedisStore, key: bytes, found: Known) -> tuple[str, str] | None:
    kind = found.kind
    # First the stream, then the counter: whatever is committed in between, the counter is ahead.
    flat = await store.call("XINFO", "STREAM", key, at=key.decode())
    last = dict(zip(flat[::2], flat[1::2], strict=True))[b"last-generated-id"]
    if kind.counted and found.session is not None:
        count = await _count(store, found.session.meta)
        if count is not None and parse_id(last)[0] > count:
            return (
                f"has come to id {last.decode()}, the session counts {count} signals "
                f"({found.session.meta}, field log): new entries get ids that are no log ids",
                f"take out what is not the fabric's (redis-cli XDEL {_word(key)} …), then "
                f"XSETID {_word(key)} to the id of the last entry left, or {count}-0",
            )
    if kind.fields:
        for entry_id, fields in await _newest(store, key):
            missing = sorted(kind.fields - set(fields[::2]))
            if missing:
                return (
                    f"entry {entry_id.decode()} lacks {', '.join(map(bytes.decode, missing))}",
                    f"redis-cli XDEL {_word(key)} {entry_id.decode()}, if it is nobody's",
                )
    return None


async def _count(store: RedisStore, meta: str) -> int | None:
    """Return a session's number of signals; None when its key is of another type."""
    try:
        (stored,) = await store.fields(meta, ["log"])
    except TamperedError:
        return None
    return whole_number(stored) or 0


async def _newest(store: RedisStore, key: bytes) -> list[tuple[bytes, list[bytes]]]:
    found: list[tuple[bytes, list[bytes]]] = await store.call(
        *("XREVRANGE", key, "+", "-", "COUNT", ENTRIES_EXAMINED), at=key.decode()
    )
    return found


async def _pairs(store: RedisStore, key: bytes, kind: str) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield fields and values of a hash, or members and scores of a sorted set."""
    cursor, verb = b"0", "HSCAN" if kind == "hash" else "ZSCAN"
    for _ in range(FIELDS_EXAMINED_MAX // FIELDS_COUNT):
        looking = store.call(verb, key, cursor, "COUNT", FIELDS_COUNT, at=key.decode())
        cursor, flat = await looking
        for pair in zip(flat[::2], flat[1::2], strict=True):
            yield pair
        if cursor == b"0":
            return


def _misplaced(found: Known, count: int) -> tuple[str, str] | None:
    if found.partition is None:
        return None
    if found.partition >= count:
        advice = "another number of partitions was in force when it was written: put that back"
        return f"in partition {found.partition}, of {count} from 0 on", advice
    if found.session is not None:
        number = partition_of(found.session.name, count)
        if number != found.partition:
            advice = (
                f"signals of this session belong into partition {number}: crc32(name) % {count}"
            )
            return f"in partition {found.partition}, its session is at home in {number}", advice
    return None


def _shown(name: bytes) -> str:
    """Return a foreign name fit for a terminal."""
    text = name.decode(errors="backslashreplace")
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"


def _word(name: bytes) -> str:
    """Return a foreign name fit for a shell."""
    return shlex.quote(_shown(name))
