"""What a task is, which lists of tasks make sense, and which tasks are ready.

A task list comes from a file, a todo list or a signal. `can_merge_after` names the tasks that must
be complete before a task, `blocks` the tasks that wait for it: both say the same, from the two ends
(TODO_PARALLEL_SCHEMA). The rules of the board that tasks come onto are in `board.py`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from fabric.core.limits import (
    RHYTHM_INTERVALS_MIN,
    TASK_CONTENT_CHARS_MAX,
    TASK_DESCRIPTION_CHARS_MAX,
    TASK_FINDING_CHARS_MAX,
    TASK_FINDINGS_MAX,
    TERMINAL_MAX,
    Count,
    Label,
    Milliseconds,
    Name,
    Names,
    Percent,
)


class TaskStatus(StrEnum):
    """The status of a task. A todo list has `pending`, `in_progress` and `completed`."""

    PENDING = "pending"
    #: Offered to an agent, which has not taken it up yet.
    OFFERED = "offered"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    #: Not done, and not offered any more: somebody has to say `retry`.
    FAILED = "failed"


#: Time that a task is taken for when nothing is known of it, ms.
ESTIMATE_MS_DEFAULT = 600_000

#: Progress below this says nothing of a task's rate, percent. With far less, the time to go would
#: be beyond any number.
RATE_PERCENT_MIN = 0.1


class TaskSpec(Struct, frozen=True, omit_defaults=True):
    """A task as somebody lists it. Times are in ms; "" and 0 stand for what is not given.

    `terminal` is 1 to 10. A list of a run under way also has `attempts`, `progress_percent`,
    `last_signal` and `partial_findings`, as a todo list shows them.
    """

    id: Name
    content: Annotated[str, Meta(max_length=TASK_CONTENT_CHARS_MAX)] = ""
    description: Annotated[str, Meta(max_length=TASK_DESCRIPTION_CHARS_MAX)] = ""
    active_form: Annotated[str, Meta(max_length=TASK_CONTENT_CHARS_MAX)] = ""
    status: TaskStatus = TaskStatus.PENDING
    type: Label = ""
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    stream: Label = ""
    terminal: Annotated[int, Meta(ge=0, le=TERMINAL_MAX)] = 0
    owner: Label = ""
    parallel_group: Label = ""
    can_merge_after: Names = []
    blocks: Names = []
    reads: Names = []
    writes: Names = []
    estimate_ms: Milliseconds = 0
    attempts: Count = 0
    progress_percent: Percent = 0
    last_signal: Label = ""
    partial_findings: Annotated[
        list[Annotated[str, Meta(max_length=TASK_FINDING_CHARS_MAX)]],
        Meta(max_length=TASK_FINDINGS_MAX),
    ] = []


class TaskRecord(Struct, omit_defaults=True):
    """A task on a session's board: the JSON of one hash field. Times are server time, ms.

    `can_merge_after` has what other tasks' `blocks` say too.
    """

    content: str
    status: TaskStatus
    #: The agent that has it, had it last, or said that it is done; and that agent's incarnation.
    agent: str = ""
    stream: str = ""
    incarnation: int = 0
    progress_percent: int | float = 0
    checkpoint: str = ""
    last_signal: str = ""
    partial_findings: list[str] = []
    description: str = ""
    active_form: str = ""
    type: str = ""
    priority: int = 0
    terminal: int = 0
    owner: str = ""
    parallel_group: str = ""
    can_merge_after: list[str] = []
    reads: list[str] = []
    writes: list[str] = []
    estimate_ms: int = 0
    #: The agent that brought it in; "" for a person.
    added_by: str = ""
    #: Log number of the event that added it, and its place there: the order of the board.
    added: int = 0
    place: int = 0
    #: How often an agent has begun it since it was added, or since somebody said `retry`.
    attempts: int = 0
    #: Fencing token of the last start; larger than any earlier one of the session.
    token: int = 0
    started_ms: int = 0
    #: When its agent last made progress, and the last intervals between two such times: its pace.
    progressed_ms: int = 0
    paces: list[int] = []
    #: The highest percentage of this attempt, if it has gone back since; else 0.
    peak_percent: int | float = 0
    #: The agent that it is offered to, and until when; 0: for as long as that agent lives.
    offered_to: str = ""
    offered_until_ms: int = 0
    #: The question whether it is tried again.
    question: str = ""
    #: It came in a list of tasks, not by an agent's STARTED.
    is_listed: bool = False
    #: It was found to be far slower than others of its group, in this attempt: the question about
    #: it, or `told`.
    straggler: str = ""

    @property
    def length_ms(self) -> int:
        """How long it is expected to take."""
        return self.estimate_ms or ESTIMATE_MS_DEFAULT

    @property
    def step_ms(self) -> int | None:
        """The time from one progress to the next, by its own pace or else its estimate."""
        if len(self.paces) < RHYTHM_INTERVALS_MIN:
            return self.estimate_ms or None
        return sorted(self.paces)[len(self.paces) // 2]

    @property
    def has_rate(self) -> bool:
        """Whether it is in progress, and far enough that its own rate says something."""
        return self.status is TaskStatus.IN_PROGRESS and self.progress_percent >= RATE_PERCENT_MIN

    @property
    def left_ms(self) -> int:
        """The time that it still takes, by its own rate or else its estimate."""
        percent = self.progress_percent
        if self.has_rate:
            return int((self.progressed_ms - self.started_ms) * (100 - percent) / percent)
        return self.length_ms

    @property
    def group(self) -> str:
        """The tasks that it is compared with: of its parallel group, or else of its stream."""
        return self.parallel_group or self.stream

    @property
    def slowness(self) -> int:
        """Return how long it takes beside its length, in thousandths; 0: not known."""
        if not self.has_rate:
            return 0
        tenths = int(self.progress_percent * 10)
        taken_ms = self.progressed_ms - self.started_ms
        return taken_ms * 1_000_000 // (tenths * self.length_ms)


class TaskFault(NamedTuple):
    """What is wrong with a list of tasks. `code`: DOUBLE, UNKNOWN or CYCLE; `reason` names ids."""

    code: str
    reason: str


def prerequisites(tasks: Sequence[TaskSpec]) -> dict[str, list[str]]:
    """Return task → the tasks that must be complete before it, from either end's words.

    A task that only `blocks` names, and the list does not have, is there too.
    """
    found = {task.id: list(dict.fromkeys(task.can_merge_after)) for task in tasks}
    for task in tasks:
        for later in task.blocks:
            before = found.setdefault(later, [])
            if task.id not in before:
                before.append(task.id)
    return found


def fault(tasks: Sequence[TaskSpec], known: Container[object] = ()) -> TaskFault | None:
    """Return what is wrong with a list, None if nothing is; `known` are tasks that exist already.

    For a list that extends `known`, a cycle through known tasks is the caller's to look for.
    """
    ids: set[str] = set()
    for task in tasks:
        if task.id in ids:
            return TaskFault("DOUBLE", f"{task.id} is listed twice")
        if task.id in known:
            return TaskFault("DOUBLE", f"{task.id} is on the board already")
        ids.add(task.id)
    for task in tasks:
        for field, named in (("can_merge_after", task.can_merge_after), ("blocks", task.blocks)):
            for other in named:
                if other not in ids and other not in known:
                    return TaskFault("UNKNOWN", f"{field} of {task.id} names {other}: no such task")
    found = cycle(prerequisites(tasks))
    if found:
        return TaskFault("CYCLE", f"{' → '.join([*found, found[0]])}: each waits for the next")
    return None


def cycle(before: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a cycle of tasks, each of which waits for the next; [] when there is none."""
    done: set[str] = set()
    for start in before:
        if start in done:
            continue
        #: The way from the start, and beside each task those before it that are not looked at yet.
        way = {start: iter(before[start])}
        while way:
            task, left = next(reversed(way.items()))
            following = next((other for other in left if other not in done), None)
            if following is None:
                done.add(task)
                del way[task]
            elif following in way:
                names = list(way)
                return names[names.index(following) :]
            else:
                way[following] = iter(before.get(following, ()))
    return []


