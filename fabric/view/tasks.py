"""A session's task board for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabric.core.limits import listed
from fabric.core.task import Backlog, TaskRecord, TaskStatus
from fabric.view.status import todo
from fabric.view.text import plain, table

_COLUMNS = ("TASK", "STATUS", "DONE", "AGENT", "COMES AFTER", "CONTENT")

#: Shown for a pending task: what is before it is complete.
READY = "ready"


def ready_only(tasks: Mapping[str, TaskRecord]) -> dict[str, TaskRecord]:
    """Return the tasks that can begin, in the order in which they are offered."""
    return {name: tasks[name] for name in Backlog(tasks).ready()}


def documents(
    tasks: Mapping[str, TaskRecord],
    shown: Mapping[str, TaskRecord],
    backlog: Backlog | None = None,
) -> list[dict[str, Any]]:
    """Return the `shown` tasks of a board, each with all fields of a todo entry and some more.

    `backlog` is that of the board, if it is known already.
    """
    backlog = backlog or Backlog(tasks)
    return [
        {
            "id": name,
            **todo(task),
            "description": task.description,
            "type": task.type,
            "priority": task.priority,
            "stream": task.stream,
            "terminal": task.terminal or None,
            "owner": task.owner,
            "parallel_group": task.parallel_group,
            "can_merge_after": task.can_merge_after,
            "blocks": backlog.followers(name),
            "reads": task.reads,
            "writes": task.writes,
            "estimate_ms": task.estimate_ms or None,
            "agent": task.agent or task.offered_to,
            "token": task.token,
            "attempts": task.attempts,
            "checkpoint": task.checkpoint,
            "question": task.question,
            "is_ready": task.status is TaskStatus.PENDING and not backlog.missing(name),
        }
        for name, task in _rows(tasks, shown)
    ]


def board_lines(tasks: Mapping[str, TaskRecord], shown: Mapping[str, TaskRecord]) -> list[str]:
    """Return the `shown` tasks of a board as a table."""
    backlog = Backlog(tasks)
    rows = []
    for name, task in _rows(tasks, shown):
        missing = backlog.missing(name)
        is_ready = task.status is TaskStatus.PENDING and not missing
        rows.append(
            [
                plain(name),
                READY if is_ready else task.status.value,
                f"{task.progress_percent:g} %",
                plain(task.agent or task.offered_to),
                plain(listed(missing)) if missing else "",
                plain(task.content if task.content != name else ""),
            ]
        )
    return table(_COLUMNS, rows) if rows else []


def _rows(
    tasks: Mapping[str, TaskRecord], shown: Mapping[str, TaskRecord]
) -> list[tuple[str, TaskRecord]]:
    """Return the board in the order in which it was filled, or what is shown in its own."""
    return list(shown.items()) if len(shown) < len(tasks) else in_board_order(tasks)


def in_board_order(tasks: Mapping[str, TaskRecord]) -> list[tuple[str, TaskRecord]]:
    """Return tasks as they were added."""
    return sorted(tasks.items(), key=lambda item: (item[1].added, item[1].place, item[0]))
