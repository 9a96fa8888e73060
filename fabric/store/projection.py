"""Locks, queues and barriers as keys of their own, for people and programs to read.

The truth is in the hashes `claims` and `barriers`; these keys follow from them and are written in
the same commit: `lock:<resource>`, `queue:<resource>`, `barrier:<name>`, `arrived:<name>`.
"""

from __future__ import annotations

import msgspec

from fabric.core.record import Barrier
from fabric.core.session import Session
from fabric.store.keys import SessionKeys
from fabric.store.port import Batch

#: Members written by one ZADD: Lua passes at most some 8,000 arguments on.
MEMBERS_MAX = 1_000

LOCK_FIELDS = ("holder", "token", "since", "expires")

_encode = msgspec.json.Encoder().encode


def remember(session: Session, keys: SessionKeys) -> None:
    """Note what the keys of a session that was just read show already."""
    order = session.order
    for claim in session.claims.records.values():
        for resource in {*claim.writes, *claim.reads}:
            session.shown[keys.queue(resource)] = _queue(session, resource)
            if order.holders(resource):
                session.shown[keys.lock(resource)] = {}
    for name, barrier in session.barriers.records.items():
        session.shown[keys.arrived(name)] = dict(barrier.arrived)


def write(batch: Batch, keys: SessionKeys, session: Session) -> None:
    """Add what has changed to a batch. Before the tables are written: it looks at their changes."""
    for resource in sorted(session.order.changed):
        _write_lock(batch, keys.lock(resource), session, resource)
        _write_members(batch, keys.queue(resource), session, _queue(session, resource))
    session.order.changed.clear()
    for name in sorted(session.barriers.changed):
        barrier = session.barriers.records[name]
        batch.write("HSET", keys.barrier(name), _barrier(barrier))
        _write_members(batch, keys.arrived(name), session, dict(barrier.arrived))


def _write_lock(batch: Batch, key: str, session: Session, resource: str) -> None:
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


def _write_members(batch: Batch, key: str, session: Session, now: dict[str, int]) -> None:
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


def _queue(session: Session, resource: str) -> dict[str, int]:
    """Agent → score, for all who wait; the better one of who waits twice."""
    members: dict[str, int] = {}
    for place in session.order.queue(resource):
        members.setdefault(place.agent, place.rank_ms)
    return members


def _barrier(barrier: Barrier) -> tuple[str | bytes | int, ...]:
    return (
        "generation", barrier.generation,
        "leader", barrier.leader,
        "members", _encode(barrier.members),
        "deadline", barrier.deadline_ms,
        "state", barrier.state.value,
    )  # fmt: skip
