"""Tasks: one agent has each, what is done stays done, and nothing is tried without end."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.store.keys import ORCHESTRATORS
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

AT_WORK = ("active", "blocked", "paused")

#: Signals after which a completed task may be open again.
REOPENING = (b"TASK_RETRY", b"DECIDED")

#: A record, as it is stored.
_Record = dict[str, Any]


class Tasks(Judge):
    """Compares the tasks of each commit with those before, and with the agents' own records."""

    def __init__(self, attempts_max: int) -> None:
        self._attempts_max = attempts_max
        #: Session → task or agent → its record.
        self._tasks: dict[str, dict[str, _Record]] = {}
        self._agents: dict[str, dict[str, _Record]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        touched = set()
        for session, changes in commit.hashes("agents"):
            _note(self._agents.setdefault(session, {}), changes)
            touched.add(session)
        for session, changes in commit.hashes("tasks"):
            known = self._tasks.setdefault(session, {})
            before = {name: known.get(name, {}) for name in changes}
            _note(known, changes)
            touched.add(session)
            log = NAMESPACE.partition(commit.lease.partition).session(session).log
            is_open = any(
                key == log and fields.get(b"type") in REOPENING
                for key, _, fields in commit.appended
            )
            for name, was in before.items():
                if name not in known:
                    continue  # a new run has begun
                self._look_at_change(f"{session}: {name}", was, known[name], is_open=is_open)
                self._look_at_begin(f"{session}: {name}", was, known[name], known)
        for session in touched:
            self._look_at_holders(session)

    def _look_at_change(self, where: str, was: _Record, now: _Record, *, is_open: bool) -> None:
        is_undone = was.get("status") == "completed" and now["status"] != "completed"
        if is_undone and not is_open:
            raise Violation("what is done stays done", f"{where}: {now}")
        if 0 < self._attempts_max < now.get("attempts", 0):
            raise Violation("a task is not tried without end", f"{where}: {now}")

    def _look_at_begin(
        self, where: str, was: _Record, now: _Record, tasks: dict[str, _Record]
    ) -> None:
        if was.get("status") == "in_progress" or now["status"] != "in_progress":
            return
        # A task of this commit may have been completed before the one after it began.
        before = [tasks.get(one, {}) for one in now.get("can_merge_after", ())]
        if any(one.get("status") != "completed" for one in before):
            raise Violation("a task begins after those before it", f"{where}: {now}")

    def _look_at_holders(self, session: str) -> None:
        tasks, agents = self._tasks.get(session, {}), self._agents.get(session, {})
        for name, task in tasks.items():
            if task["status"] == "in_progress":
                holder = agents.get(task["agent"], {})
                is_its = (holder.get("task"), holder.get("incarnation")) == (
                    name, task["incarnation"],
                )  # fmt: skip
                if not is_its or holder["status"] not in AT_WORK:
                    raise Violation("a task has the agent that says so", f"{session}: {name}")
        for name, agent in agents.items():
            task = tasks.get(agent.get("task", ""), {})
            if agent.get("task") and agent["status"] in AT_WORK and task.get("agent") != name:
                raise Violation("one agent has a task", f"{session}: {name} and {task}")


def _note(known: dict[str, _Record], changes: dict[str, bytes | None]) -> None:
    for name, value in changes.items():
        known.pop(name, None)
        if value is not None:
            known[name] = msgspec.json.decode(value)
