"""Does every key of a namespace hold what the fabric writes there?

The first part says what each key looks like: its type, and its fields or entries. It has a row for
every key that `fabric/store/keys.py` names (a test compares the two); docs/protocol.md has the
contract for people. The second part looks at the keys of a server. All of it is bounded:
`KEYS_EXAMINED_MAX` keys; of streams, which can hold gigabytes, the last id and the newest entries.
Findings name what is wrong and never show a value, which may be anything.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final, NamedTuple

import msgspec

from fabric.config.settings import PARTITIONS_MAX
from fabric.core import record
from fabric.core.synthesis.complete import Complete
from fabric.core.synthesis.merge import MergeRules
from fabric.core.synthesis.publish import COMPLETE, REVISION, RULES
from fabric.core.task import TaskRecord
from fabric.doctor.server import REFUSED, Finding, Level
from fabric.errors import FabricError, TamperedError, UnreachableError
from fabric.store.keys import (
    ORCHESTRATORS,
    SYNTHESIZERS,
    Namespace,
    Partition,
    SessionKeys,
    partition_of,
)
from fabric.store.redis import SCHEMA, RedisStore
from fabric.store.state import PURGE_FAULT, PURGING, check_record
from fabric.store.synthesis import DECODERS, REFINING, decode_refining
from fabric.store.value import NUMBER_LIMIT, is_last, parse_id, whole_number
from fabric.wire.stored import fields_of, pairs_of
from fabric.wire.worker import WorkerRecord

#: Digits of an epoch: what Lua's numbers hold exactly, and the milliseconds of 30,000 years.
EPOCH_DIGITS_MAX: Final = 15

#: Keys to look at, with some three requests each: a few seconds on one's own machine. A session of
#: 5,000 agents has as many inboxes.
KEYS_EXAMINED_MAX: Final = 10_000

#: Keys that one SCAN looks at, and scans in all: a server shared with others may hold millions.
SCAN_COUNT: Final = 1_000
SCANS_MAX: Final = 1_000

#: Fields of one hash, or members of one sorted set, to look at: the most that a session may have.
#: And how many of them at a time.
FIELDS_EXAMINED_MAX: Final = 50_000
FIELDS_COUNT: Final = 500

#: Entries of one stream to look at, from the newest on: each may have a megabyte.
ENTRIES_EXAMINED: Final = 10

#: Odd keys that are named; more are counted.
ODD_NAMED_MAX: Final = 20

#: Characters shown of a name that is not ours.
SHOWN_CHARS_MAX: Final = 120

#: Raises ValueError or a msgspec error on a field and its value that the fabric does not write.
Check = Callable[[bytes, bytes], object]


class Kind(NamedTuple):
    """What the fabric keeps under one name."""

    type: str
    #: Check of each field of a hash, or of each member and score of a sorted set.
    check: Check | None = None
    #: Fields that every entry of a stream has.
    fields: frozenset[bytes] = frozenset()
    #: The ids are log ids: they count the session's signals.
    counted: bool = False


def is_epoch(value: bytes | None) -> bool:
    """Whether the next holder of a lease can count on from this epoch."""
    return value is not None and value.isdigit() and len(value) <= EPOCH_DIGITS_MAX


def _if(is_right: Callable[[bytes], object], fault: str) -> Check:
    def check(_: bytes, value: bytes) -> None:
        if not is_right(value):
            raise ValueError(fault)

    return check


_number: Final = _if(
    lambda value: whole_number(value) is not None, "not a whole number, or too large"
)


def _record(kind: type[msgspec.Struct]) -> Check:
    decode = msgspec.json.Decoder(kind).decode
    return lambda field, value: check_record(field.decode(), decode(value), value)


def _any(_field: bytes, _value: bytes) -> None:
    pass


def _not_written(_field: bytes, _value: bytes) -> None:
    raise ValueError("a field that the fabric does not write")


def _fields(known: dict[bytes, Check], other: Check = _not_written) -> Check:
    """Return the check of a hash whose fields have names of their own."""
    return lambda field, value: known.get(field, other)(field, value)


def _cursor(_: bytes, value: bytes) -> None:
    for entry_id in value.split():
        parse_id(entry_id)


def _seed(field: bytes, value: bytes) -> None:
    is_seed = re.fullmatch(rb"seeded:(orchestrators|synthesizers):\d+", field)
    (_number if is_seed else _not_written)(field, value)


def _counter(field: bytes, value: bytes) -> None:
    """Check a field of `meta` that has no row of its own."""
    if field.startswith(b"cut:"):
        parse_id(value)
    else:
        _number(field, value)


def _part(field: bytes, value: bytes) -> None:
    DECODERS.get(field.decode().partition(":")[0], partial(_not_written, field))(value)


def _member(pattern: bytes) -> Check:
    def check(member: bytes, score: bytes) -> None:
        int(float(score))
        if not re.fullmatch(pattern, member, re.DOTALL):
            raise ValueError("not a name that the fabric writes")

    return check


def _part_name(member: bytes, score: bytes) -> None:
    # Members are read in the order of their bytes, which only holds among equal scores.
    if float(score) != 0:
        raise ValueError("its score is not 0")
    if not re.match(rb"(findings|document|items):", member):
        raise ValueError("not a part of a synthesis")


_meta: Final = _fields(
    {
        b"schema": _if(
            lambda value: value.decode() == SCHEMA, f"this version writes layout {SCHEMA} only"
        ),
        b"partitions": _if(
            lambda value: whole_number(value, PARTITIONS_MAX + 1),
            f"not a number of partitions, 1 to {PARTITIONS_MAX}",
        ),
    },
    _seed,
)
_counters: Final = _fields(
    {
        b"rules": _if(re.compile(rb"[0-9a-f]*").fullmatch, "not the digest of rules"),
        b"closed_by": _any,
        PURGING: _any,
        PURGE_FAULT.encode(): _any,
    },
    _counter,
)
_synthesis: Final = _fields(
    {
        REVISION.encode(): _number,
        COMPLETE.encode(): lambda _, value: msgspec.json.decode(value, type=Complete),
        RULES.encode(): lambda _, value: msgspec.json.decode(value, type=MergeRules),
        REFINING.encode(): lambda _, value: decode_refining(value),
    },
    _part,
)
_lease: Final = _fields(
    {
        b"committed": lambda _, value: parse_id(value),
        b"epoch": _if(is_epoch, "not an epoch: `fabric doctor --reseed`"),
        **dict.fromkeys((b"version", b"expires", b"ttl"), _number),
    },
    _any,
)
_lock: Final = _fields(
    {b"holder": _any, **dict.fromkeys((b"token", b"since", b"expires"), _number)}
)
_barrier: Final = _fields(
    {
        b"generation": _number,
        b"deadline": _number,
        b"leader": _any,
        b"members": lambda _, value: msgspec.json.decode(value, type=list[str]),
        b"state": lambda _, value: record.BarrierState(value.decode()),
    }
)
_p, _s = Partition("", 0), SessionKeys("", "")
_MESSAGE = frozenset((b"type", b"from", b"stream", b"cause", b"payload"))
_SCRATCH: Final = Kind("")
_WORKSPACE: Final = Kind("stream", fields=frozenset((b"session", b"ms")))

#: Keys of the namespace itself, by what follows its name.
NAMESPACE_KINDS: Final = {
    Namespace("").meta: Kind("hash", _meta),
    Namespace("").replicas(ORCHESTRATORS): Kind("zset", _member(rb".+")),
    Namespace("").replicas(SYNTHESIZERS): Kind("zset", _member(rb".+")),
    Namespace("").workers(ORCHESTRATORS): Kind("hash", _record(WorkerRecord)),
    Namespace("").workers(SYNTHESIZERS): Kind("hash", _record(WorkerRecord)),
}
#: Keys of a partition, by what follows its hash tag.
PARTITION_KINDS: Final = {
    _p.signals: Kind("stream"),
    _p.results: Kind("stream", fields=frozenset((b"session", b"type", b"emitter", b"cause"))),
    _p.dead: Kind("stream", fields=frozenset((b"code", b"reason", b"source", b"id"))),
    _p.sessions: Kind("zset", _member(rb"[^:]+")),
    _p.deadlines: Kind("zset", _member(rb"[^:]+:.+|:retention")),
    _p.timers(SYNTHESIZERS): Kind("zset", _member(rb"[^:]+:.+")),
    _p.lease(ORCHESTRATORS): Kind("hash", _lease),
    _p.lease(SYNTHESIZERS): Kind("hash", _lease),
}
#: Keys of a session, by what follows its name. After a name that ends with a colon comes the name
#: of an agent, a resource or a barrier.
SESSION_KINDS: Final = {
    _s.log: Kind("stream", fields=frozenset((b"kind", b"type", b"ms")), counted=True),
    _s.broadcast: Kind("stream", fields=_MESSAGE, counted=True),
    _s.inbox(""): Kind("stream", fields=_MESSAGE, counted=True),
    _s.meta: Kind("hash", _counters),
    _s.agents: Kind("hash", _record(record.AgentRecord)),
    _s.tasks: Kind("hash", _record(TaskRecord)),
    _s.dependencies: Kind("hash", _record(record.DependencyRecord)),
    _s.claims: Kind("hash", _record(record.ClaimRecord)),
    _s.lock(""): Kind("hash", _lock),
    _s.queue(""): Kind("zset", _member(rb".+")),
    _s.barriers: Kind("hash", _record(record.BarrierRecord)),
    _s.barrier(""): Kind("hash", _barrier),
    _s.arrived(""): Kind("zset", _member(rb".+")),
    _s.escalations: Kind("hash", _record(record.EscalationRecord)),
    _s.cursors: Kind("hash", _cursor),
    _s.incarnations: Kind("hash", _number),
    _s.retired: Kind("hash", _record(record.RetiredRecord)),
    _s.written: Kind("hash", _record(record.WrittenRecord)),
    _s.roster: Kind("hash", _record(record.ExpectedRecord)),
    _s.synthesis: Kind("hash", _synthesis),
    _s.revisions: Kind("stream", fields=frozenset((b"patch", b"causes", b"ms", b"final"))),
    _s.said(""): Kind("zset", _part_name),
}


class Known(NamedTuple):
    """A key with a name that the fabric uses."""

    kind: Kind
    partition: int | None = None
    session: SessionKeys | None = None


def known(namespace: Namespace, key: str) -> Known | None:
    """Return what a key with this name holds; None when the fabric uses no such name."""
    rest = key.removeprefix(namespace.name)
    if rest in NAMESPACE_KINDS:
        return Known(NAMESPACE_KINDS[rest])
    if rest.startswith(":workspace:"):
        return Known(_WORKSPACE)
    if rest.startswith(":doctor:"):
        return Known(_SCRATCH)  # the scratch key of another doctor
    found = re.fullmatch(r":\{(0|[1-9][0-9]{0,3})\}(:([^:]+)((:[^:]+:?).*)|:.+)", rest, re.DOTALL)
    if found is None:
        return None
    number = int(found[1])
    if found[2] in PARTITION_KINDS:
        return Known(PARTITION_KINDS[found[2]], number)
    # The whole of it, or `:inbox:`, `:lock:` … and a name.
    kind = SESSION_KINDS.get(found[4] or "")
    if kind is None and found[5] and found[5].endswith(":") and found[4] != found[5]:
        kind = SESSION_KINDS.get(found[5])
    if kind is None:
        return None
    return Known(kind, number, namespace.partition(number).session(found[3]))


async def partitions(store: RedisStore, default: int) -> int:
    """Return how many partitions a namespace says it has; the default when it does not say."""
    try:
        number = await _number_in(store, store.namespace.meta, "partitions", PARTITIONS_MAX + 1)
    except REFUSED:  # the check of the leases reports it
        number = None
    return number or default


async def _number_in(
    store: RedisStore, key: str, field: str, limit: int = NUMBER_LIMIT
) -> int | None:
    """Return a number in a hash; 0 when it is none, None when the key is of another type."""
    try:
        (stored,) = await store.fields(key, [field])
    except TamperedError:
        return None
    return whole_number(stored, limit) or 0


async def keys(store: RedisStore, count: int) -> list[Finding]:
    """Look at every key of a namespace that has `count` partitions; name the odd ones."""
    try:
        names, is_all = await _names(store)
    except UnreachableError:
        raise
    except FabricError as error:
        return [Finding("keys", Level.UNKNOWN, f"not known: {error}")]
    refused: Counter[str] = Counter()
    odd = [finding async for finding in _odd(store, names, count, refused)]
    more = "" if is_all else "; there are more, which were not looked at"
    unknown = [
        Finding("keys", Level.UNKNOWN, f"{number} not looked at: {reason}")
        for reason, number in refused.items()
    ]
    looked = f"{len(names) - refused.total()} looked at"
    if not odd:
        found = f"{looked}, all of the type and shape that the fabric writes{more}"
        return [Finding("keys", Level.OK, found), *unknown]
    odd.sort(key=lambda finding: (finding.level is not Level.FAIL, finding.found))
    found = f"{looked}, {len(odd)} of them odd{more}"
    advice = "see docs/protocol.md, Keys"
    return [*odd[:ODD_NAMED_MAX], Finding("keys", odd[0].level, found, advice), *unknown]


async def _names(store: RedisStore) -> tuple[list[bytes], bool]:
    """Return the names of the namespace's keys, sorted, and whether these are all."""
    pattern = re.sub(r"[*?[\]\\^-]", r"\\\g<0>", store.namespace.name) + ":*"
    names: set[bytes] = set()
    is_all = True
    for server in (await store.servers()).values():
        cursor = b"0"
        for _ in range(SCANS_MAX):
            scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            cursor, found = await server.call(*scan)
            names.update(found)
            if cursor == b"0" or len(names) > KEYS_EXAMINED_MAX:
                break
        is_all = is_all and cursor == b"0" and len(names) <= KEYS_EXAMINED_MAX
    return sorted(names)[:KEYS_EXAMINED_MAX], is_all


