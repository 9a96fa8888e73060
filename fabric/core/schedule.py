"""List scheduling: when each task of a list runs, and on which agent.

Whenever an agent is free it takes, of the tasks that may run, the one with the longest path behind
it; then priority, then the order of the file. An integration runs alone: when its turn comes
nothing else begins until what runs has ended.

A task that may not run yet waits in the queue of one thing that is in its way: a resource, or a
coordinator's capacity. When that is free, the first of the queue looks again. So tasks that have
nothing in common never meet, and ten thousand that want one file are looked at once each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush

from msgspec import Struct

from fabric.core.claims import Ask
from fabric.core.limits import SESSION_TASKS_MAX
from fabric.core.task import TaskSpec, in_order, prerequisites

#: What a task may wait for: "resource" or "coordinator", and its name.
_Obstacle = tuple[str, str]
#: A task's place in any queue: minus its tail, minus its priority, its number.
_Place = tuple[int, int, int]


class Work(Struct):
    """The tasks that are left, by number: their orders, claims and lengths."""

    tasks: list[TaskSpec]
    before: list[list[int]]
    after: list[list[int]]
    #: The numbers so that each comes after those before it.
    order: list[int]
    asks: list[Ask]
    lengths_ms: list[int]
    #: Longest path from the start of each task to the end of all.
    tails_ms: list[int]
    #: Coordinators of the domains that each writes in.
    coordinators: list[list[str]]
    #: Task → the trigger that it pulls.
    integrations: dict[int, str]
    #: Resource → all in use that overlap it.
    near: dict[str, list[str]]


def orders_of(tasks: Sequence[TaskSpec]) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Return which tasks come directly before each, which after, and all in such an order.

    Orders over tasks that are not in the list, as those that are complete, hold no more.
    """
    numbers = {task.id: number for number, task in enumerate(tasks)}
    waits = prerequisites(tasks)
    before = [[numbers[one] for one in waits[task.id] if one in numbers] for task in tasks]
    after: list[list[int]] = [[] for _ in tasks]
    for number, earlier in enumerate(before):
        for one in earlier:
            after[one].append(number)
    return before, after, [numbers[task.id] for task in in_order(tasks)]


class Schedule:
    """One run of list scheduling; see the top of this module."""

    def __init__(
        self, work: Work, lengths_ms: list[int], agents: int, limits: Mapping[str, int]
    ) -> None:
        self._work = work
        self._lengths_ms = lengths_ms
        self._limits = limits
        self._free = list(range(1, min(agents, len(work.tasks)) + 1))
        self._missing = list(map(len, work.before))
        self._ready: list[_Place] = []
        #: What is in the way → the tasks that wait for it, the first one on top.
        self._waiting: dict[_Obstacle, list[_Place]] = {}
        #: Tasks that look again, and the queue that each was the first of.
        self._came_from: dict[int, _Obstacle] = {}
        #: Ends of the tasks that run.
        self._running: list[tuple[int, int]] = []
        self._written: set[str] = set()
        self._read: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()
        self._placed = [(0, 0)] * len(work.tasks)

    def run(self) -> list[tuple[int, int]]:
        """Return the start of each task in ms, and its agent."""
        for number, count in enumerate(self._missing):
            if not count:
                heappush(self._ready, self._place(number))
        now_ms = 0
        self._begin_all(now_ms)
        while self._running:
            now_ms = self._running[0][0]
            while self._running and self._running[0][0] == now_ms:
                self._end(heappop(self._running)[1])
            self._begin_all(now_ms)
        assert not self._ready, "no free agent is left idle"
        assert not any(self._waiting.values()), "what is free is given on"
        return self._placed

    def _place(self, number: int) -> _Place:
        return -self._work.tails_ms[number], -self._work.tasks[number].priority, number

    def _begin_all(self, now_ms: int) -> None:
        """Begin what may run now, in order, while there are free agents."""
        integrations = self._work.integrations
        if self._running and self._running[0][1] in integrations:
            return  # it runs alone
        while self._ready and self._free:
            number = self._ready[0][2]
            if number in integrations and self._running:
                return
            heappop(self._ready)
            obstacle = self._obstacle(number)
            if obstacle is None:
                self._begin(number, now_ms)
            else:
                heappush(self._waiting.setdefault(obstacle, []), self._place(number))
            if number in self._came_from:
                self._call_next(self._came_from.pop(number))
            if number in integrations:
                return

    def _begin(self, number: int, now_ms: int) -> None:
        ask = self._work.asks[number]
        self._written.update(ask.writes)
        self._read.update((*ask.reads, *ask.observes))
        self._busy.update(self._work.coordinators[number])
        self._placed[number] = now_ms, heappop(self._free)
        heappush(self._running, (now_ms + self._lengths_ms[number], number))

    def _end(self, number: int) -> None:
        ask, coordinators = self._work.asks[number], self._work.coordinators[number]
        self._written.difference_update(ask.writes)
        self._read.subtract((*ask.reads, *ask.observes))
        self._busy.subtract(coordinators)
        heappush(self._free, self._placed[number][1])
        for following in self._work.after[number]:
            self._missing[following] -= 1
            if not self._missing[following]:
                heappush(self._ready, self._place(following))
        for resource in (*ask.writes, *ask.reads, *ask.observes):
            self._call_next(("resource", resource))
        for name in coordinators:
            self._call_next(("coordinator", name))

    def _call_next(self, freed: _Obstacle) -> None:
        """Let the first task of a queue look again, if this is not in its way any more."""
        queue = self._waiting.get(freed)
        if queue and self._obstacle(queue[0][2]) != freed:
            place = heappop(queue)
            self._came_from[place[2]] = freed
            heappush(self._ready, place)

    def _obstacle(self, number: int) -> _Obstacle | None:
        """Return one thing that keeps a task from running now."""
        ask, near = self._work.asks[number], self._work.near
        for resource in ask.writes:
            for other in near[resource]:
                if other in self._written or self._read[other]:
                    return "resource", other
        for resource in (*ask.reads, *ask.observes):
            for other in near[resource]:
                if other in self._written:
                    return "resource", other
        for name in self._work.coordinators[number]:
            if self._busy[name] >= self._limits.get(name, SESSION_TASKS_MAX):
                return "coordinator", name
        return None
