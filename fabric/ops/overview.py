"""The state of a namespace: its sessions, its workers, and how many entries wait for them."""

from __future__ import annotations

from typing import NamedTuple

from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS
from fabric.store.port import ClientStore
from fabric.store.value import whole_number

GROUPS = (ORCHESTRATORS, SYNTHESIZERS)


class SessionSummary(NamedTuple):
    """A session, and the time of its last activity, ms since the epoch."""

    name: str
    partition: int
    active_ms: int


class Holder(NamedTuple):
    """The present or last holder of a partition's lease, and when that expires, ms."""

    group: str
    owner: str
    epoch: int
    expires_ms: int


class PartitionSummary(NamedTuple):
    """How many entries wait in a partition, and the workers that should handle them.

    `backlog` counts signals for the orchestrator, `results` those for the synthesizer. Both may
    include a few hundred that are handled and not trimmed yet.
    """

    number: int
    backlog: int
    results: int
    dead: int
    holders: list[Holder]


async def sessions(store: ClientStore, partitions: int) -> list[SessionSummary]:
    """Return all sessions, the most recently active first."""
    found = [
        SessionSummary(name.decode("utf-8", "replace"), number, active_ms)
        for number in range(partitions)
        for name, active_ms in await store.scores(store.namespace.partition(number).sessions)
    ]
    return sorted(found, key=lambda session: (-session.active_ms, session.name))


async def partition(store: ClientStore, number: int) -> PartitionSummary:
    """Return the state of one partition."""
    names = store.namespace.partition(number)
    holders = []
    for group in GROUPS:
        lease = await store.fields(names.lease(group), ["owner", "epoch", "expires"])
        if (owner := lease[0]) is not None:
            epoch, expires_ms = (whole_number(field) or 0 for field in lease[1:])
            holders.append(Holder(group, owner.decode("utf-8", "replace"), epoch, expires_ms))
    backlog, results = await store.length(names.signals), await store.length(names.results)
    return PartitionSummary(number, backlog, results, await store.length(names.dead), holders)
