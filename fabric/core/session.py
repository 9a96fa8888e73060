"""A session's state: named records in tables, and which of them have changed.

The records are what `redis-cli` shows: each is kept as the JSON of one hash field (design,
section 4). `step` changes them in place; the worker takes the changes of a whole batch at once and
writes them in the commit that also holds the batch's messages.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

from msgspec import Struct

R = TypeVar("R")


class AgentStatus(StrEnum):
    """Where an agent stands. `completed` and `failed` end an incarnation."""

    ACTIVE = "active"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"


#: The incarnation has said its last word.
ENDED = frozenset({AgentStatus.COMPLETED, AgentStatus.FAILED})


class DependencyStatus(StrEnum):
    """Whether an output can be consumed."""

    PENDING = "pending"
    RESOLVED = "resolved"
    FAILED = "failed"


class Agent(Struct, omit_defaults=True):
    """One agent, in its present incarnation. Times are server time, ms since the epoch."""

    status: AgentStatus
    incarnation: int
    stream: str = ""
    priority: int = 0
    seq: int = 0
    signals: int = 0
    last_signal: str = ""
    started_ms: int = 0
    seen_ms: int = 0
    #: As it was given: 50 stays 50 and 50.5 stays 50.5, however often the record is read again.
    percent: int | float | None = None
    #: Expected end, from the rate so far; only while there is one.
    eta_ms: int | None = None
    checkpoint: str = ""
    next_checkpoint: str = ""
    task: str = ""
    task_type: str = ""
    parallel_group: str = ""
    reads: list[str] = []
    writes: list[str] = []
    produces: list[str] = []
    #: Dependencies it is blocked on, oldest first.
    waits_for: list[str] = []
    error: str = ""


class Dependency(Struct, omit_defaults=True):
    """One output that agents wait for: who makes it, who waits, where it is."""

    status: DependencyStatus = DependencyStatus.PENDING
    #: Agents that declared to produce it, in the order of their declarations.
    producers: list[str] = []
    #: Waiting agent → log id of the BLOCKED that began the wait, oldest first.
    waiters: dict[str, str] = {}
    #: Producer → incarnation that was told that somebody waits.
    nudged: dict[str, int] = {}
    #: When waiting for it without a producer is reported, ms; 0 while that was never due.
    report_ms: int = 0
    location: str | None = None
    resolved_by: str = ""
    failed_by: str = ""
    error: str = ""
    #: The producer that failed said that trying again may help.
    retryable: bool = False


class Task(Struct, omit_defaults=True):
    """A unit of work, with the fields that a todo list shows (seeds: "TodoWrite")."""

    content: str
    status: str
    agent: str = ""
    stream: str = ""
    incarnation: int = 0
    progress_percent: int | float = 0
    checkpoint: str = ""
    last_signal: str = ""
    partial_findings: list[str] = []


class Table(Generic[R]):
    """Records of one kind by name, remembering which were changed or dropped."""

    __slots__ = ("changed", "records")

    def __init__(self, records: dict[str, R] | None = None) -> None:
        self.records: dict[str, R] = records if records is not None else {}
        self.changed: set[str] = set()

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, name: str) -> bool:
        return name in self.records

    def get(self, name: str) -> R | None:
        """Return the record to read. Who changes it must `put` it back."""
        return self.records.get(name)

    def put(self, name: str, record: R) -> None:
        """Keep a new or a changed record."""
        self.records[name] = record
        self.changed.add(name)

    def drop(self, name: str) -> None:
        """Forget a record."""
        self.records.pop(name, None)
        self.changed.add(name)

    def take_changes(self) -> dict[str, R | None]:
        """Return what has changed since the last call, None for what was dropped."""
        changes = {name: self.records.get(name) for name in sorted(self.changed)}
        self.changed.clear()
        return changes


class Session:
    """Everything the rules know of one session.

    `log` counts the events (signals, refusals, timers): the n-th is log entry `n-0`, what follows
    from it is `n-1`, `n-2` and so on. `clock_ms` is the latest server time seen; it never goes
    back.
    """

    __slots__ = ("agents", "clock_ms", "dependencies", "log", "name", "opened_ms", "tasks")

    def __init__(
        self,
        name: str,
        *,
        log: int = 0,
        clock_ms: int = 0,
        opened_ms: int = 0,
        agents: dict[str, Agent] | None = None,
        tasks: dict[str, Task] | None = None,
        dependencies: dict[str, Dependency] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.clock_ms = clock_ms
        self.opened_ms = opened_ms
        self.agents: Table[Agent] = Table(agents)
        self.tasks: Table[Task] = Table(tasks)
        self.dependencies: Table[Dependency] = Table(dependencies)

    def tick(self, now_ms: int) -> None:
        """Move the clock on; a time before the last one is ignored."""
        if now_ms > self.clock_ms:
            self.clock_ms = now_ms
        if not self.opened_ms:
            self.opened_ms = self.clock_ms