async def _odd(
    store: RedisStore, names: list[bytes], count: int, refused: Counter[str]
) -> AsyncIterator[Finding]:
    """Yield a finding for each odd key; count those that we may not look at, by the reason."""
    highest = -1
    for name in names:
        try:
            found = known(store.namespace, name.decode())
        except UnicodeDecodeError:
            found = None
        key = _shown(name)
        if left := re.match(rb".+?:\{[0-9]+\}::(aside|copy):", name):
            yield _left(key, _word(name), is_copy=left[1] == b"copy")
            continue
        if found is None:
            unknown = f"{key}: unknown, the fabric writes no such key"
            advice = f"if nobody needs it: redis-cli DEL {_word(name)}"
            yield Finding("key", Level.WARN, unknown, f"the fabric does not touch it; {advice}")
            continue
        if found.session is not None and found.partition is not None:
            highest = max(highest, found.partition)
        try:
            fault = _misplaced(found, count) or await _fault(store, name.decode(), found)
        except TamperedError:  # it became another type while we looked
            fault = f"is no {found.kind.type}", "it was changed while we looked: run this again"
        except REFUSED as error:
            refused[str(error)] += 1
            continue
        if fault:
            yield Finding("key", Level.FAIL, f"{key}: {fault[0]}", fault[1])
    meta = store.namespace.meta
    # Of too many keys it may be one that is not among the names.
    is_named = meta.encode() in names
    if highest >= 0 and not is_named and not await store.call("EXISTS", meta, at=meta):
        advice = (
            f"before a worker starts: redis-cli HSET {meta} schema {SCHEMA} partitions N, where N "
            f"is the number that you had set, or else 1; it is above {highest}"
        )
        gone = f"{meta}: gone, and with it the number of partitions"
        yield Finding("key", Level.FAIL, gone, advice)


