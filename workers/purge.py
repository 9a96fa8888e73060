"""Deletes a session: every key and timer of it, in slices, each a commit under the lease.

Theory of operation. RUN_PURGED marks the session in its `meta`; from then on nothing of it is
decided, and what still comes for it goes to `dead`. The synthesizer hears of it through `results`,
behind all results of the session, deletes what it has written, and answers with RUN_PURGED. Then
the orchestrator deletes the rest, `meta` last. Each finds the keys by looking through the key
space, so that no key is missed, whoever wrote it. A timer of the name `purge` takes one slice after
the other. After a crash the next holder goes on: a slice that is done leaves nothing to find.
"""

from __future__ import annotations

from fabric.store.keys import ORCHESTRATORS, Partition
from fabric.store.port import Batch, WorkerStore
from workers.handler import DueTimer

#: Name of the timer, behind the session's.
TIMER = "purge"

#: Keys deleted in one commit: each costs some microseconds, as the server frees the values later.
SLICE_KEYS = 500


class PurgeTimer(DueTimer):
    """A slice that is due: the keys and timers that it deletes, and whether it is the last."""

    keys: list[str]
    timers: list[bytes]
    is_over: bool


def is_purge(member: bytes) -> bool:
    """Whether a timer is that of a session that is being deleted."""
    return member.endswith(b":" + TIMER.encode()) and member.count(b":") == 1


async def prepare(
    store: WorkerStore, partition: Partition, group: str, member: bytes
) -> PurgeTimer:
    """Look for the next slice of a session that is being deleted."""
    timer = PurgeTimer(member)
    keys = partition.session(timer.session)
    own = [keys.synthesis, keys.revisions]
    if group == ORCHESTRATORS:
        prefix, own = f"{keys.prefix}:", []
    else:
        prefix = keys.said("")
    found = await store.named(partition.number, prefix, SLICE_KEYS)
    # What says that it is being deleted goes last.
    timer.keys = [key for key in found if key != keys.meta] + own
    timer.is_over = len(found) < SLICE_KEYS
    timer.timers = await store.timers_of(partition.number, group, timer.session)
    return timer


def delete(batch: Batch, partition: Partition, group: str, timer: PurgeTimer) -> None:
    """Add a slice to a batch; with the last one, everything that names the session."""
    for key in timer.keys:
        batch.delete(key)
    gone = [member for member in timer.timers if timer.is_over or member != timer.member]
    batch.write_parts("ZREM", partition.timers(group), gone)
    if timer.is_over and group == ORCHESTRATORS:
        batch.delete(partition.session(timer.session).meta)
        batch.write("ZREM", partition.sessions, (timer.session,))
