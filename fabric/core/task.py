"""Tasks as a todo list sees them (seeds: RESULT_STREAMING, "Integration with TodoWrite")."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.decision import Decision, refuse
from fabric.core.limits import TASK_FINDING_CHARS_MAX, TASK_FINDINGS_MAX
from fabric.core.record import Agent, AgentStatus, Task
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import Signal, SignalType

#: Agent status → the word that todo lists use.
_TODO_STATUS = {
    AgentStatus.ACTIVE: "in_progress",
    AgentStatus.BLOCKED: "in_progress",
    AgentStatus.PAUSED: "in_progress",
    AgentStatus.COMPLETED: "completed",
    AgentStatus.FAILED: "failed",
    AgentStatus.DEAD: "failed",
}

#: Work that has lost its agent: it waits for another one, or has been offered to one.
OPEN = frozenset({"pending", "offered"})

_decode = msgspec.json.Decoder().decode


def over_limit(session: Session, name: str, rules: Rules) -> Decision | None:
    """Refuse a new task in a session that has as many as it may have."""
    if not name or name in session.tasks or len(session.tasks) < rules.tasks_max:
        return None
    return refuse(
        "LIMIT",
        f"session {session.name} would have {len(session.tasks) + 1} tasks; "
        f"the limit is {rules.tasks_max}",
    )


def begin(session: Session, name: str, agent: Agent) -> None:
    """Note that the agent works on its task, when it named one.

    What it has done in this incarnation stands; whoever takes a task up anew begins at 0.
    """
    if not agent.task:
        return
    known = session.tasks.get(agent.task)
    if known is not None and (known.agent, known.incarnation) == (name, agent.incarnation):
        return
    session.tasks.put(
        agent.task,
        Task(
            content=agent.task,
            status=_TODO_STATUS[agent.status],
            agent=name,
            incarnation=agent.incarnation,
        ),
    )


def follow(session: Session, agent: Agent, signal: Signal) -> None:
    """Bring the agent's task up to what the agent has just said."""
    task = session.tasks.get(agent.task)
    if task is None or task.agent != signal.emitter or signal.type is SignalType.HEARTBEAT:
        return
    if signal.type is not SignalType.FAILED or task.status not in OPEN:
        task.status = _TODO_STATUS[agent.status]
    task.stream = agent.stream
    task.last_signal = signal.type.value
    task.progress_percent = agent.percent or 0
    task.checkpoint = agent.checkpoint
    if signal.type is SignalType.PARTIAL_RESULT:
        partial = _decode(signal.raw).get("partial")
        task.partial_findings = (task.partial_findings + summarise(partial))[-TASK_FINDINGS_MAX:]
    session.tasks.put(agent.task, task)


def summarise(partial: dict[str, Any]) -> list[str]:
    """Say each finding in a line, as the seeds do: `2 security issues`, or `key: value`."""
    lines = []
    for key, value in partial.items():
        if key == "findings" and isinstance(value, list):
            found = ((one["key"], one.get("value", "withdrawn")) for one in value)
            lines += [f"{name}: {_plain(what)}" for name, what in found]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"{value} {key.replace('_', ' ')}")
        else:
            lines.append(f"{key}: {_plain(value)}")
    return [line[:TASK_FINDING_CHARS_MAX] for line in lines[-TASK_FINDINGS_MAX:]]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