def _left(key: str, word: str, *, is_copy: bool) -> Finding:
    """Return the finding for what a worker has left when it replaced a stream."""
    found = f"{key}: the stream as it was before a worker replaced it, since its ids were used up"
    advice = f"look for who writes there by hand; it expires by itself, or redis-cli DEL {word}"
    if is_copy:
        found = f"{key}: a copy of a stream, which a worker is making, or was when it was killed"
        advice = f"if it is still there in a minute: redis-cli DEL {word}"
    return Finding("key", Level.WARN, found, advice)


async def _fault(store: RedisStore, key: str, found: Known) -> tuple[str, str] | None:
    """Return what is wrong with a key and what to do about it; None when nothing is."""
    kind, word = found.kind, _word(key.encode())
    given = (await store.call("TYPE", key, at=key)).decode() if kind.type else "none"
    if given == "none":  # a scratch key, or deleted since
        return None
    if given != kind.type:
        advice = f"move it out of the namespace (redis-cli RENAME {word} …), or delete it"
        return f"is a {given}, the fabric keeps a {kind.type} there", advice
    if given == "stream":
        return await _stream_fault(store, key, found)
    if kind.check is None:
        return None
    async for field, value in _pairs(store, key, given):
        try:
            field.decode()
            kind.check(field, value)
        except (ValueError, OverflowError, msgspec.MsgspecError, RecursionError) as error:
            reason = _shown(str(error).encode())
            verb = "HDEL" if given == "hash" else "ZREM"
            advice = f"correct it, or remove it: redis-cli {verb} {word} {_word(field)}"
            return f"{_shown(field)} is not what the fabric writes ({reason})", advice
    return None


