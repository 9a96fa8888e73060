"""Which agents of a partition are heard: a sample of those at work, in all its sessions.

And how far one of them has read. Both are asked only when a timer is about to decide by them.

It is read from the store, not from the memory of this worker: one that has just taken the partition
over, or that has let sessions go, knows as much as any other. Each agent at work has a timer for
its silence, so the partition's timers name them all. A signal costs nothing; a census is taken only
when somebody is about to be given up, and then not again for a while.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from fabric.core import liveness
from fabric.core.event import SILENCE_TIMER, Peers, Reading
from fabric.core.liveness import Since
from fabric.core.record import ENDED, AgentRecord
from fabric.core.rules import Rules
from fabric.errors import TamperedError
from fabric.store import state
from fabric.store.keys import ORCHESTRATORS, Partition
from fabric.store.port import WorkerStore
from fabric.store.value import parse_cursor, parse_id

#: Timers read to find the agents at work: one reply of some milliseconds.
TIMERS_MAX = 10_000

#: Agents looked at, chosen by chance: enough to tell a share of them within some percent.
AGENTS_MAX = 200

#: A census is good for this part of the shortest silence that ends an agent.
AGE_SHARE = 10


class Sighting(NamedTuple):
    """What an agent tells about the network: when it was last heard, and if that is long ago."""

    session: str
    seen_ms: int
    is_silent: bool


def sight(session: str, agent: AgentRecord, rules: Rules, now_ms: int) -> Sighting | None:
    """Look at an agent as at a peer; None if it tells nothing.

    It has ended; or its session still goes by the time before the server's clock was put back. Its
    session's quotas are not known here: an agent that pauses for one counts as silent.
    """
    if agent.status in ENDED or agent.seen_ms > now_ms:
        return None
    return Sighting(session, agent.seen_ms, liveness.is_silent(None, agent, rules, now_ms))


def count_peers(sightings: Iterable[Sighting], session: str, since: Since) -> Peers:
    """Count the agents of other sessions."""
    silent = heard = 0
    for seen in sightings:
        if seen.session != session:
            silent += seen.is_silent and seen.seen_ms >= since.silent_ms
            heard += not seen.is_silent and seen.seen_ms > since.heard_ms
    return Peers(silent, heard)


class Census:
    """The agents of one partition, as the last look has found them."""

    def __init__(self, store: WorkerStore, partition: Partition, rules: Rules) -> None:
        self._store = store
        self._names = partition
        self._rules = rules
        self._taken_ms: int | None = None
        self._sightings: list[Sighting] = []
        #: How many agents there are for each one looked at.
        self._weight = 1.0

    async def peers(self, session: str, since: Since, now_ms: int) -> Peers:
        """Count the agents of other sessions than this one, by a sample if they are many."""
        age_ms_max = self._rules.silence_ms_min // AGE_SHARE
        if self._taken_ms is None or not 0 <= now_ms - self._taken_ms <= age_ms_max:
            await self._take(now_ms)
        counted = count_peers(self._sightings, session, since)
        return Peers(*(round(count * self._weight) for count in counted))

    async def reading(self, cursors: str, agent: str) -> Reading:
        """Return how far an agent has read, by its stored place."""
        (place,) = await self._store.fields(cursors, [agent])
        return Reading(*map(parse_id, parse_cursor(place)))

    async def _take(self, now_ms: int) -> None:
        timers = await self._store.due(self._names.number, ORCHESTRATORS, 2**53, TIMERS_MAX)
        named = (key.decode("utf-8", "replace").split(":", 2) for key, _ in timers)
        found = sorted((one[0], one[2]) for one in named if one[1:2] == [SILENCE_TIMER])
        # By chance: sessions that are numbered in turn over the hosts must not stand for one host.
        sample = random.Random(now_ms).sample(found, min(len(found), AGENTS_MAX))
        chosen: dict[str, list[str]] = {}
        for session, agent in sample:
            chosen.setdefault(session, []).append(agent)
        self._sightings = [
            seen
            for session, agents in chosen.items()
            for seen in await self._look(session, agents, now_ms)
        ]
        self._weight, self._taken_ms = len(found) / max(1, len(sample)), now_ms

    async def _look(self, session: str, names: list[str], now_ms: int) -> list[Sighting]:
        """Look at some agents of a session; at none of them if its records are spoilt."""
        key = self._names.session(session).agents
        try:
            stored = await self._store.fields(key, names)
            pairs = zip(names, stored, strict=True)
            agents = state.agents(key, {n.encode(): v for n, v in pairs if v is not None})
        except TamperedError:
            return []
        looks = (sight(session, one, self._rules, now_ms) for one in agents.values())
        return [seen for seen in looks if seen is not None]