def in_order(tasks: Sequence[TaskSpec]) -> list[TaskSpec]:
    """Return the tasks so that each comes after those it waits for; else in the list's order.

    The list must have no cycle.
    """
    by_id = {task.id: task for task in tasks}
    before = prerequisites(tasks)
    placed: dict[str, TaskSpec] = {}
    for first in tasks:
        way = [(first.id, iter(before[first.id]))]
        while way:
            name, left = way[-1]
            following = next(
                (other for other in left if other in by_id and other not in placed), ""
            )
            if following:
                way.append((following, iter(before[following])))
            else:
                way.pop()
                placed.setdefault(name, by_id[name])
    return list(placed.values())


def path_class(length_ms: int) -> int:
    """Return a number that grows with a length; lengths within an eighth may have the same one."""
    bits = length_ms.bit_length()
    return (bits << 3) + ((length_ms >> (bits - 4)) & 7) if bits >= 4 else length_ms


class Rank(NamedTuple):
    """A ready task's place in the order in which tasks are offered: the lowest is first.

    First the longest path behind it, by its class; then the higher priority; then as it was added.
    """

    path: int
    priority: int
    added: int
    place: int
    name: str

    @property
    def level(self) -> tuple[int, int]:
        """What has to be equal for two tasks to be as urgent as each other."""
        return self[:2]