async def _stream_fault(store: RedisStore, key: str, found: Known) -> tuple[str, str] | None:
    kind, word = found.kind, _word(key.encode())
    # First the stream, then the counter: if a commit comes in between, the counter is ahead.
    last = fields_of(await store.call("XINFO", "STREAM", key, at=key))[b"last-generated-id"]
    repair = (
        "a worker that runs (fabric up) replaces the stream when it next writes there, the "
        "ingress within seconds, and its log says so; look for who writes there by hand"
    )
    if is_last(last):
        used = f"takes no new entries: somebody has used the id {last.decode()}, one of the last"
        return used, repair
    if kind.counted and found.session is not None:
        count = await _number_in(store, found.session.meta, "log")
        if count is not None and parse_id(last)[0] > count:
            return (
                f"has come to id {last.decode()}, but the session counts {count} signals "
                f"({found.session.meta}, field log): somebody has added entries",
                repair,
            )
    if kind.fields:
        newest = await store.entries(key, b"-", b"+", ENTRIES_EXAMINED, newest_first=True)
        for entry_id, fields in newest:
            missing = b", ".join(sorted(kind.fields - set(fields[::2]))).decode()
            if missing:
                advice = f"redis-cli XDEL {word} {entry_id.decode()}, if nobody needs it"
                return f"entry {entry_id.decode()} lacks {missing}", advice
    return None


