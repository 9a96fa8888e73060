"""The balance of load: what runs is kept apart, and no agent with room is idle in vain.

What two tasks share is told here by the names alone: a plan's tasks write plain files, those under
`src/` in a domain of the coordinator A, those under `db/` in an exclusive one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fabric.core.rules import Rules
from fabric.store.keys import ORCHESTRATORS
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: The coordinator of `src/`, whose tasks the rules of some plans count.
COORDINATOR = "A"

#: What any task, an integration, or a task under `src/` takes a place of; no file's name.
ANY, INTEGRATION, SRC = "any:", "integration:", "src:"

#: Signals with which tasks may go: those of an earlier run.
CLEARING = (b"RUN_OPENED", b"RUN_PURGED")

_Record = dict[str, Any]


@dataclass
class _Board:
    """The tasks and agents of a session, and the tasks by their status."""

    tasks: dict[str, _Record] = field(default_factory=dict)
    agents: dict[str, _Record] = field(default_factory=dict)
    by_status: defaultdict[str, dict[str, _Record]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def note(self, name: str, task: _Record | None) -> None:
        """Note what a task is now; None if it is gone."""
        if was := self.tasks.pop(name, None):
            del self.by_status[was["status"]][name]
        if task is not None:
            self.tasks[name] = self.by_status[task["status"]][name] = task

    @property
    def running(self) -> dict[str, _Record]:
        """What runs, or is offered."""
        return self.by_status["in_progress"] | self.by_status["offered"]

    @property
    def ready(self) -> dict[str, _Record]:
        """What waits for nothing but a free agent and what runs."""
        done = self.by_status["completed"].keys()
        return {
            name: one for name, one in self.by_status["pending"].items()
            if all(before in done for before in one.get("can_merge_after", ()))
        }  # fmt: skip


class Balances(Judge):
    """Looks at tasks and agents after each commit, or after every so many of a large board.

    `looks_every`: to look at 10,000 tasks after each of 40,000 signals would take hours.
    """

    def __init__(self, rules: Rules, looks_every: int = 1) -> None:
        self._rules = rules
        self._looks_every = looks_every
        self._commits = 0
        self._boards: defaultdict[str, _Board] = defaultdict(_Board)

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        touched = {}
        for session, changes in commit.hashes("agents"):
            touched[session] = True
            agents = self._boards[session].agents
            for name, value in changes.items():
                agents.pop(name, None)
                if value is not None:
                    agents[name] = msgspec.json.decode(value)
        for session, changes in commit.hashes("tasks"):
            touched[session] = True
            for name, value in changes.items():
                task = None if value is None else msgspec.json.decode(value)
                self._boards[session].note(name, task)
                if task is None:
                    self._look_at_loss(commit, session, name)
        self._commits += 1
        if self._commits % self._looks_every:
            return
        for session in touched:
            board = self._boards[session]
            if any(one.get("is_listed") for one in board.tasks.values()):
                _look_at_offers(session, board)
                self._look_at_what_runs(session, board)
                self._look_at_the_idle(session, board)

    def _look_at_loss(self, commit: Commit, session: str, task: str) -> None:
        log = NAMESPACE.partition(commit.lease.partition).session(session).log
        if not any(k == log and f.get(b"type") in CLEARING for k, _, f in commit.appended):
            raise Violation("no task is lost", f"{session}: {task}")

    def _look_at_what_runs(self, session: str, board: _Board) -> None:
        running = board.running
        if not all(one.get("is_listed") for one in running.values()):
            return
        used = _used(running)
        for name, one in running.items():
            # Each of those that run is looked at as if it were about to begin beside the others.
            for use in _uses(name, one):
                used[use] -= 1
            if obstacle := self._obstacle(name, one, used):
                raise Violation("what runs is kept apart", f"{session}: {name}: {obstacle}")
            used.update(_uses(name, one))

    def _look_at_the_idle(self, session: str, board: _Board) -> None:
        free = {
            name: one for name, one in board.agents.items()
            if one["status"] == "active" and one.get("capacity")
        }  # fmt: skip
        if not free:
            return
        used, ready = _used(board.running), board.ready
        if any(_is_integration(name) for name in ready):
            return  # nothing else begins before the most urgent of these has run
        startable = [name for name, one in ready.items() if not self._obstacle(name, one, used)]
        for name in startable:
            left_by = ready[name].get("agent"), ready[name].get("incarnation")
            for agent, it in free.items():
                if left_by != (agent, it["incarnation"]):
                    raise Violation(
                        "an agent with room has what can begin", f"{session}: {agent} and {name}"
                    )

    def _obstacle(self, name: str, task: _Record, used: Counter[str]) -> str:
        """Say what is in a task's way, of what those use that run beside it; "" if nothing is."""
        if used[INTEGRATION]:
            return "an integration runs alone"
        if _is_integration(name) and used[ANY]:
            return "an integration is to run alone"
        if 0 < self._rules.parallel_max <= used[ANY]:
            return "too many run"
        most = self._rules.coordinator_tasks_max.get(COORDINATOR, 0)
        if _is_in("src/", task) and 0 < most <= used[SRC]:
            return f"too many of {COORDINATOR} run"
        return next((f"another writes {file}" for file in _files(task) if used[file]), "")


def _look_at_offers(session: str, board: _Board) -> None:
    """Check that an offer has one agent, which knows of it, and is not what that one has left."""
    tasks, agents = board.tasks, board.agents
    offers = [(one, agent) for agent, it in agents.items() for one in it.get("offers", ())]
    offered = [(name, one["offered_to"]) for name, one in board.by_status["offered"].items()]
    if sorted(offers) != sorted(offered):
        raise Violation("an offer has one agent", f"{session}: {offers} and {offered}")
    for name, agent in offered:
        task = tasks[name]
        if (task.get("agent"), task.get("incarnation")) == (agent, agents[agent]["incarnation"]):
            raise Violation("nobody is offered what it has left", f"{session}: {agent} and {name}")


def _uses(name: str, task: _Record) -> list[str]:
    """Name what a task uses while it runs: its files, and the places that are counted."""
    kinds = [ANY, *[INTEGRATION] * _is_integration(name), *[SRC] * _is_in("src/", task)]
    return [*set(_files(task)), *kinds]


def _used(running: dict[str, _Record]) -> Counter[str]:
    return Counter(use for name, one in running.items() for use in _uses(name, one))


def _is_integration(name: str) -> bool:
    return name.startswith("release")


def _files(task: _Record) -> list[str]:
    """Name what a task writes; anything in an exclusive domain is all of it."""
    return ["db/" if one.startswith("db/") else one for one in task.get("writes", ())]


def _is_in(folder: str, task: _Record) -> bool:
    return any(one.startswith(folder) for one in task.get("writes", ()))
