"""The fleet of workers: where each one runs, what it serves, and how well it reaches the server."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from fabric.ops.overview import GROUPS, partition

if TYPE_CHECKING:
    from fabric.store.redis import RedisStore


class WorkerSummary(NamedTuple):
    """One worker process. Times are the server's, ms since the epoch."""

    group: str
    name: str
    #: "holder" of the partitions in `serves`; "standby"; "resting", for `why`; or "gone".
    role: str
    serves: list[int]
    host: str
    pid: int
    build: str
    rules: str
    began_ms: int
    heard_ms: int
    #: Round trip to the server, ms.
    trip_ms: float
    #: Its clock minus the server's, ms.
    clock_ms: int
    why: str


async def workers(store: RedisStore, partitions: int) -> tuple[int, list[WorkerSummary]]:
    """Return the server's time, and the workers that have said who they are, holders first.

    A worker of an older version says nothing; `fabric status` names it if it holds a partition.
    """
    serves: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number in range(partitions):
        for holder in (await partition(store, number)).holders:
            if holder.held:
                serves[holder.group, holder.owner].append(number)
    found, now_ms = [], 0
    for group in GROUPS:
        now_ms, records = await store.workers(group)
        for name, said in records.items():
            held = serves.get((group, name), [])
            role = "holder" if held else "resting" if said.rests else "standby"
            if said.until_ms <= now_ms:
                role = "gone"
            found.append(
                WorkerSummary(
                    group, name, role, held, said.host, said.pid, said.build, said.rules,
                    said.began_ms, said.until_ms, said.trip_ms, said.clock_ms, said.rests,
                )
            )  # fmt: skip
    roles = ("holder", "standby", "resting", "gone")
    return now_ms, sorted(found, key=lambda one: (one.group, roles.index(one.role), one.name))
