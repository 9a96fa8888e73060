"""An agent's own list of tasks, kept on the session's board: TodoWrite, TaskCreate, update_plan."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

from fabric.agents.event import Todo
from fabric.client.agent import Agent
from fabric.core.limits import NAME_CHARS_MAX
from fabric.core.signal import SignalType
from fabric.core.task import TaskSpec
from fabric.errors import FabricError

#: Seconds until a start is decided; the board follows a client's list, it does not stop the client.
BEGIN_S = 5.0

#: Tasks of one list that are put onto the board.
TODOS_MAX = 200


class TodoList:
    """What one agent has listed, and what the board knows of it."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._status: dict[str, str] = {}

    async def update(self, agent: Agent, todos: Sequence[Todo], *, is_whole: bool) -> None:
        """Bring the board up to a list, or to changes of one; report how far it has come."""
        listed = {self._id(one): one for one in todos[:TODOS_MAX]}
        new = [one for one in listed if one not in self._status and listed[one].content]
        if new:
            specs = [TaskSpec(id=one, content=listed[one].content[:1000]) for one in new]
            await agent.add_tasks(*specs)
            self._status.update(dict.fromkeys(new, "pending"))
        for known, todo in listed.items():
            was = self._status.get(known)
            if was is None or was == todo.status or not todo.status:
                continue
            self._status[known] = todo.status
            with suppress(FabricError):  # another agent has it, say: the board is right
                if todo.status == "in_progress":
                    await agent.begin(known, timeout=BEGIN_S)
                elif todo.status in ("completed", "done"):
                    await agent.emit(SignalType.TASK_DONE, {"task": known})
        if is_whole:
            self._status = {one: self._status[one] for one in listed if one in self._status}
        done = sum(status in ("completed", "done") for status in self._status.values())
        if self._status:
            await agent.progress(round(100 * done / len(self._status)))

    def _id(self, todo: Todo) -> str:
        """Return a task's name on the board: of this agent, and the same each time."""
        digest = hashlib.sha1(todo.content.encode(), usedforsecurity=False).hexdigest()[:8]
        return f"{self._agent}/{todo.id or digest}"[:NAME_CHARS_MAX]
