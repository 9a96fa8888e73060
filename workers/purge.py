"""Deletes a session: every key and timer of it, in slices, each a commit under the lease.

Theory of operation. RUN_PURGED marks the session in its `meta`; from then on nothing of it is
decided, and what still comes for it goes to `dead`. The synthesizer hears of it through `results`,
behind all results of the session, deletes what it has written, and answers with RUN_PURGED. Then
the orchestrator deletes the rest, `meta` last. Each finds the keys by looking through the key
space, so that no key is missed, whoever wrote it. A timer of the name `purge` takes one slice after
the other. After a crash the next holder goes on: a slice that is done leaves nothing to find.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fabric.core.limits import INCARNATIONS_SKIPPED_MAX
from fabric.core.session import SessionState
from fabric.errors import NotAllowedError, TamperedError
from fabric.store.keys import ORCHESTRATORS, Partition, SessionKeys
from fabric.store.port import Batch, WorkerStore
from fabric.store.state import PURGE_FAULT
from fabric.store.value import whole_number
from fabric.wire.stored import text
from workers.handler import DueTimer

#: Name of the timer, behind the session's.
TIMER = "purge"

#: Keys deleted in one commit: each costs some microseconds, as the server frees the values later.
SLICE_KEYS = 500

#: Time after which a deletion is tried again that the server does not allow, ms.
PAUSE_MS = 30_000

logger = logging.getLogger("fabric.purge")


class PurgeTimer(DueTimer):
    """A slice that is due: the keys and timers that it deletes, and whether it is the last."""

    keys: list[str]
    timers: list[bytes]
    is_over: bool
    #: The highest incarnation that the session has handed out, in its last slice.
    incarnation = 0
    #: Why the server does not let us look for it.
    fault = ""


def is_purge(member: bytes) -> bool:
    """Whether a timer is that of a session that is being deleted."""
    return member.endswith(b":" + TIMER.encode()) and member.count(b":") == 1


async def prepare(
    store: WorkerStore, partition: Partition, group: str, members: Sequence[bytes]
) -> dict[bytes, PurgeTimer]:
    """Look for the next slices of the sessions that are being deleted, among due timers."""
    timers = [PurgeTimer(member) for member in members if is_purge(member)]
    if not timers:
        return {}
    prefixes = {}
    for timer in timers:
        keys = partition.session(timer.session)
        prefixes[timer.session] = f"{keys.prefix}:" if group == ORCHESTRATORS else keys.said("")
    try:
        found = await store.named_each(partition.number, prefixes, SLICE_KEYS)
        due = await store.timers_of_each(partition.number, group, prefixes)
    except NotAllowedError as error:
        logger.error("partition %d: nothing can be deleted: %s", partition.number, error)
        for timer in timers:
            timer.fault = f"the {group} cannot delete it: {error}"
        return {timer.member: timer for timer in timers}
    for timer in timers:
        keys, named = partition.session(timer.session), found[timer.session]
        timer.timers = due[timer.session]
        own = [] if group == ORCHESTRATORS else [keys.synthesis, keys.revisions]
        timer.is_over = len(named) < SLICE_KEYS
        # What says that it is being deleted goes last, and what says which incarnations it had.
        last = {keys.meta} if timer.is_over else {keys.meta, keys.incarnations}
        timer.keys = [key for key in named if key not in last] + own
        if keys.incarnations in timer.keys:
            timer.incarnation = await _given(store, keys)
    return {timer.member: timer for timer in timers}


def handed_out(session: SessionState) -> tuple[int, int]:
    """Return the highest token and incarnation that a session's records know of."""
    kept = [one.incarnation for one in session.agents.records.values()]
    retired = [one.incarnation for one in session.retired.records.values()]
    return session.token, max(kept + retired, default=0)


async def _given(store: WorkerStore, keys: SessionKeys) -> int:
    """Return the highest incarnation that an agent was given; one more may be under way."""
    try:
        (handed,) = await store.hashes([keys.incarnations])
    except TamperedError:
        return 0
    numbers = (whole_number(number) or 0 for number in handed.values())
    return max((one for one in numbers if one < INCARNATIONS_SKIPPED_MAX), default=0) + 1


def put_off(batch: Batch, partition: Partition, timer: PurgeTimer) -> None:
    """Say in `meta` why a session is not deleted yet."""
    meta = partition.session(timer.session).meta
    batch.write("HSET", meta, (PURGE_FAULT, timer.fault))
    batch.expect(meta)


def delete(batch: Batch, partition: Partition, group: str, timer: PurgeTimer) -> None:
    """Add a slice to a batch; with the last one, everything that names the session."""
    meta = partition.session(timer.session).meta
    for key in timer.keys:
        batch.delete(key)
    gone = [text(member) for member in timer.timers if timer.is_over or member != timer.member]
    batch.write_parts("ZREM", partition.timers(group), gone)
    if timer.is_over and group == ORCHESTRATORS:
        batch.delete(meta)
        batch.write("ZREM", partition.sessions, (timer.session,))