class Backlog:
    """Which tasks of a board are ready: pending, with everything before them complete.

    It follows from the records, and is kept nowhere. Whoever changes a record's status, or what it
    waits for, says so with `note`. Beside each task is the longest path from its start to the end
    of all that waits for it and is not complete, by the estimates.
    """

    def __init__(self, records: Mapping[str, TaskRecord]) -> None:
        self._records = records
        #: Task → the tasks that wait for it.
        self._followers: dict[str, dict[str, None]] = {}
        #: Task → how many of those before it are not complete.
        self._open: dict[str, int] = {}
        self._completed: set[str] = set()
        self._ready: list[Rank] = []
        self._ranks: dict[str, Rank] = {}
        self._paths_ms: dict[str, int] = {}
        #: Tasks whose path or rank has to be looked at again, before anybody asks for one.
        self._grown: set[str] = set()
        self._unranked: set[str] = set()
        #: Tasks noted since the balance of load has looked (`balance.py`).
        self.touched: set[str] = set()
        for name, task in records.items():
            if task.status is TaskStatus.COMPLETED:
                self._completed.add(name)
        for name in records:
            self.note(name)

    def note(self, name: str) -> None:
        """Take up a record that is new, or whose status or `can_merge_after` has changed."""
        task = self._records[name]
        for other in task.can_merge_after:
            followers = self._followers.setdefault(other, {})
            if name not in followers:
                followers[name] = None
                self._grown.add(other)
        is_completed = task.status is TaskStatus.COMPLETED
        if is_completed is not (name in self._completed):
            (self._completed.add if is_completed else self._completed.remove)(name)
            for follower in self._followers.get(name, ()):
                self._open[follower] += -1 if is_completed else 1
                self._unranked.add(follower)
            self._grown.update((name, *self.missing(name)))
        if name not in self._open:
            self._grown.add(name)
        self._open[name] = len(self.missing(name))
        self._unranked.add(name)
        self.touched.add(name)

    def ready(self) -> Iterator[str]:
        """Name the tasks that can begin: the longest path behind them first; see Rank."""
        self._settle()
        return (rank.name for rank in self._ready)

    def rank(self, name: str) -> Rank | None:
        """Return a task's rank; None when it is not ready."""
        self._settle()
        return self._ranks.get(name)

    def path_ms(self, name: str) -> int:
        """Return the longest path from a task's start to the end of all that waits for it."""
        self._settle()
        return self._paths_ms[name]

    def missing(self, name: str) -> list[str]:
        """Name the tasks before this one that are not complete."""
        before = self._records[name].can_merge_after
        return [other for other in before if other not in self._completed]

    def followers(self, name: str) -> list[str]:
        """Name the tasks that wait for this one, done or not."""
        return list(self._followers.get(name, ()))

    def _settle(self) -> None:
        if self._grown:
            self._measure()
        if self._unranked:
            self.touched |= self._unranked
            for name in self._unranked:
                self._rank(name)
            self._unranked.clear()

    def _measure(self) -> None:
        """Measure the paths again that may have changed: those of the grown, and of all before."""
        affected: set[str] = set()
        todo = [name for name in self._grown if name in self._records]
        self._grown.clear()
        while todo:
            name = todo.pop()
            if name not in affected:
                affected.add(name)
                todo += (other for other in self.missing(name) if other in self._records)
        left = {
            name: sum(one in affected for one in self._followers.get(name, ())) for name in affected
        }
        todo = [name for name, count in left.items() if not count]
        while todo:
            name = todo.pop()
            behind = (one for one in self._followers.get(name, ()) if one not in self._completed)
            longest_ms = max((self._paths_ms[one] for one in behind), default=0)
            self._paths_ms[name] = self._records[name].length_ms + longest_ms
            for other in dict.fromkeys(self._records[name].can_merge_after):
                if other in affected:
                    left[other] -= 1
                    if not left[other]:
                        todo.append(other)
        self._unranked |= affected

    def _rank(self, name: str) -> None:
        task, known = self._records[name], self._ranks.get(name)
        rank = None
        if task.status is TaskStatus.PENDING and not self._open[name]:
            path = -path_class(self._paths_ms[name])
            rank = Rank(path, -task.priority, task.added, task.place, name)
        if rank == known:
            return
        if known is not None:
            del self._ready[bisect_left(self._ready, known)]
            del self._ranks[name]
        if rank is not None:
            self._ranks[name] = rank
            insort(self._ready, rank)


def summarise(partial: dict[str, Any]) -> list[str]:
    """Say each finding of a partial result in a line: `2 security issues`, or `key: value`."""
    lines: list[str] = []
    for key, value in partial.items():
        if key == "findings" and isinstance(value, list):
            lines += map(_finding, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"{value} {key.replace('_', ' ')}")
        else:
            lines.append(f"{key}: {_plain(value)}")
    return [line[:TASK_FINDING_CHARS_MAX] for line in lines[-TASK_FINDINGS_MAX:]]


def _finding(one: dict[str, Any]) -> str:
    """Say a finding in a line: its key or its place, and its value or its message."""
    place = [one[name] for name in ("path", "line", "rule") if one.get(name)]
    name = one.get("key") or ":".join(map(_plain, place))
    what = next((one[part] for part in ("value", "message", "title") if part in one), "")
    if one.get("withdrawn"):
        what = "withdrawn"
    return f"{name}: {_plain(what)}" if name and what != "" else name or _plain(what)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
