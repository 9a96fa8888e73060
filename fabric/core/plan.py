"""What a list of tasks will do before any of it runs: what is parallel, what is not, and why.

Two tasks do not run at the same time for one of these reasons:

    level 1  domain: both touch a domain that is exclusive, and one of them writes in it
    level 2  order: one must be complete before the other (`can_merge_after`, `blocks`)
    level 2  write-write, read-write: one writes what the other writes or reads
    level 3  integration: one of them pulls a trigger of the rule file, so all streams meet there

All else is parallel: other domains, other files, and reads of the same. What a task claims is what
the run would claim for it (`need.py`), and overlaps are those of `resource.py`, so plan and
run agree. A pair of level 1 or 2 without an order is a conflict to come: the run will find it and
let one of the two wait. A task that is complete counts no more.

The schedule is that of `schedule.py`. A wave holds the tasks that would run together if each took
the same time and there were agents for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from statistics import median_low

from msgspec import Struct

from fabric.core.conflicts import READ_WRITE, WRITE_WRITE
from fabric.core.need import Needs
from fabric.core.resource import Index
from fabric.core.rules import Rules
from fabric.core.schedule import Schedule, Work, orders_of
from fabric.core.task import ESTIMATE_MS_DEFAULT, TaskSpec, TaskStatus

#: Pairs that a plan lists. Ten thousand tasks that all write one file are fifty million.
PAIRS_MAX = 100_000

#: Steps of comparing all resources of a list: some ten seconds. Plain paths take a few each.
PLAN_STEPS_MAX = 20_000_000

#: Kinds of pairs, besides those of conflicts.
DOMAIN, ORDER, INTEGRATION = "domain", "order", "integration"

#: In a pair, the second task of an integration: all tasks without an order to the first.
ALL_OTHERS = "*"


class Pair(Struct, frozen=True):
    """Two tasks that do not run at the same time.

    `kind` is `order` (the first comes first), `read-write` (the first writes), `write-write`,
    `domain` or `integration`. `resources` are what they share, or the trigger's name.
    """

    first: str
    second: str
    level: int
    kind: str
    resources: list[str] = []
    #: Whether the run will find a conflict: they share something, and nothing orders them.
    is_conflict: bool = False


class Slot(Struct, frozen=True):
    """When a task runs, in ms from the start, and on which agent, from 1."""

    task: str
    agent: int
    start_ms: int
    end_ms: int


class Capacity(Struct, frozen=True):
    """What a coordinator, or everybody (""), may do at a time, and the work that there is."""

    coordinator: str
    tasks_max: int
    tasks: int
    work_ms: int


class Plan(Struct, frozen=True):
    """What will happen: see the top of this module. Times are in ms."""

    agents: int
    expected_ms: int
    #: No schedule on so many agents is shorter: max(critical path, work / agents).
    bound_ms: int
    work_ms: int
    critical_ms: int
    critical_path: list[str]
    waves: list[list[str]]
    #: In the order of their starts.
    schedule: list[Slot]
    pairs: list[Pair]
    #: Whether there are more than PAIRS_MAX pairs.
    has_more_pairs: bool
    capacities: list[Capacity]
    #: Tasks without an estimate, and what each was taken for.
    assumed: list[str]
    assumed_ms: int
    completed: list[str]
    #: Tasks of one `parallel_group` that cannot run at the same time all the same: group → pairs.
    broken_groups: dict[str, list[list[str]]]

    @property
    def conflicts(self) -> list[Pair]:
        """Return the conflicts that the run will find."""
        return [pair for pair in self.pairs if pair.is_conflict]


def plan(tasks: Sequence[TaskSpec], rules: Rules, agents: int | None = None) -> Plan:
    """Return the plan of a list of tasks on so many agents; by default as many as can ever help.

    The list must make sense: see `fault` in `task.py`. Raises RefusedError or CostlyError when its
    globs are too much work to compare.
    """
    left = [task for task in tasks if task.status is not TaskStatus.COMPLETED]
    known = [task.estimate_ms for task in left if task.estimate_ms]
    assumed_ms = median_low(known) if known else ESTIMATE_MS_DEFAULT
    work = _work(left, rules, assumed_ms)
    limits, most = rules.coordinator_tasks_max, rules.parallel_max or max(len(left), 1)
    units = Schedule(work, [1] * len(left), most, limits).run()
    waves: list[list[str]] = [[] for _ in range(max((start for start, _ in units), default=-1) + 1)]
    for task, (start, _) in zip(left, units, strict=True):
        waves[start].append(task.id)
    number = agents or max(map(len, waves), default=1)
    if rules.parallel_max:
        number = min(number, rules.parallel_max)
    placed = Schedule(work, work.lengths_ms, number, limits).run()
    slots = [
        Slot(task.id, agent, start, start + length)
        for task, length, (start, agent) in zip(left, work.lengths_ms, placed, strict=True)
    ]
    critical_ms, work_ms = max(work.tails_ms, default=0), sum(work.lengths_ms)
    pairs, has_more = _pairs(work)
    return Plan(
        agents=number,
        expected_ms=max((slot.end_ms for slot in slots), default=0),
        bound_ms=max(critical_ms, -(-work_ms // number)),
        work_ms=work_ms,
        critical_ms=critical_ms,
        critical_path=_critical_path(work),
        waves=waves,
        schedule=sorted(slots, key=lambda slot: (slot.start_ms, slot.agent)),
        pairs=pairs,
        has_more_pairs=has_more,
        capacities=_capacities(work, rules),
        assumed=[task.id for task in left if not task.estimate_ms],
        assumed_ms=assumed_ms,
        completed=[task.id for task in tasks if task.status is TaskStatus.COMPLETED],
        broken_groups=_broken_groups(left, pairs),
    )


def _work(tasks: list[TaskSpec], rules: Rules, assumed_ms: int) -> Work:
    before, after, order = orders_of(tasks)
    lengths = [_length_ms(task, assumed_ms) for task in tasks]
    tails = lengths.copy()
    for number in reversed(order):
        tails[number] += max((tails[one] for one in after[number]), default=0)
    needs = Needs(rules, PLAN_STEPS_MAX)
    found = [needs.of(task.id, task.writes, task.reads) for task in tasks]
    asks = [need.ask for need in found]
    index = Index()
    index.measure(PLAN_STEPS_MAX)
    used = dict.fromkeys(one for ask in asks for part in ask[:3] for one in part)
    for resource in used:
        index.add(resource)
    near = {resource: index.overlapping(resource) for resource in used}
    integrations = {number: need.trigger for number, need in enumerate(found) if need.trigger}
    named = [need.coordinators for need in found]
    return Work(tasks, before, after, order, asks, lengths, tails, named, integrations, near)


def _length_ms(task: TaskSpec, assumed_ms: int) -> int:
    """Return the time that is left of a task: what is done of it needs no more."""
    return round((task.estimate_ms or assumed_ms) * (100 - task.progress_percent) / 100)


def _critical_path(work: Work) -> list[str]:
    tails = work.tails_ms
    path: list[str] = []
    following = list(range(len(tails)))
    while following:
        number = max(following, key=lambda one: (tails[one], -one))
        path.append(work.tasks[number].id)
        following = work.after[number]
    return path


def _capacities(work: Work, rules: Rules) -> list[Capacity]:
    found = [Capacity("", rules.parallel_max, len(work.tasks), sum(work.lengths_ms))]
    found_names = {name: None for names in work.coordinators for name in names}
    for name in found_names:
        mine = [at for at, names in enumerate(work.coordinators) if name in names]
        length_ms = sum(work.lengths_ms[at] for at in mine)
        found.append(Capacity(name, rules.coordinator_tasks_max.get(name, 0), len(mine), length_ms))
    return found


def _broken_groups(tasks: list[TaskSpec], pairs: list[Pair]) -> dict[str, list[list[str]]]:
    groups = {task.id: task.parallel_group for task in tasks if task.parallel_group}
    broken: dict[str, list[list[str]]] = {}
    for pair in pairs:
        group = groups.get(pair.first)
        if group is not None and group == groups.get(pair.second):
            broken.setdefault(group, []).append([pair.first, pair.second])
    return broken


def _pairs(work: Work) -> tuple[list[Pair], bool]:
    """Return the pairs that do not run at the same time, by level, and whether there are more."""
    ids = [task.id for task in work.tasks]
    found = [
        Pair(ids[number], ALL_OTHERS, 3, INTEGRATION, [name])
        for number, name in work.integrations.items()
    ]
    #: Numbers of two tasks, the lower first → level, kind, the writer's number, what they share.
    shared: dict[tuple[int, int], tuple[int, str, int, list[str]]] = {}
    has_more = False
    for one, other, level, kind, resource in _meetings(work):
        key = min(one, other), max(one, other)
        writer = one if kind == READ_WRITE else key[0]
        known = shared.get(key)
        if known is None and len(shared) >= PAIRS_MAX:
            has_more = True
            break
        if known is None or (level, kind == READ_WRITE) < (known[0], known[1] == READ_WRITE):
            shared[key] = (level, kind, writer, [resource])
        elif known[:3] == (level, kind, writer) and resource not in known[3]:
            known[3].append(resource)
    ordered = _ordered(work, shared)
    for key, (level, kind, writer, resources) in sorted(shared.items()):
        if key not in ordered:
            reader = sum(key) - writer
            found.append(Pair(ids[writer], ids[reader], level, kind, sorted(resources), True))
    for first, following in enumerate(work.after):
        found += [Pair(ids[first], ids[second], 2, ORDER) for second in following]
    found.sort(key=lambda pair: pair.level)
    return found[:PAIRS_MAX], has_more or len(found) > PAIRS_MAX


def _meetings(work: Work) -> Iterator[tuple[int, int, int, str, str]]:
    """Yield what two tasks share: their numbers, a writer's first, level, kind, resource."""
    writers: dict[str, list[int]] = {}
    readers: dict[str, list[int]] = {}
    for number, ask in enumerate(work.asks):
        for resource in ask.writes:
            writers.setdefault(resource, []).append(number)
        for resource in (*ask.reads, *ask.observes):
            readers.setdefault(resource, []).append(number)
    for mine, writing in writers.items():
        for theirs in work.near[mine]:
            for kind, others in (
                (WRITE_WRITE, writers.get(theirs, [])),
                (READ_WRITE, readers.get(theirs, [])),
            ):
                for one, other in product(writing, others):
                    if one == other or (kind == WRITE_WRITE and (mine, one) > (theirs, other)):
                        continue  # two writers meet twice
                    if mine in work.asks[one].domains:
                        yield one, other, 1, DOMAIN, mine
                    elif theirs in work.asks[other].domains:
                        yield one, other, 1, DOMAIN, theirs
                    else:
                        yield one, other, 2, kind, theirs


def _ordered(work: Work, pairs: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those of the pairs that an order decides, directly or over others.

    Each task keeps, as bits, which of the tasks in question come before it.
    """
    wanted = list(pairs)
    concerned = dict.fromkeys(number for pair in wanted for number in pair)
    bits = {number: at for at, number in enumerate(concerned)}
    earlier = [0] * len(work.tasks)
    for number in work.order:
        for one in work.before[number]:
            earlier[number] |= earlier[one] | (1 << bits[one] if one in bits else 0)
    return {(a, b) for a, b in wanted if earlier[b] >> bits[a] & 1 or earlier[a] >> bits[b] & 1}