async def _pairs(store: RedisStore, key: str, kind: str) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield fields and values of a hash, or members and scores of a sorted set."""
    cursor, verb = b"0", "HSCAN" if kind == "hash" else "ZSCAN"
    for _ in range(FIELDS_EXAMINED_MAX // FIELDS_COUNT):
        cursor, flat = await store.call(verb, key, cursor, "COUNT", FIELDS_COUNT, at=key)
        for pair in pairs_of(flat):
            yield pair
        if cursor == b"0":
            return


def _misplaced(found: Known, count: int) -> tuple[str, str] | None:
    if found.partition is None:
        return None
    if found.partition >= count:
        advice = "it was written while another number of partitions was in force: restore that"
        return f"in partition {found.partition}, of {count} from 0 on", advice
    if found.session is not None:
        number = partition_of(found.session.name, count)
        if number != found.partition:
            advice = f"signals of this session go to partition {number}: crc32(name) % {count}"
            return f"in partition {found.partition}, but its session belongs in {number}", advice
    return None


def _shown(name: bytes) -> str:
    """Return a name that is not ours in a form that is safe on a terminal."""
    text = name.decode(errors="backslashreplace")
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"


def _word(name: bytes) -> str:
    """Return a name that is not ours in a form that is safe in a shell."""
    return shlex.quote(_shown(name))
