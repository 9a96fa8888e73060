"""A session as hash fields: JSON that redis-cli shows, and back.

Locks, queues and barriers have keys of their own as well, for people and programs to read:
`lock:<resource>`, `queue:<resource>`, `barrier:<name>`, `arrived:<name>`. They follow from the
hashes `claims` and `barriers`, which are authoritative, and are written in the same commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from fabric.core import record
from fabric.core.limits import SETTLE_MS
from fabric.core.session import SessionState, Table
from fabric.core.task import TaskRecord
from fabric.errors import TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.port import Argument, Batch
from fabric.store.value import NUMBER_LIMIT, whole_number
from fabric.wire.stored import checked_reading, text

#: Table of a session's state, and name of its key → type of its records.
_TABLES: Final[dict[str, type[Struct]]] = {
    "agents": record.AgentRecord,
    "tasks": TaskRecord,
    "dependencies": record.DependencyRecord,
    "claims": record.ClaimRecord,
    "barriers": record.BarrierRecord,
    "escalations": record.EscalationRecord,
    "retired": record.RetiredRecord,
    "written": record.WrittenRecord,
    "roster": record.ExpectedRecord,
}

#: Field of `meta` that says that the session is being deleted.
PURGING: Final = b"purging"

#: Field of `meta` that says why a session that is being deleted is not.
PURGE_FAULT: Final = "purge_fault"

LOCK_FIELDS: Final = ("holder", "token", "since", "expires")
BARRIER_FIELDS: Final = ("generation", "leader", "members", "deadline", "state")

#: A number that may be too large to be ours; or a text.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")

R = TypeVar("R", bound=Struct)

#: Returns all tables of a state, in their order.
_tables: Callable[[SessionState], tuple[Table[Any], ...]] = attrgetter(*_TABLES)

_encode = msgspec.json.Encoder().encode


def hashes(keys: SessionKeys) -> list[str]:
    """Name the hashes that hold a session, in the order in which `restore` takes them."""
    return [keys.meta, *(getattr(keys, table) for table in _TABLES)]


def restore(keys: SessionKeys, stored: list[dict[bytes, bytes]]) -> StoredSession:
    """Return the session that the hashes hold; a new one when they are empty.

    Raises TamperedError, naming the key, when the fabric did not write a field.
    """
    meta, *stored_tables = stored
    if PURGING in meta:
        # What is left of the rest need not be whole.
        return StoredSession(keys, SessionState(name=keys.name, is_purging=True))
    fields: dict[str, Any] = {"rules": meta.get(b"rules", b"").decode("ascii", "replace")}
    for field in ("log", "clock_ms", "opened_ms", "token"):
        number = whole_number(meta.get(field.encode(), b"0"))
        if number is None:
            raise TamperedError(keys.meta, "hash with a field that is no number", "hash")
        fields[field] = number
    for name in ("run", "closed_ms", "settle_ms"):
        # Sessions of earlier versions, first runs, and those under the default rules lack them.
        if name.encode() not in meta:
            continue
        if (number := whole_number(meta[name.encode()])) is None:
            raise TamperedError(keys.meta, "hash with a field that is no number", "hash")
        if number or name == "settle_ms":
            fields[name] = number
    fields["closed_by"] = meta.get(b"closed_by", b"").decode("utf-8", "replace")
    for (table, kind), records in zip(_TABLES.items(), stored_tables, strict=True):
        if records:
            fields[table] = Table(_records(getattr(keys, table), records, kind))
    if not meta and any(stored_tables):
        raise TamperedError(keys.meta, "none, beside other keys of the session", "hash")
    return StoredSession(keys, SessionState(name=keys.name, **fields), is_written=True)


def agents(key: str, stored: dict[bytes, bytes]) -> dict[str, record.AgentRecord]:
    """Return some agents' records by name. Raises TamperedError, naming the key."""
    return _records(key, stored, record.AgentRecord)


