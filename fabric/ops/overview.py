"""Looking at a whole namespace: its sessions, who serves it, and what waits there."""

from __future__ import annotations

from typing import NamedTuple

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Partition
from fabric.store.port import ClientStore
from fabric.store.value import whole_number

GROUPS = (ORCHESTRATORS, SYNTHESIZERS)


class SessionSummary(NamedTuple):
    """A session, and when it was last active, ms since the epoch."""

    name: str
    partition: int
    active_ms: int


class Holder(NamedTuple):
    """Who has served, or serves, a partition for a group of workers; until when, ms."""

    group: str
    owner: str
    epoch: int
    expires_ms: int


class PartitionSummary(NamedTuple):
    """What waits in a partition, in entries, and who is to handle it.

    `backlog` are signals that the orchestrator, `results` those that the synthesizer has not
    handled; both count up to a few hundred that are handled and not yet trimmed away.
    """

    number: int
    backlog: int
    results: int
    dead: int
    holders: list[Holder]


async def sessions(store: ClientStore, partitions: int) -> list[SessionSummary]:
    """Return all sessions, the one last active first."""
    found = [
        SessionSummary(name.decode("utf-8", "replace"), number, active_ms)
        for number in range(partitions)
        for name, active_ms in await store.scores(store.namespace.partition(number).sessions)
    ]
    return sorted(found, key=lambda session: (-session.active_ms, session.name))


async def partition(store: ClientStore, number: int) -> PartitionSummary:
    """Return how one partition stands."""
    names = store.namespace.partition(number)
    return PartitionSummary(
        number,
        await store.length(names.signals),
        await store.length(names.results),
        await store.length(names.dead),
        [holder for group in GROUPS if (holder := await _holder(store, names, group))],
    )


async def _holder(store: ClientStore, names: Partition, group: str) -> Holder | None:
    owner, epoch, expires = await store.fields(names.lease(group), ["owner", "epoch", "expires"])
    if owner is None:
        return None
    return Holder(group, owner.decode("utf-8", "replace"), _number(epoch), _number(expires))


def _number(value: bytes | None) -> int:
    return whole_number(value) or 0
