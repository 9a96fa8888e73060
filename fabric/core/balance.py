"""Which ready task an agent with room is offered, and what keeps the others from running now.

An agent is offered the ready task with the longest path behind it. Of those that are about as long
(within an eighth) it is the one of higher priority; of these, one of the agent's own stream; then
one that belongs to no stream; then one of the stream that has most to go; then as they were added.

A ready task is left out while one thing is in its way, by what tasks in progress or offered need:

    level 1, 2  another writes what it writes or reads, or reads what it writes; an exclusive domain
    level 3     an integration runs; or the task is one, and others run
    capacity    as many tasks run as the rules allow, in all or for a coordinator

When an integration is the most urgent task, nothing else begins until it has run.

A task waits in the queue of the things that were found to be in its way, one after the other. As
long as one of them is in force nobody looks at that queue: a file that becomes free calls up the
tasks that wait for it alone, not those that also wait for another. So the cost of an event does not
grow with the number of tasks. All of it follows from the tasks' records and the rules, and is kept
nowhere: a worker that begins with the same records decides the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from fabric.core.claims import Ask
from fabric.core.event import RefusedError
from fabric.core.limits import SIGNAL_STEPS_MAX, listed
from fabric.core.need import Need, Needs
from fabric.core.resource import CostlyError, Index
from fabric.core.rules import Rules
from fabric.core.task import Backlog, Rank, TaskRecord, TaskStatus

#: With more streams than this their times to go are not compared: it would take as long as there
#: are streams, for each offer.
STREAMS_COMPARED_MAX = 64

#: Queues that nothing is in the way of any more, and that stay as they are: the first task of one
#: mostly takes what was free, and the rest waits on. Each is looked at for each offer, so that of
#: more than these the short ones, of at most so many tasks, are merged into one.
QUEUES_PASSABLE_MAX = 8
QUEUE_MERGED_MAX = 64

#: Things in the way of a task that are looked for at a time, and kept for the next time.
QUEUE_OBSTACLES_MAX = 8

#: Other tasks of a group whose pace has to be known before one is called slow.
PACED_MIN = 2

_RUNNING = frozenset({TaskStatus.IN_PROGRESS, TaskStatus.OFFERED})


class Obstacle(NamedTuple):
    """What keeps a task from running now: `kind` is one of the words below, with its subject."""

    kind: str
    subject: str = ""


#: Kinds of obstacles: another task writes a resource, or reads it; as many tasks run as may, in all
#: or of a coordinator; an integration runs; or other tasks run, which only an integration minds.
WRITTEN, READ, FULL, COORDINATOR = "written", "read", "full", "coordinator"
INTEGRATION, WORK = "integration", "work"

#: What was found to be in the way of the tasks of a queue.
Obstacles = frozenset[Obstacle]

#: The queue of the tasks that nothing is known to be in the way of.
_NOTHING: Obstacles = frozenset()

_NO_NEED = Need(Ask([], [], [], []), [], "")


class Choice(NamedTuple):
    """A task for an agent; the lowest of several is taken."""

    level: tuple[int, int]
    #: 0: of the agent's own stream, 1: of none, 2: of another.
    distance: int
    #: Minus the stream's time to go, ms.
    haste: int
    rank: Rank
    stream: str


class Queue:
    """Ready tasks by stream, the most urgent first."""

    def __init__(self) -> None:
        self._streams: dict[str, list[Rank]] = {}
        #: The first rank of each stream, with the stream.
        self._heads: list[tuple[Rank, str]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[tuple[Rank, str]]:
        return ((rank, stream) for stream, ranks in self._streams.items() for rank in ranks)

    def add(self, rank: Rank, stream: str) -> None:
        """Add a task of a stream."""
        ranks = self._streams.setdefault(stream, [])
        before = ranks[0] if ranks else None
        insort(ranks, rank)
        self._size += 1
        self._move_head(stream, before, ranks[0])

    def remove(self, rank: Rank, stream: str) -> None:
        """Take a task out that is there."""
        ranks = self._streams[stream]
        before = ranks[0]
        del ranks[bisect_left(ranks, rank)]
        self._size -= 1
        self._move_head(stream, before, ranks[0] if ranks else None)
        if not ranks:
            del self._streams[stream]

    @property
    def streams(self) -> Collection[str]:
        """The streams that have tasks here."""
        return self._streams.keys()

    def best(
        self,
        own: str,
        to_go_ms: Callable[[str], int] | None,
        is_left_out: Callable[[str], bool],
        *,
        is_near: bool,
    ) -> Choice | None:
        """Return the best task for an agent of the stream `own`; near: of its own or of none.

        Without `to_go_ms` all other streams have as much to go as each other.
        """
        found: Choice | None = None
        for stream in dict.fromkeys((own, "")):
            first = self._first(stream, is_left_out)
            if first is not None:
                choice = Choice(first.level, int(stream != own), 0, first, stream)
                found = choice if found is None else min(found, choice)
        for head, stream in () if is_near else self._heads:
            if found is not None and head.level >= found.level:
                is_behind = found.distance < 2 or (to_go_ms is None and head > found.rank)
                if is_behind or head.level > found.level:
                    break
            first = self._first(stream, is_left_out)
            if first is not None and stream not in (own, ""):
                haste = -to_go_ms(stream) if to_go_ms is not None else 0
                choice = Choice(first.level, 2, haste, first, stream)
                found = choice if found is None else min(found, choice)
        return found

    def _first(self, stream: str, is_left_out: Callable[[str], bool]) -> Rank | None:
        ranks = self._streams.get(stream, ())
        return next((one for one in ranks if not is_left_out(one.name)), None)

    def _move_head(self, stream: str, before: Rank | None, now: Rank | None) -> None:
        if before == now:
            return
        if before is not None:
            del self._heads[bisect_left(self._heads, (before, stream))]
        if now is not None:
            insort(self._heads, (now, stream))


class Balance:
    """What runs, what is in the way of the rest, and the best task for an agent."""

    def __init__(self, records: Mapping[str, TaskRecord], backlog: Backlog, rules: Rules) -> None:
        self.rules = rules
        self._records = records
        self._backlog = backlog
        self._needs = Needs(rules, SIGNAL_STEPS_MAX)
        self._known: dict[str, Need] = {}
        #: Task that runs → the stream that it counts for.
        self._running: dict[str, str] = {}
        self._writers: dict[str, set[str]] = {}
        self._readers: dict[str, set[str]] = {}
        self._index = Index()
        self._busy: dict[str, set[str]] = {}
        self._integrations: set[str] = set()
        #: What is used: by a task that runs, or by as many of a coordinator's as may.
        self._in_force: set[Obstacle] = set()
        self._queues: dict[Obstacles, Queue] = {_NOTHING: Queue()}
        #: Obstacle → the queues that name it.
        self._behind: dict[Obstacle, set[Obstacles]] = {}
        #: Queues that name nothing in force; the first is that of no obstacle.
        self._passable: dict[Obstacles, None] = {_NOTHING: None}
        #: Ready task → its queue, its rank and its stream.
        self._places: dict[str, tuple[Obstacles, Rank, str]] = {}
        #: Task → its stream and what is left of it; and the sums and counts, by stream.
        self._left: dict[str, tuple[str, int]] = {}
        self._left_ms: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        #: Task that makes progress → its group and its slowness; and sums and counts, by group.
        self._slow: dict[str, tuple[str, int]] = {}
        self._slowness: Counter[str] = Counter()
        self._paced: Counter[str] = Counter()
        self._workers: Counter[str] = Counter()
        #: Whether the last look for the best task has left out one that its agent had just left.
        self.has_left_out = False
        backlog.touched.update(records)
        self.update()

    def update(self) -> None:
        """Take up what the backlog has noted."""
        self._backlog.ready()
        touched, self._backlog.touched = self._backlog.touched, set()
        freed: dict[Obstacle, None] = {}
        for name in touched:
            self._forget(name, freed)
        for name in touched:
            self._take_up(name)
        for obstacle in freed:
            if obstacle not in self._in_force:
                self._let_pass(obstacle)

    def best(self, stream: str, agent: tuple[str, int], *, is_near: bool) -> Choice | None:
        """Return the best task for an agent: its stream, its name and incarnation.

        It is not given back what it has just left. `is_near`: only of its own stream, or of none.
        """

        def is_left_out(name: str) -> bool:
            task = self._records[name]
            if (task.agent, task.incarnation) != agent:
                return False
            self.has_left_out = True
            return True

        self.has_left_out = False

        compared = self.to_go_ms if len(self._left_ms) <= STREAMS_COMPARED_MAX else None
        while not self._is_full:
            found: Choice | None = None
            for behind in self._passable:
                queue = self._queues[behind]
                choice = queue.best(stream, compared, is_left_out, is_near=is_near)
                if choice is not None and (found is None or choice < found):
                    found = choice
            if found is None:
                return None
            name = found.rank.name
            behind = frozenset(islice(self._obstacles(name, {name}), QUEUE_OBSTACLES_MAX))
            if not behind:
                return found
            if Obstacle(WORK) in behind:
                return None  # nothing begins before the integration
            known = self._pull(name)
            behind |= known if len(known) < QUEUE_OBSTACLES_MAX else _NOTHING
            self._put(name, behind, found.rank, found.stream)
        return None

    def streams(self) -> set[str]:
        """Return the streams that may have something that can be offered; "" for none."""
        return {stream for behind in self._passable for stream in self._queues[behind].streams}

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing that can be offered."""
        return self._is_full or not any(len(self._queues[behind]) for behind in self._passable)

    @property
    def _is_full(self) -> bool:
        """Whether nothing begins now, whatever it is."""
        return bool(self._integrations) or 0 < self.rules.parallel_max <= len(self._running)

    def to_go_ms(self, stream: str) -> int:
        """Return the time that a stream has to go: what is left, by those at work in it."""
        return self._left_ms[stream] // max(self._workers[stream], 1)

    def workers(self, stream: str) -> int:
        """Return how many tasks of a stream run."""
        return self._workers[stream]

    def slowness_beside(self, name: str) -> int:
        """Return the mean slowness of the others in a task's group; 0 if too few are known."""
        group, own = self._slow.get(name, ("", 0))
        others = self._paced[group] - 1
        return (self._slowness[group] - own) // others if own and others >= PACED_MIN else 0

    def obstacle(self, name: str, besides: str = "") -> Obstacle | None:
        """Return one thing that keeps a task from running now; None if nothing does.

        Neither the task itself, if it is offered, nor the one `besides` is in its way.
        """
        return next(self._obstacles(name, {name, besides}), None)

    def _obstacles(self, name: str, own: set[str]) -> Iterator[Obstacle]:
        """Yield what keeps a task from running now."""
        running = len(self._running) - len(own & self._running.keys())
        need, is_listed = self._need(name), self._records[name].is_listed
        if self._integrations - own:
            yield Obstacle(INTEGRATION)
        if need.trigger and is_listed and running:
            yield Obstacle(WORK)
        if 0 < self.rules.parallel_max <= running:
            yield Obstacle(FULL)
        for coordinator in need.coordinators:
            most = self.rules.coordinator_tasks_max.get(coordinator, 0)
            if 0 < most <= len(self._busy.get(coordinator, set()) - own):
                yield Obstacle(COORDINATOR, coordinator)
        yield from self._shared(need.ask, own)

    def reason(self, name: str, found: Obstacle, besides: str = "") -> str:
        """Say what is in the way of a task, and on which level."""
        own = {name, besides}
        need, subject = self._need(name), found.subject
        if found.kind == INTEGRATION:
            other = min(self._integrations - own)
            trigger = self._need(other).trigger
            return f"{other} integrates {trigger} and runs alone (level 3)"
        if found.kind == WORK:
            others = listed(sorted(self._running.keys() - own))
            return f"{name} integrates {need.trigger} and runs alone, after {others} (level 3)"
        if found.kind == FULL:
            most = self.rules.parallel_max
            return f"as many tasks run as tasks.parallel_max allows: {most}"
        if found.kind == COORDINATOR:
            most = self.rules.coordinator_tasks_max[subject]
            return f"as many tasks of {subject} run as tasks.coordinators allows: {most}"
        users = self._writers if found.kind == WRITTEN else self._readers
        other = min(users[subject] - own)
        if subject in (*need.ask.domains, *self._need(other).ask.domains):
            return f"{other} is at work in {subject}, an exclusive domain (level 1)"
        verb = "writes" if found.kind == WRITTEN else "reads"
        return f"{other} {verb} {subject} (level 2)"

    def _need(self, name: str) -> Need:
        need = self._known.get(name)
        if need is None:
            task = self._records[name]
            self._needs.measure(SIGNAL_STEPS_MAX)
            try:
                need = self._needs.of(name, task.writes, task.reads)
            except (RefusedError, CostlyError):
                need = _NO_NEED  # too much work to tell: its claims decide, when it runs
            self._known[name] = need
        return need

    def _shared(self, ask: Ask, own: set[str]) -> Iterator[Obstacle]:
        self._index.measure(SIGNAL_STEPS_MAX)
        try:
            for resource in ask.writes:
                for other in self._index.overlapping(resource):
                    if self._writers.get(other, own) - own:
                        yield Obstacle(WRITTEN, other)
                    if self._readers.get(other, own) - own:
                        yield Obstacle(READ, other)
            for resource in (*ask.reads, *ask.observes):
                for other in self._index.overlapping(resource):
                    if self._writers.get(other, own) - own:
                        yield Obstacle(WRITTEN, other)
        except CostlyError:
            pass  # as above

    def _forget(self, name: str, freed: dict[Obstacle, None]) -> None:
        """Take a task out of the queues and the sums; note what it no longer keeps."""
        if name in self._places:
            self._pull(name)
        if name in self._left:
            stream, length_ms = self._left.pop(name)
            self._left_ms[stream] -= length_ms
            self._open[stream] -= 1
            if not self._open[stream]:
                del self._left_ms[stream], self._open[stream]
        if name in self._slow:
            group, slowness = self._slow.pop(name)
            self._slowness[group] -= slowness
            self._paced[group] -= 1
        if name not in self._running:
            return
        self._workers[self._running.pop(name)] -= 1
        self._integrations.discard(name)
        need = self._need(name)
        for coordinator in need.coordinators:
            self._busy[coordinator].discard(name)
            self._in_force.discard(Obstacle(COORDINATOR, coordinator))
            freed[Obstacle(COORDINATOR, coordinator)] = None
        ask = need.ask
        self._drop_users(name, self._writers, ask.writes, WRITTEN, freed)
        self._drop_users(name, self._readers, [*ask.reads, *ask.observes], READ, freed)

    def _drop_users(
        self,
        name: str,
        users: dict[str, set[str]],
        resources: list[str],
        kind: str,
        freed: dict[Obstacle, None],
    ) -> None:
        for resource in resources:
            users[resource].discard(name)
            if not users[resource]:
                del users[resource]
                self._in_force.discard(Obstacle(kind, resource))
                freed[Obstacle(kind, resource)] = None
            if resource not in self._writers and resource not in self._readers:
                self._index.remove(resource)

    def _take_up(self, name: str) -> None:
        task = self._records[name]
        if task.status not in (TaskStatus.COMPLETED, TaskStatus.FAILED):
            self._left[name] = task.stream, task.left_ms
            self._left_ms[task.stream] += self._left[name][1]
            self._open[task.stream] += 1
        if task.slowness:
            self._slow[name] = task.group, task.slowness
            self._slowness[task.group] += task.slowness
            self._paced[task.group] += 1
        rank = self._backlog.rank(name)
        if rank is not None:
            self._put(name, _NOTHING, rank, task.stream)
        if task.status not in _RUNNING:
            return
        self._running[name] = task.stream
        self._workers[task.stream] += 1
        need = self._need(name)
        if need.trigger and task.is_listed:
            self._integrations.add(name)
        for coordinator in need.coordinators:
            busy = self._busy.setdefault(coordinator, set())
            busy.add(name)
            if 0 < self.rules.coordinator_tasks_max.get(coordinator, 0) <= len(busy):
                self._close(Obstacle(COORDINATOR, coordinator))
        for users, resources, kind in (
            (self._writers, need.ask.writes, WRITTEN),
            (self._readers, [*need.ask.reads, *need.ask.observes], READ),
        ):
            for resource in resources:
                users.setdefault(resource, set()).add(name)
                self._index.add(resource)
                self._close(Obstacle(kind, resource))

    def _put(self, name: str, behind: Obstacles, rank: Rank, stream: str) -> None:
        queue = self._queues.get(behind)
        if queue is None:
            queue = self._queues[behind] = Queue()
            for obstacle in behind:
                self._behind.setdefault(obstacle, set()).add(behind)
        queue.add(rank, stream)
        self._places[name] = behind, rank, stream

    def _pull(self, name: str) -> Obstacles:
        """Take a task out of its queue, and drop that when it is empty."""
        behind, rank, stream = self._places.pop(name)
        queue = self._queues[behind]
        queue.remove(rank, stream)
        if not queue and behind:
            self._drop_queue(behind)
        return behind

    def _drop_queue(self, behind: Obstacles) -> None:
        del self._queues[behind]
        self._passable.pop(behind, None)
        for obstacle in behind:
            self._behind[obstacle].remove(behind)
            if not self._behind[obstacle]:
                del self._behind[obstacle]

    def _close(self, obstacle: Obstacle) -> None:
        """Note that something is in force; queues that name it cannot pass."""
        self._in_force.add(obstacle)
        for behind in [one for one in self._passable if obstacle in one]:
            del self._passable[behind]

    def _let_pass(self, obstacle: Obstacle) -> None:
        """Look again at the queues that name an obstacle which is gone, and no other in force."""
        # There may be hundreds that also wait for something else: this loop is not Python's.
        for behind in [*filter(self._in_force.isdisjoint, self._behind.get(obstacle, ()))]:
            queue = self._queues[behind]
            if len(self._passable) < QUEUES_PASSABLE_MAX or len(queue) > QUEUE_MERGED_MAX:
                self._passable[behind] = None
                continue
            self._drop_queue(behind)
            for rank, stream in queue:
                self._put(rank.name, _NOTHING, rank, stream)