class StoredSession:
    """A session's state, its keys, and what the keys that follow from it show at present.

    `is_written`: the state was read from the server, and so are the keys that follow from it.
    """

    __slots__ = ("_meta", "is_stored", "keys", "settle_ms", "shown", "state")

    def __init__(self, keys: SessionKeys, state: SessionState, *, is_written: bool = False) -> None:
        self.keys = keys
        self.state = state
        #: What `meta` says; it is written once it is not the default any more.
        self.settle_ms = state.settle_ms if is_written else SETTLE_MS
        #: A commit has written it: then its keys must be there.
        self.is_stored = is_written and state.log > 0
        #: Of `meta`, what seldom changes, as it is stored.
        self._meta = _seldom(state) if self.is_stored else ()
        #: Key → members and scores of a sorted set; {} for a lock.
        self.shown: dict[str, dict[str, int]] = {}
        if is_written:
            for claim in state.claims.records.values():
                for resource in {*claim.writes, *claim.reads}:
                    self.shown[keys.queue(resource)] = self._queue(resource)
                    if state.order.holders(resource):
                        self.shown[keys.lock(resource)] = {}
            for name, barrier in state.barriers.records.items():
                self.shown[keys.arrived(name)] = dict(barrier.arrived)

    def save(self, batch: Batch) -> None:
        """Add everything that has changed to a batch."""
        keys, state = self.keys, self.state
        seldom = _seldom(state)
        rest = () if seldom == self._meta else seldom
        self._meta = seldom
        batch.write("HSET", keys.meta, ("log", state.log, "clock_ms", state.clock_ms, *rest))
        if state.settle_ms != SETTLE_MS or self.settle_ms != SETTLE_MS:
            self.settle_ms = state.settle_ms
            batch.write("HSET", keys.meta, ("settle_ms", state.settle_ms))
        if state.is_purging:
            batch.write("HSET", keys.meta, (text(PURGING), "1"))
        if state.closed_ms:
            closed = ("run", state.run, "closed_ms", state.closed_ms, "closed_by", state.closed_by)
            batch.write("HSET", keys.meta, closed)
        elif state.run > 1:
            batch.write("HSET", keys.meta, ("run", state.run))
            batch.write("HDEL", keys.meta, ("closed_ms", "closed_by"))
        if self.is_stored:
            batch.expect(keys.meta)
            batch.expect(keys.log)
        self.is_stored = True
        # Before the tables, because it needs their changes.
        if state.order.changed or state.barriers.changed:
            self._save_shown(batch)
        for name, table in zip(_TABLES, _tables(state), strict=True):
            if table.changed:
                changes = table.take_changes().items()
                encoded = [(field, None if one is None else _encode(one)) for field, one in changes]
                batch.write_fields(getattr(keys, name), encoded)

    def _save_shown(self, batch: Batch) -> None:
        order, barriers = self.state.order, self.state.barriers
        for resource in sorted(order.changed):
            self._save_lock(batch, self.keys.lock(resource), resource)
            self._save_members(batch, self.keys.queue(resource), self._queue(resource))
        order.changed.clear()
        for name in sorted(barriers.changed):
            barrier = barriers.get(name)
            if barrier is None:  # it has made room for another
                batch.write("HDEL", self.keys.barrier(name), BARRIER_FIELDS)
                self._save_members(batch, self.keys.arrived(name), {})
                continue
            batch.write(
                "HSET",
                self.keys.barrier(name),
                (
                    "generation", barrier.generation,
                    "leader", barrier.leader,
                    "members", text(_encode(barrier.members)),
                    "deadline", barrier.deadline_ms,
                    "state", barrier.state.value,
                ),
            )  # fmt: skip
            self._save_members(batch, self.keys.arrived(name), dict(barrier.arrived))

    def _save_lock(self, batch: Batch, key: str, resource: str) -> None:
        holders = self.state.order.holders(resource)
        if not holders:
            if self.shown.pop(key, None) is not None:
                batch.write("HDEL", key, LOCK_FIELDS)
            return
        claims = [self.state.claims.records[claim_id] for claim_id in holders]
        newest = claims[-1]
        names = ", ".join(dict.fromkeys(claim.agent for claim in claims))
        self.shown[key] = {}
        batch.write(
            "HSET",
            key,
            (
                "holder", names,
                "token", newest.token,
                "since", newest.granted_ms,
                "expires", newest.expires_ms,
            ),
        )  # fmt: skip

    def _save_members(self, batch: Batch, key: str, now: dict[str, int]) -> None:
        before = self.shown.get(key, {})
        changed: list[Argument] = []
        for member, score in now.items():
            if before.get(member) != score:
                changed += (score, member)
        batch.write_parts("ZREM", key, [member for member in before if member not in now])
        batch.write_parts("ZADD", key, changed)
        self.shown.pop(key, None)
        if now:
            self.shown[key] = now

    def _queue(self, resource: str) -> dict[str, int]:
        """Agent → score, for all that wait; the better score of an agent that waits twice."""
        members: dict[str, int] = {}
        for place in self.state.order.queue(resource):
            members.setdefault(place.agent, place.rank_ms)
        return members


def _seldom(state: SessionState) -> tuple[Argument, ...]:
    return ("opened_ms", state.opened_ms, "token", state.token, "rules", state.rules)


def _records(key: str, stored: dict[bytes, bytes], kind: type[R]) -> dict[str, R]:
    decode = msgspec.json.Decoder(kind).decode
    with checked_reading(key, "hash"):
        records = {name.decode(): decode(value) for name, value in stored.items()}
        for (name, one), value in zip(records.items(), stored.values(), strict=True):
            check_record(name, one, value)
    return records


def check_record(name: str, one: Struct, raw: bytes) -> None:
    """Refuse a claim that is not under its id, and a number that is too large to be ours.

    Raises ValueError.
    """
    if isinstance(one, record.ClaimRecord):
        one.check_name(name)
    if _LONG_NUMBER.search(raw):
        _check(msgspec.structs.astuple(one))


def _check(values: Iterable[Any]) -> None:
    # JSON from agents is not decoded, so it may hold any number.
    for value in values:
        if isinstance(value, dict):
            _check(value.values())
        elif isinstance(value, list):
            _check(value)
        elif isinstance(value, int) and abs(value) >= NUMBER_LIMIT:
            raise ValueError("a number beyond 18 digits")
