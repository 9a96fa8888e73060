"""The final state, after all faults, when all agents have ended: nothing is left undone."""

from __future__ import annotations

import msgspec

from fabric.errors import FabricError
from fabric.ops.comparison import Comparison
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, SessionKeys
from fabric.store.port import BEGINNING
from fabric.store.value import parse_id
from fabric.testing.store import MemoryStore
from tests.simulation.judge.judge import NAMESPACE, Violation


def unsettled(store: MemoryStore, partition: int, now_ms: int) -> str:
    """Return what still waits for the workers of a partition, or ""."""
    names = NAMESPACE.partition(partition)
    for group in (ORCHESTRATORS, SYNTHESIZERS):
        key = names.source(group)
        stream = store.data.peek(key, "stream")
        lease = store.data.peek(names.lease(group), "hash") or {}
        done = parse_id(lease.get(b"committed", BEGINNING))
        waiting = sum(entry_id > done for entry_id in stream.ids) if stream is not None else 0
        if waiting:
            return f"{waiting} entries in {key}"
        timers = store.data.peek(names.timers(group), "zset") or {}
        if any(member.endswith(b":settle") for member in timers):
            return "a synthesis that settles"
        overdue = [member for member, due_ms in timers.items() if due_ms < now_ms - 2_000]
        if overdue:
            return f"timer {overdue[0]!r} is overdue"
    return ""


async def check_replay(store: MemoryStore, keys: SessionKeys) -> None:
    """Check that the log alone gives every key of the session, field for field."""
    if store.data.kind(keys.log) is None:
        return  # the session has no signal
    try:
        report = await Comparison(store, keys).run()
    except FabricError as error:
        raise Violation("the log gives all that the server holds", str(error)) from None
    for one in report.differences:
        raise Violation(
            "the log gives all that the server holds",
            f"{one.key} {one.field}: the log says {one.log}, the server {one.redis}",
        )


async def check_nothing_is_held(store: MemoryStore, keys: SessionKeys) -> None:
    """Check that no ended agent holds, waits or is awaited at a barrier; the synthesis is final."""
    agents, claims, dependencies, barriers = (
        {name.decode(): msgspec.json.decode(value) for name, value in found.items()}
        for found in await store.hashes(
            [keys.agents, keys.claims, keys.dependencies, keys.barriers]
        )
    )
    at_work = [n for n, one in agents.items() if one["status"] in ("active", "blocked", "paused")]
    if at_work:
        raise Violation("everything drains", f"{keys.name}: still at work: {at_work}")
    if claims:
        raise Violation("everything drains", f"{keys.name}: claims are left: {claims}")
    for name, one in dependencies.items():
        if one.get("waiters"):
            raise Violation("no waiter is forgotten", f"{keys.name} {name}: {one}")
    for name, one in barriers.items():
        if one["state"] != "over":
            raise Violation("everything drains", f"{keys.name}: barrier {name}: {one}")
    (head,) = await store.hashes([keys.synthesis])
    if agents and not msgspec.json.decode(head.get(b"complete", b"{}")).get("final"):
        raise Violation(
            "everything drains",
            f"{keys.name}: its synthesis is not final: {head.get(b'complete')!r}",
        )
