"""What follows from an event, as writes of a batch: log entries, messages, timers, dead letters."""

from __future__ import annotations

from fabric.core.decision import EVERYONE, Decision
from fabric.core.session import SessionState
from fabric.store.keys import Partition, SessionKeys
from fabric.store.port import Batch
from fabric.wire import record


def deliver(batch: Batch, keys: SessionKeys, session: SessionState, decision: Decision) -> None:
    """Log every message, and deliver it under the same id."""
    cause = f"{session.log}-0"
    for number, message in enumerate(decision.messages, 1):
        entry_id = f"{session.log}-{number}"
        logged = record.logged_message(message, cause, session.clock_ms)
        batch.append(keys.log, entry_id, *logged)
        if message.to:
            key = keys.broadcast if message.to == EVERYONE else keys.inbox(message.to)
            batch.append(key, entry_id, *record.inbox(message, cause))
        batch.size_bytes += 2 * len(message.payload)


def set_timers(
    batch: Batch, names: Partition, session: str, timers: dict[str, int | None]
) -> int | None:
    """Set and cancel timers; return the earliest time of those that were set."""
    earliest: int | None = None
    for timer, due_ms in timers.items():
        member = f"{session}:{timer}"
        if due_ms is None:
            batch.write("ZREM", names.deadlines, (member,))
            continue
        batch.write("ZADD", names.deadlines, (due_ms, member))
        if earliest is None or due_ms < earliest:
            earliest = due_ms
    return earliest


def mourn(batch: Batch, names: Partition, session: SessionState, name: str) -> None:
    """Tell the synthesizer of an agent that was given up for dead."""
    agent = session.agents.records[name]
    told = record.fallen(session.name, name, agent, f"{session.log}-0", session.clock_ms)
    batch.append(names.results, "*", *told)


def bury(
    batch: Batch,
    names: Partition,
    source: str,
    entry_id: bytes,
    fields: list[bytes],
    code: str,
    reason: str,
) -> None:
    """Keep a refused entry of a stream among the dead letters, with the reason."""
    letter = record.dead(fields, code, reason, source, entry_id)
    batch.write("XADD", names.dead, ("*", *letter))
    batch.size_bytes += sum(map(len, fields))
