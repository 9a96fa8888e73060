"""How far the tasks of a session are: what each one waits for, its time to go, and the last moves.

Pure. What is in a task's way is asked of the balancer's own code (`core/balance.py`), so the view
cannot say something else than the orchestrator decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from fabric.core.assignment import TIMER
from fabric.core.balance import Balance
from fabric.core.event import Kind
from fabric.core.limits import listed
from fabric.core.rules import Rules
from fabric.core.task import Backlog, TaskRecord, TaskStatus
from fabric.view.tasks import documents, in_board_order
from fabric.view.timeline import read_ms
from fabric.wire.record import TIMER_TYPE
from fabric.wire.stored import read_object, text_fields_of

#: Codes with which the orchestrator by itself takes a task from an agent. (DONE also refuses a
#: start.)
_TAKEN_FROM = frozenset({"TIMEOUT", "STRAGGLER"})


class Stand(StrEnum):
    """Where a task stands: its status, and of a pending one whether it can begin now."""

    IN_PROGRESS = "in progress"
    OFFERED = "offered"
    READY = "ready"
    WAITS = "waits"
    COMPLETED = "completed"
    FAILED = "failed"


_STANDS = {
    TaskStatus.IN_PROGRESS: Stand.IN_PROGRESS,
    TaskStatus.OFFERED: Stand.OFFERED,
    TaskStatus.COMPLETED: Stand.COMPLETED,
    TaskStatus.FAILED: Stand.FAILED,
}

#: The task is not done yet, and nobody has to decide whether it is tried again.
_OPEN = frozenset({Stand.IN_PROGRESS, Stand.OFFERED, Stand.READY, Stand.WAITS})


class Move(NamedTuple):
    """What the balancer did with a task, for a reason. `ms` is server time."""

    id: str
    ms: int
    task: str
    what: str
    reason: str


class Summary(NamedTuple):
    """Tasks taken together. Times are in ms; `to_go_ms` is None when none is left to do.

    `guessed` counts open tasks without an estimate and without progress: see ESTIMATE_MS_DEFAULT.
    """

    counts: Mapping[Stand, int]
    percent: float
    to_go_ms: int | None
    guessed: int

    @property
    def total(self) -> int:
        """All tasks."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Those that are completed."""
        return self.counts.get(Stand.COMPLETED, 0)


