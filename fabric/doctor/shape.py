"""What each key of a namespace looks like: its type, and what its fields or entries are.

A row for every key that `keys.py` names; a test compares the two. The contract that people read is
in docs/protocol.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from fabric.config.defaults import PARTITIONS_MAX
from fabric.core.record import (
    AgentRecord,
    BarrierRecord,
    BarrierState,
    ClaimRecord,
    DependencyRecord,
    EscalationRecord,
    TaskRecord,
)
from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import Complete
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace, Partition, SessionKeys
from fabric.store.redis import SCHEMA
from fabric.store.state import check_numbers
from fabric.store.synthesis import DECODERS
from fabric.store.value import parse_id, whole_number

#: Digits of an epoch: what Lua's numbers hold exactly, and the milliseconds of 30,000 years.
EPOCH_DIGITS_MAX: Final = 15

Judge = Callable[[bytes, bytes], object]


class Kind(NamedTuple):
    """What the fabric keeps under one name."""

    type: str
    #: Raises ValueError or a msgspec error on a field and its value that are not the fabric's.
    judge: Judge | None = None
    #: Fields that every entry of a stream has.
    fields: frozenset[bytes] = frozenset()
    #: Ids are log ids: they count the session's signals.
    counted: bool = False


def is_epoch(value: bytes | None) -> bool:
    """Whether a lease's epoch can be counted on from."""
    return value is not None and value.isdigit() and len(value) <= EPOCH_DIGITS_MAX


def _number(_: bytes, value: bytes) -> None:
    if whole_number(value) is None:
        raise ValueError("not a whole number, or none of ours")


def _record(kind: type[msgspec.Struct]) -> Judge:
    decode = msgspec.json.Decoder(kind).decode
    return lambda _, value: check_numbers(decode(value), value)


def _counter(field: bytes, value: bytes) -> None:
    if field != b"rules":
        _number(field, value)
    elif not re.fullmatch(rb"[0-9a-f]*", value):
        raise ValueError("not the digest of rules")


def _holder(field: bytes, value: bytes) -> None:
    if field in (b"token", b"since", b"expires"):
        _number(field, value)
    elif field != b"holder":
        raise ValueError("a field that the fabric does not write")


def _gathering(field: bytes, value: bytes) -> None:
    if field in (b"generation", b"deadline"):
        _number(field, value)
    elif field == b"members":
        msgspec.json.decode(value, type=list[str])
    elif field == b"state":
        BarrierState(value.decode())
    elif field != b"leader":
        raise ValueError("a field that the fabric does not write")


def _place(_: bytes, value: bytes) -> None:
    for entry_id in value.split():
        parse_id(entry_id)


def _lease(field: bytes, value: bytes) -> None:
    if field == b"committed":
        parse_id(value)
    elif field == b"epoch" and not is_epoch(value):
        raise ValueError("not an epoch: `fabric doctor --reseed`")
    elif field in (b"version", b"expires", b"ttl"):
        _number(field, value)


def _meta(field: bytes, value: bytes) -> None:
    if field == b"schema":
        if value.decode() != SCHEMA:
            raise ValueError(f"this version writes layout {SCHEMA} only")
    elif field == b"partitions":
        if not whole_number(value, PARTITIONS_MAX + 1):
            raise ValueError(f"not a number of partitions, 1 to {PARTITIONS_MAX}")
    elif re.fullmatch(rb"seeded:(orchestrators|synthesizers):\d+", field):
        _number(field, value)
    else:
        raise ValueError("a field that the fabric does not write")


def _synthesized(field: bytes, value: bytes) -> None:
    name = field.decode()
    if name == REVISION:
        _number(field, value)
    elif name == COMPLETE:
        msgspec.json.decode(value, type=Complete)
    else:
        decode = DECODERS.get(name.partition(":")[0])
        if decode is None:
            raise ValueError("a field that the fabric does not write")
        decode(value)


def _member(pattern: bytes) -> Judge:
    def judge(member: bytes, score: bytes) -> None:
        int(float(score))
        if not re.fullmatch(pattern, member, re.DOTALL):
            raise ValueError("not a name that the fabric writes")

    return judge


