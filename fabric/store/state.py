"""A session's records as hash fields: JSON that redis-cli shows, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from fabric.core.record import (
    AgentRecord,
    BarrierRecord,
    ClaimRecord,
    DependencyRecord,
    EscalationRecord,
    TaskRecord,
)
from fabric.core.session import SessionState, Table
from fabric.errors import TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.port import Batch
from fabric.store.value import NUMBER_LIMIT, whole_number

#: Fields written by one HSET: Lua passes at most some 8,000 arguments on.
FIELDS_MAX = 1_000

#: May be a number that is none of ours; or a text.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")

R = TypeVar("R", bound=Struct)

_encode = msgspec.json.Encoder().encode


def hashes(keys: SessionKeys) -> list[str]:
    """Name the hashes that hold a session, in the order in which `restore` takes them."""
    return [
        keys.meta,
        keys.agents,
        keys.tasks,
        keys.dependencies,
        keys.claims,
        keys.barriers,
        keys.escalations,
    ]


def restore(name: str, keys: SessionKeys, stored: list[dict[bytes, bytes]]) -> SessionState:
    """Return the session that the hashes hold; a new one when they are empty.

    Raises TamperedError, naming the key, when a field is not what the fabric writes.
    """
    meta, agents, tasks, dependencies, claims, barriers, escalations = stored
    counts: list[int] = []
    for field in (b"log", b"clock_ms", b"opened_ms", b"token"):
        number = whole_number(meta.get(field, b"0"))
        if number is None:
            raise TamperedError(keys.meta, "hash with a field that is no number", "hash")
        counts.append(number)
    log, clock_ms, opened_ms, token = counts
    session = SessionState(
        name,
        log=log,
        clock_ms=clock_ms,
        opened_ms=opened_ms,
        token=token,
        rules=meta.get(b"rules", b"").decode("ascii", "replace"),
        agents=_records(keys.agents, agents, AgentRecord),
        tasks=_records(keys.tasks, tasks, TaskRecord),
        dependencies=_records(keys.dependencies, dependencies, DependencyRecord),
        claims=_records(keys.claims, claims, ClaimRecord),
        barriers=_records(keys.barriers, barriers, BarrierRecord),
        escalations=_records(keys.escalations, escalations, EscalationRecord),
    )
    _remember_shown(session, keys)
    return session


def save(batch: Batch, keys: SessionKeys, session: SessionState) -> None:
    """Add what has changed in a session to a batch."""
    batch.write(
        "HSET",
        keys.meta,
        (
            "log", session.log,
            "clock_ms", session.clock_ms,
            "opened_ms", session.opened_ms,
            "token", session.token,
            "rules", session.rules,
        ),
    )  # fmt: skip
    _write_shown(batch, keys, session)
    _save_table(batch, keys.agents, session.agents)
    _save_table(batch, keys.tasks, session.tasks)
    _save_table(batch, keys.dependencies, session.dependencies)
    _save_table(batch, keys.claims, session.claims)
    _save_table(batch, keys.barriers, session.barriers)
    _save_table(batch, keys.escalations, session.escalations)


def _save_table(batch: Batch, key: str, table: Table[Any]) -> None:
    if not table.changed:
        return
    fields: list[str | bytes | int] = []
    dropped: list[str] = []
    for name, record in table.take_changes().items():
        if record is None:
            dropped.append(name)
            continue
        encoded = _encode(record)
        batch.size_bytes += len(encoded)
        fields += (name, encoded)
    for start in range(0, len(fields), 2 * FIELDS_MAX):
        batch.write("HSET", key, fields[start : start + 2 * FIELDS_MAX])
    for start in range(0, len(dropped), FIELDS_MAX):
        batch.write("HDEL", key, dropped[start : start + FIELDS_MAX])


def _records(key: str, stored: dict[bytes, bytes], kind: type[R]) -> dict[str, R]:
    try:
        decode = msgspec.json.Decoder(kind).decode
        records = {name.decode(): decode(value) for name, value in stored.items()}
        for record, value in zip(records.values(), stored.values(), strict=True):
            check_numbers(record, value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TamperedError(key, f"hash with a foreign field ({error})", "hash") from None
    return records


def check_numbers(record: Struct, raw: bytes) -> None:
    """Refuse a record with numbers that are none of ours. Raises ValueError."""
    if _LONG_NUMBER.search(raw):
        _check(msgspec.structs.astuple(record))


def _check(values: Iterable[Any]) -> None:
    # What agents give as JSON is kept raw: it may hold any number.
    for value in values:
        if isinstance(value, dict):
            _check(value.values())
        elif isinstance(value, list):
            _check(value)
        elif isinstance(value, int) and abs(value) >= NUMBER_LIMIT:
            raise ValueError("a number beyond 18 digits")


#: Members written by one ZADD: Lua passes at most some 8,000 arguments on.
MEMBERS_MAX = 1_000

LOCK_FIELDS = ("holder", "token", "since", "expires")


def _remember_shown(session: SessionState, keys: SessionKeys) -> None:
    """Note what the keys of a session that was just read show already."""
    order = session.order
    for claim in session.claims.records.values():
        for resource in {*claim.writes, *claim.reads}:
            session.shown[keys.queue(resource)] = _queue(session, resource)
            if order.holders(resource):
                session.shown[keys.lock(resource)] = {}
    for name, barrier in session.barriers.records.items():
        session.shown[keys.arrived(name)] = dict(barrier.arrived)


def _write_shown(batch: Batch, keys: SessionKeys, session: SessionState) -> None:
    """Add what has changed to a batch. Before the tables are written: it looks at their changes."""
    for resource in sorted(session.order.changed):
        _write_lock(batch, keys.lock(resource), session, resource)
        _write_members(batch, keys.queue(resource), session, _queue(session, resource))
    session.order.changed.clear()
    for name in sorted(session.barriers.changed):
        barrier = session.barriers.records[name]
        batch.write("HSET", keys.barrier(name), _barrier(barrier))
        _write_members(batch, keys.arrived(name), session, dict(barrier.arrived))


def _write_lock(batch: Batch, key: str, session: SessionState, resource: str) -> None:
    holders = session.order.holders(resource)
    if not holders:
        if session.shown.pop(key, None) is not None:
            batch.write("HDEL", key, LOCK_FIELDS)
        return
    claims = [session.claims.records[claim_id] for claim_id in holders]
    newest = claims[-1]
    names = ", ".join(dict.fromkeys(claim.agent for claim in claims))
    session.shown[key] = {}
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


def _write_members(batch: Batch, key: str, session: SessionState, now: dict[str, int]) -> None:
    before = session.shown.get(key, {})
    gone = [member for member in before if member not in now]
    come = [(score, member) for member, score in now.items() if before.get(member) != score]
    for start in range(0, len(gone), MEMBERS_MAX):
        batch.write("ZREM", key, gone[start : start + MEMBERS_MAX])
    for start in range(0, len(come), MEMBERS_MAX):
        pairs = [part for pair in come[start : start + MEMBERS_MAX] for part in pair]
        batch.write("ZADD", key, pairs)
    if now:
        session.shown[key] = now
    else:
        session.shown.pop(key, None)


def _queue(session: SessionState, resource: str) -> dict[str, int]:
    """Agent → score, for all who wait; the better one of who waits twice."""
    members: dict[str, int] = {}
    for place in session.order.queue(resource):
        members.setdefault(place.agent, place.rank_ms)
    return members


def _barrier(barrier: BarrierRecord) -> tuple[str | bytes | int, ...]:
    return (
        "generation", barrier.generation,
        "leader", barrier.leader,
        "members", _encode(barrier.members),
        "deadline", barrier.deadline_ms,
        "state", barrier.state.value,
    )  # fmt: skip