class Progress:
    """The tasks of a session at a time. Without `rules` nothing is said of levels and capacity."""

    def __init__(self, tasks: Mapping[str, TaskRecord], rules: Rules | None, now_ms: int) -> None:
        self.tasks = tasks
        self.now_ms = now_ms
        self._backlog = Backlog(tasks)
        self._balance = None if rules is None else Balance(tasks, self._backlog, rules)
        self._waits: dict[str, str] = {}
        for name, task in tasks.items():
            if task.status is TaskStatus.PENDING:
                self._waits[name] = self._obstacle(name)

    def stand(self, name: str) -> Stand:
        """Return where a task stands."""
        known = _STANDS.get(self.tasks[name].status)
        return known or (Stand.WAITS if self._waits[name] else Stand.READY)

    def waits_for(self, name: str) -> str:
        """Say what a pending task waits for: tasks before it, or what is in its way; "" if none."""
        return self._waits.get(name, "")

    def unblocks(self, name: str) -> list[str]:
        """Name the tasks that wait, or waited, for this one."""
        return self._backlog.followers(name)

    def to_go_ms(self, name: str) -> int | None:
        """Return how long an open task still takes, by its own rate or its estimate; else None.

        0: it should be done by now.
        """
        task, stand = self.tasks[name], self.stand(name)
        if stand not in _OPEN or not (task.estimate_ms or task.has_rate):
            return None
        if stand is not Stand.IN_PROGRESS:
            return task.estimate_ms
        return max(0, task.left_ms - (self.now_ms - task.progressed_ms))

    def groups(self) -> dict[tuple[str, int], list[str]]:
        """Return the tasks of each stream and terminal, as they were added; those of none last."""
        found: dict[tuple[str, int], list[str]] = {}
        for name, task in in_board_order(self.tasks):
            found.setdefault((task.stream, task.terminal), []).append(name)
        return dict(sorted(found.items(), key=lambda item: (not item[0][0], *item[0])))

    def summary(self, names: list[str] | None = None) -> Summary:
        """Return some tasks taken together, or all.

        The time to go is what is left of them, divided by those at work; for all tasks it is no
        less than the longest path of tasks that wait for each other.
        """
        some = list(self.tasks) if names is None else names
        stands = {name: self.stand(name) for name in some}
        counts = Counter(stands.values())
        left = {name: self._left_ms(name) for name, one in stands.items() if one in _OPEN}
        at_work = counts[Stand.IN_PROGRESS] + counts[Stand.OFFERED]
        to_go_ms = sum(left.values()) // max(1, at_work)
        if names is None:
            to_go_ms = max([to_go_ms, *map(self._path_ms, left)])
        guessed = sum(self.to_go_ms(name) is None for name in left)
        done = sum(self.tasks[name].progress_percent for name in some)
        percent = done / len(some) if some else 0
        return Summary(counts, percent, to_go_ms if left else None, guessed)

    def documents(self, names: list[str]) -> list[dict[str, Any]]:
        """Return tasks for programs: as `fabric tasks list --json`, and where each one stands."""
        shown = {name: self.tasks[name] for name in names}
        return [
            {
                **one,
                "stand": self.stand(one["id"]),
                "waits_for": self.waits_for(one["id"]),
                "to_go_ms": self.to_go_ms(one["id"]),
            }
            for one in documents(self.tasks, shown, self._backlog)
        ]

    def document(self) -> dict[str, Any]:
        """Return the sums for programs: of all tasks, and of each stream and terminal."""
        groups = [
            {"stream": stream, "terminal": terminal or None, **_sums(self.summary(names))}
            for (stream, terminal), names in self.groups().items()
        ]
        return {**_sums(self.summary()), "groups": groups}

    def _obstacle(self, name: str) -> str:
        missing = self._backlog.missing(name)
        if missing:
            return f"after {listed(missing)}"
        found = self._balance.obstacle(name) if self._balance is not None else None
        return self._balance.reason(name, found) if self._balance and found is not None else ""

    def _left_ms(self, name: str) -> int:
        known = self.to_go_ms(name)
        return self.tasks[name].length_ms if known is None else known

    def _path_ms(self, name: str) -> int:
        behind = self._backlog.path_ms(name) - self.tasks[name].length_ms
        return self._left_ms(name) + behind


def _sums(summary: Summary) -> dict[str, Any]:
    counts = {stand.replace(" ", "_"): summary.counts.get(stand, 0) for stand in Stand}
    return {
        "tasks": summary.total,
        **counts,
        "percent": round(summary.percent, 1),
        "to_go_ms": summary.to_go_ms,
        "without_estimate": summary.guessed,
    }


def move(entry_id: bytes, flat: list[bytes]) -> Move | None:
    """Return what a log entry says of the balancer's moves; None if nothing."""
    fields = text_fields_of(flat)
    kind, word = fields.get("kind", ""), fields.get("type", "")
    id_, ms = entry_id.decode("ascii", "replace"), read_ms(fields.get("ms", ""), 0)
    timer, _, name = fields.get("timer", "").partition(":")
    if word == TIMER_TYPE and timer == TIMER:
        return Move(id_, ms, name, "is free again", "it was offered, and not begun in time")
    if kind != Kind.DIRECTIVE or word not in ("ASSIGN", "CANCEL", "NOTICE"):
        return None
    payload = read_object(fields.get("payload", "")) or {}
    agent, code = fields.get("to", ""), payload.get("code")
    task, reason = str(payload.get("task") or ""), str(payload.get("reason") or "")
    if word == "ASSIGN" and task:
        return Move(id_, ms, task, f"offered to {agent}", reason or "the most urgent that is ready")
    if word == "CANCEL" and task and code in _TAKEN_FROM:
        return Move(id_, ms, task, f"taken from {agent}", reason)
    if word == "NOTICE" and code == "STRAGGLER":
        return Move(id_, ms, reason.partition(" is ")[0], f"{agent} is told", reason)
    return None