def _spoken_of(member: bytes, score: bytes) -> None:
    # Members are read in the order of their bytes, which they have among equals only.
    if float(score) != 0:
        raise ValueError("its score is not 0")
    if not re.match(rb"(findings|document|items):", member):
        raise ValueError("no part of a synthesis")


_p, _s = Partition("", 0), SessionKeys("", "")
_MESSAGE = frozenset((b"type", b"from", b"stream", b"cause", b"payload"))
_SCRATCH: Final = Kind("")

#: Keys of the namespace itself, by what follows its name.
NAMESPACE_KINDS: Final = {
    Namespace("").meta: Kind("hash", _meta),
    Namespace("").replicas(ORCHESTRATORS): Kind("zset", _member(rb".+")),
    Namespace("").replicas(SYNTHESIZERS): Kind("zset", _member(rb".+")),
}
#: Keys of a partition, by what follows its hash tag.
PARTITION_KINDS: Final = {
    _p.signals: Kind("stream"),
    _p.results: Kind("stream", fields=frozenset((b"session", b"type", b"emitter", b"cause"))),
    _p.dead: Kind("stream", fields=frozenset((b"code", b"reason", b"source", b"id"))),
    _p.sessions: Kind("zset", _member(rb"[^:]+")),
    _p.deadlines: Kind("zset", _member(rb"[^:]+:.+")),
    _p.timers(SYNTHESIZERS): Kind("zset", _member(rb"[^:]+:.+")),
    _p.lease(ORCHESTRATORS): Kind("hash", _lease),
    _p.lease(SYNTHESIZERS): Kind("hash", _lease),
}
#: Keys of a session, by what follows its name; what ends with a colon goes on with the name of an
#: agent, a resource or a barrier.
SESSION_KINDS: Final = {
    _s.log: Kind("stream", fields=frozenset((b"kind", b"type", b"ms")), counted=True),
    _s.broadcast: Kind("stream", fields=_MESSAGE, counted=True),
    _s.inbox(""): Kind("stream", fields=_MESSAGE, counted=True),
    _s.meta: Kind("hash", _counter),
    _s.agents: Kind("hash", _record(AgentRecord)),
    _s.tasks: Kind("hash", _record(TaskRecord)),
    _s.dependencies: Kind("hash", _record(DependencyRecord)),
    _s.claims: Kind("hash", _record(ClaimRecord)),
    _s.lock(""): Kind("hash", _holder),
    _s.queue(""): Kind("zset", _member(rb".+")),
    _s.barriers: Kind("hash", _record(BarrierRecord)),
    _s.barrier(""): Kind("hash", _gathering),
    _s.arrived(""): Kind("zset", _member(rb".+")),
    _s.escalations: Kind("hash", _record(EscalationRecord)),
    _s.cursors: Kind("hash", _place),
    _s.incarnations: Kind("hash", _number),
    _s.synthesis: Kind("hash", _synthesized),
    _s.revisions: Kind("stream", fields=frozenset((b"patch", b"causes", b"ms", b"final"))),
    _s.said(""): Kind("zset", _spoken_of),
}


class Known(NamedTuple):
    """A key with a name that the fabric gives."""

    kind: Kind
    partition: int | None = None
    session: SessionKeys | None = None


def known(namespace: Namespace, key: str) -> Known | None:
    """Return what a key's name says that it is; None when the fabric gives no such name."""
    rest = key.removeprefix(namespace.name)
    if rest in NAMESPACE_KINDS:
        return Known(NAMESPACE_KINDS[rest])
    if rest.startswith(":doctor:"):
        return Known(_SCRATCH)  # the scratch key of another doctor
    found = re.fullmatch(r":\{(0|[1-9][0-9]{0,3})\}(:([^:]+)((:[^:]+:?).*)|:.+)", rest, re.DOTALL)
    if found is None:
        return None
    number = int(found[1])
    if found[2] in PARTITION_KINDS:
        return Known(PARTITION_KINDS[found[2]], number)
    # `:inbox:` or `:lock:` and what follows, or the whole of it.
    kind = SESSION_KINDS.get(found[4] or "")
    if kind is None and found[5] and found[5].endswith(":") and found[4] != found[5]:
        kind = SESSION_KINDS.get(found[5])
    if kind is None:
        return None
    return Known(kind, number, namespace.partition(number).session(found[3]))
