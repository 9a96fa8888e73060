"""What a task is, and which lists of tasks make sense: every id once, none unknown, no cycle.

A task list comes from a file, a todo list or a signal. `can_merge_after` names the tasks that must
be complete before a task, `blocks` the tasks that wait for it: both say the same, from the two ends
(TODO_PARALLEL_SCHEMA). The rules of the board that tasks come onto are in `board.py`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from fabric.core.limits import (
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


def fault(tasks: Sequence[TaskSpec], known: Container[str] = ()) -> TaskFault | None:
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
