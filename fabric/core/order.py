"""The holders and the queue of each resource: an index over the claims, kept as they change.

Claims conflict when their resources overlap and one of them writes. A waiting claim is granted, as
a whole, when no other agent holds anything that conflicts and no claim before it waits for anything
that conflicts: so no claim is overtaken, and none starves. Its position follows from its rank alone
(`ClaimRecord.rank_ms`, then `asked`, then `place`), which never changes.

Nothing here decides or writes: `conflicts.py` does.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from fabric.core.copies import Claimant, is_apart
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.record import ClaimRecord, ClaimState
from fabric.core.resource import Index, Meter, overlap

#: Steps that each claim counts for that a new one meets: it is looked at several times.
STEPS_PER_MEETING = 2


class Place(NamedTuple):
    """A waiting claim in the queue of one resource; places sort in the order of service."""

    rank_ms: int
    asked: int
    place: int
    id: str
    agent: str
    is_write: bool
    copy: str = ""


class Order:
    """Holders and queues by resource."""

    __slots__ = (
        *("_claims", "_held", "_index", "_observed", "_observers", "_queues", "_split", "changed"),
    )

    def __init__(self, claims: dict[str, ClaimRecord]) -> None:
        """`claims` is the table's own dictionary: read whenever a claim is looked up."""
        self._claims = claims
        self._index = Index()
        #: Resource → the claims that hold it, oldest grant first: one, or several readers.
        self._held: dict[str, list[str]] = {}
        self._queues: dict[str, list[Place]] = {}
        #: Resource → the claims that read it without waiting.
        self._observers: dict[str, list[str]] = {}
        self._observed = Index()
        #: Claims that do not exclude all others: in a copy of the files, or of a sub-agent. Without
        #: any, a queue is served strictly in its order.
        self._split: set[str] = set()
        #: Resources whose holder or queue has changed since they were last written down.
        self.changed: set[str] = set()
        for claim in sorted(claims.values(), key=lambda claim: claim.token):
            self.add(claim)
        self.changed.clear()

    def add(self, claim: ClaimRecord) -> None:
        """Take in a claim, held or waiting."""
        if claim.state is ClaimState.HELD:
            self.hold(claim)
        else:
            self.enqueue(claim)

    def enqueue(self, claim: ClaimRecord) -> None:
        """Let a claim wait for each of its resources."""
        if claim.copy or "/" in claim.agent:
            self._split.add(claim.id)
        for resource, is_write in resources(claim):
            insort(self._queues.setdefault(resource, []), _place_of(claim, is_write))
            self._touch(resource)

    def hold(self, claim: ClaimRecord) -> None:
        """Give a claim all of its resources, and take it out of their queues."""
        if claim.copy or "/" in claim.agent:
            self._split.add(claim.id)
        for resource in claim.wanted:
            insort(self._held.setdefault(resource, []), claim.id, key=self._token)
            self._touch(resource)
        # Only now: a resource that stays in use need not be filed again.
        self.dequeue(claim)
        for resource in claim.observes:
            insort(self._observers.setdefault(resource, []), claim.id, key=self._token)
            self._observed.add(resource)

    def _token(self, claim_id: str) -> int:
        """Return the key of a holder: they sort by grant, even one that gave back a part."""
        return self._claims[claim_id].token

    def dequeue(self, claim: ClaimRecord) -> None:
        """Take a claim out of its queues."""
        for resource, is_write in resources(claim):
            queue = self._queues.get(resource, [])
            mine = _place_of(claim, is_write)
            at = bisect_left(queue, mine)
            if at < len(queue) and queue[at].id == mine.id:
                del queue[at]
                self._touch(resource)

    def drop(self, claim: ClaimRecord) -> None:
        """Forget a claim, held or waiting."""
        self._split.discard(claim.id)
        self.dequeue(claim)
        for resource in claim.wanted:
            holders = self._held.get(resource, [])
            if claim.id in holders:
                holders.remove(claim.id)
                self._touch(resource)
        for resource in claim.observes:
            observers = self._observers.get(resource, [])
            if claim.id in observers:
                observers.remove(claim.id)
            if not observers:
                self._observers.pop(resource, None)
                self._observed.remove(resource)

    def _touch(self, resource: str) -> None:
        self.changed.add(resource)
        if not self._held.get(resource):
            self._held.pop(resource, None)
        if not self._queues.get(resource):
            self._queues.pop(resource, None)
        if resource in self._held or resource in self._queues:
            self._index.add(resource)
        else:
            self._index.remove(resource)

    def holders(self, resource: str) -> list[str]:
        """Return the claims that hold exactly this resource, oldest grant first."""
        return self._held.get(resource, [])

    def queue(self, resource: str) -> list[Place]:
        """Return the claims that wait for exactly this resource, the next one first."""
        return self._queues.get(resource, [])

    def overlapping(self, resource: str) -> list[str]:
        """Return the resources in use that overlap one."""
        return self._index.overlapping(resource)

    def __len__(self) -> int:
        """Return how many resources are in use, those included that are only read."""
        return len(self._index) + len(self._observed)

    def cost(self, claim: ClaimRecord, copies: int, steps_max: int) -> int:
        """Return how many steps it takes to decide on a claim, made by so many agents.

        Counted are the steps that find what overlaps, and the claims that are met there. The number
        follows from the records alone. Raises CostlyError when it is above the limit.
        """
        self._index.measure(steps_max // copies)
        self._observed.measure(steps_max)
        try:
            for resource in (*claim.wanted, *claim.observes):
                for other in self._index.overlapping(resource):
                    met = len(self._queues.get(other, ())) + len(self._held.get(other, ()))
                    self._index.meter.spend(1 + STEPS_PER_MEETING * met)
            for resource in claim.writes if self.has_observers else ():
                for other in self._observed.overlapping(resource):
                    met = len(self._observers[other])
                    self._observed.meter.spend(1 + STEPS_PER_MEETING * met)
            return copies * self._index.meter.steps + self._observed.meter.steps
        finally:
            self._index.stop_measuring()
            self._observed.stop_measuring()

    @property
    def meter(self) -> Meter:
        """Counts the steps of looking for what overlaps, and through queues."""
        return self._index.meter

    def measure(self, steps_max: int) -> None:
        """Allow so many steps from here on, whatever was looked up before."""
        self._index.measure(steps_max)

    def stop_measuring(self) -> int:
        """Allow any number of steps again; return how many there were."""
        self._index.stop_measuring()
        return self._index.meter.steps

    @property
    def has_observers(self) -> bool:
        """Whether any agent reads anything without waiting."""
        return bool(self._observers)

    def observers(self, resource: str) -> Iterator[str]:
        """Yield the claims that read something which overlaps a resource, without waiting."""
        for other in self._observed.overlapping(resource):
            yield from self._observers[other]

    def blockers(self, claim: ClaimRecord) -> Iterator[ClaimRecord]:
        """Yield held claims of other agents that conflict with a claim, each once."""
        seen: set[str] = set()
        for resource, is_write in resources(claim):
            for other in self.overlapping(resource):
                held = self._held.get(other, ())
                self.meter.spend(1 + len(held))
                for holder_id in held:
                    holder = self._claims[holder_id]
                    if holder_id in seen or holder.agent == claim.agent:
                        continue
                    if (is_write or other in holder.writes) and not (
                        self._split and is_apart(claim, holder, resource, other)
                    ):
                        seen.add(holder_id)
                        yield holder

    def ahead(
        self,
        claim: ClaimRecord,
        counted: Callable[[str, list[Place], int], list[Place]] = lambda _, queue, __: queue,
        *,
        is_nearest_only: bool = False,
    ) -> Iterator[Place]:
        """Yield the claims that wait before a claim for something that conflicts, nearest first.

        The same claim can come several times, once for each resource it shares. `counted` returns
        those of a resource's queue that count, at least up to a number. With `is_nearest_only`, a
        queue ends at its nearest writer, which waits for all before it; unless that writer has the
        resource already, and is in the queue for something else.
        """
        for resource, other, queue, at, is_write in self._stands(claim):
            places = counted(other, queue, at)
            first = at if places is queue else bisect_left(places, _place_of(claim, is_write))
            number = first
            for number in reversed(range(first)):
                place = places[number]
                if place.agent == claim.agent or not (is_write or place.is_write):
                    continue
                if self._split and is_apart(claim, place, resource, other):
                    continue
                yield place
                if self._split:
                    continue  # the nearest writer need not wait for all before it
                if is_nearest_only and place.is_write and not self._writes(place.agent, other):
                    break
            self.meter.spend(1 + first - number)

    def _stands(self, claim: ClaimRecord) -> Iterator[tuple[str, str, list[Place], int, bool]]:
        """Yield a claim's queues: its resource, the one that overlaps, the places, its own position
        there, and whether it writes.
        """
        for resource, is_write in resources(claim):
            if self._writes(claim.agent, resource):
                continue  # its agent need not wait for that
            mine = _place_of(claim, is_write)
            for other in self.overlapping(resource):
                queue = self._queues.get(other)
                if queue:
                    yield resource, other, queue, bisect_left(queue, mine), is_write

    def _writes(self, agent: str, resource: str) -> bool:
        """Whether an agent has exactly this resource to itself."""
        holders = (self._claims[holder] for holder in self._held.get(resource, ()))
        return any(holder.agent == agent and resource in holder.writes for holder in holders)

    def is_free(self, claim: ClaimRecord) -> bool:
        """Whether a claim can be granted now."""
        if next(self.blockers(claim), None) is not None:
            return False
        for resource, other, queue, at, is_write in self._stands(claim):
            # From the head: the claim that is served first is the likeliest to be in the way.
            for place in islice(queue, at):
                if (
                    place.agent != claim.agent
                    and (is_write or place.is_write)
                    and not (self._split and is_apart(claim, place, resource, other))
                ):
                    return False
        return True

    def overlaps_any(self, claim: ClaimRecord, others: Iterable[str]) -> bool:
        """Whether any of these other claims, held or waiting, overlaps a claim."""
        return any(
            overlap(mine, theirs, self.meter)
            for other in others
            if other != claim.id
            for theirs in self._claims[other].wanted
            for mine in claim.wanted
        )

    def candidates(self, freed: Iterable[str]) -> list[str]:
        """Return waiting claims that may have become free with these resources, in their order.

        Of each queue these are its head, the readers that follow it directly, and other claims of
        the first writer's agent: an agent does not wait behind itself.
        """
        found: set[Place] = set()
        for resource in freed:
            for other in self.overlapping(resource):
                if self._split:
                    found.update(self._heads(other))
                    continue
                writer = ""
                for place in self._queues.get(other, ()):
                    if not writer or place.agent == writer:
                        found.add(place._replace(is_write=False))
                        writer = place.agent if place.is_write else writer
                    elif place.is_write:
                        break
        return [place.id for place in sorted(found)]

    def _heads(self, resource: str) -> Iterator[Place]:
        """Yield the places in a queue that wait behind no writer in it which excludes them."""
        writers: list[Place] = []
        for place in self._queues.get(resource, ()):
            self.meter.spend(len(writers))
            if all(is_apart(place, writer, resource, resource) for writer in writers):
                yield place._replace(is_write=False)
                if place.is_write:
                    writers.append(place)

    def is_awaited(self, claim: ClaimRecord) -> bool:
        """Whether another agent waits for something that a claim holds, or behind it in a queue."""
        for resource, is_write in resources(claim):
            mine = _place_of(claim, is_write)
            for other in self.overlapping(resource):
                queue = self._queues.get(other, ())
                after = 0 if claim.state is ClaimState.HELD else bisect_left(queue, mine)
                self.meter.spend(1)
                behind = islice(queue, after, None)
                if any(self.excludes(claim, one, resource, other) for one in behind):
                    return True
        return False

    def waiting_agents(self, claim: ClaimRecord) -> tuple[str, ...]:
        """Name the agents that wait for something that a held claim has, the next one first."""
        places = {
            place
            for resource in claim.wanted
            for other in self.overlapping(resource)
            for place in self._queues.get(other, ())
            if self.excludes(claim, place, resource, other)
        }
        return tuple(dict.fromkeys(one.agent for one in sorted(places)))

    def waiting(self, claim: ClaimRecord) -> int:
        """Count the claims that wait for something that a claim has, or will have."""
        if self._split:
            return len(
                {
                    place.id
                    for resource in claim.wanted
                    for other in self.overlapping(resource)
                    for place in self._queues.get(other, ())
                    if self.excludes(claim, place, resource, other)
                }
            )
        queues = [
            queue
            for resource in claim.wanted
            for other in self.overlapping(resource)
            if (queue := self._queues.get(other))
        ]
        if len(queues) == 1:
            return len(queues[0])
        return len({place.id for queue in queues for place in queue if place.agent != claim.agent})

    def excludes(self, claim: ClaimRecord, other: Claimant, mine: str, theirs: str) -> bool:
        """Whether another agent's claim, or place in a queue, excludes a claim that it overlaps."""
        if other.agent == claim.agent:
            return False
        return not (self._split and is_apart(claim, other, mine, theirs))

    def position(self, claim: ClaimRecord) -> tuple[int, list[Place]]:
        """Return how many claims are before a claim, and the first of them."""
        queues = [
            [one for one in queue[:at] if not is_apart(claim, one, resource, other)]
            if self._split
            else queue[:at]
            for resource, other, queue, at, _ in self._stands(claim)
            if at
        ]
        if len(queues) == 1:
            return len(queues[0]), queues[0][:NAMES_SHOWN_MAX]
        ahead = sorted({place.id: place for queue in queues for place in queue}.values())
        others = [place for place in ahead if place.agent != claim.agent]
        return len(others), others[:NAMES_SHOWN_MAX]


def resources(claim: ClaimRecord) -> Iterator[tuple[str, bool]]:
    """Yield the resources of a claim that others wait for, and whether it writes each."""
    for resource in claim.writes:
        yield resource, True
    for resource in claim.reads:
        yield resource, False


def _place_of(claim: ClaimRecord, is_write: bool) -> Place:
    """Return the place of a claim in a queue."""
    return Place(
        claim.rank_ms, claim.asked, claim.place, claim.id, claim.agent, is_write, claim.copy
    )
