"""Tasks, as a todo list shows them, and what happens to a task that has lost its agent.

A task is offered again when its agent was declared dead, or has failed and said that trying
again may help. The offer is an ASSIGN to an agent with capacity. No agent is made to take it: an
agent that takes it sends STARTED with the task.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.directive import Assign
from fabric.core.event import Event, RefusedError, SignalEvent
from fabric.core.limits import TASK_FINDING_CHARS_MAX, TASK_FINDINGS_MAX
from fabric.core.record import AgentRecord, AgentStatus, TaskRecord
from fabric.core.session import SessionState
from fabric.core.signal import EarlyCompletion, Signal, SignalType

#: Agent status → the word that todo lists use.
_TODO_STATUS = dict.fromkeys(AgentStatus, "in_progress") | {
    AgentStatus.COMPLETED: "completed",
    AgentStatus.FAILED: "failed",
    AgentStatus.DEAD: "failed",
}

#: Status of a task that waits for an agent to take it.
PENDING = "pending"
#: Status of a task that was offered to an agent, which has not taken it up yet.
OFFERED = "offered"

_decode = msgspec.json.Decoder().decode


def check_limit(event: SignalEvent, name: str) -> None:
    """Refuse a new task in a session that has as many as it may have."""
    tasks, limit = event.session.tasks, event.rules.tasks_max
    if name and name not in tasks and (share := tasks.fault(event.name, 1, limit)):
        raise RefusedError("LIMIT", f"too many tasks: {share}")
    if name and name not in tasks and len(tasks) >= limit:
        reason = f"session {event.session.name} would have {len(tasks) + 1} tasks"
        raise RefusedError("LIMIT", f"{reason}; the limit is {limit}")


def begin(session: SessionState, name: str, agent: AgentRecord) -> None:
    """Note that the agent works on its task, when it named one.

    What it has done in this incarnation stands; an agent that takes a task up anew begins at 0.
    """
    if not agent.task:
        return
    known = session.tasks.get(agent.task)
    if known is not None and (known.agent, known.incarnation) == (name, agent.incarnation):
        return
    status = _TODO_STATUS[agent.status]
    task = TaskRecord(agent.task, status, agent=name, incarnation=agent.incarnation)
    session.tasks.put(agent.task, task)


def update(session: SessionState, agent: AgentRecord, signal: Signal) -> None:
    """Bring the agent's task up to what the agent has just said."""
    task = session.tasks.get(agent.task)
    if task is None or task.agent != signal.emitter or signal.type is SignalType.HEARTBEAT:
        return
    if signal.type is not SignalType.FAILED or task.status not in (PENDING, OFFERED):
        task.status = _TODO_STATUS[agent.status]
    task.stream = agent.stream
    task.last_signal = signal.type.value
    task.progress_percent = agent.percent or 0
    task.checkpoint = agent.checkpoint
    if signal.type is SignalType.PARTIAL_RESULT:
        partial = _decode(signal.raw).get("partial")
        task.partial_findings = (task.partial_findings + _summarise(partial))[-TASK_FINDINGS_MAX:]
    session.tasks.put(agent.task, task)


def offer_pending(event: SignalEvent, payload: EarlyCompletion) -> None:
    """EARLY_COMPLETION: offer the agent the pending tasks, up to its capacity."""
    agent, tasks = event.agent, event.session.tasks
    agent.capacity = 1 if payload.capacity is None else payload.capacity
    for name in sorted(tasks.records):
        if agent.capacity <= 0:
            break
        if tasks.records[name].status == PENDING:
            _offer(event, name, event.name, agent)


def offer_orphaned(event: Event, name: str, agent: AgentRecord) -> None:
    """Offer the task that an agent has left undone to the first agent with capacity."""
    task = event.session.tasks.get(agent.task)
    if task is not None and task.agent == name:
        _offer_around(event, agent.task, name)


def offer_declined(event: Event, name: str, agent: AgentRecord) -> None:
    """Offer what an agent was offered, and did not take up before it ended, to the next."""
    offers, agent.offers = agent.offers, []
    for offered in offers:
        task = event.session.tasks.get(offered)
        if task is not None and task.status == OFFERED:
            _offer_around(event, offered, name)


def _offer_around(event: Event, task_name: str, left_by: str) -> None:
    session = event.session
    task = session.tasks.records[task_name]
    task.status = PENDING
    session.tasks.put(task_name, task)
    for other in sorted(session.agents.records):
        candidate = session.agents.records[other]
        if candidate.capacity > 0 and candidate.status is AgentStatus.ACTIVE and other != left_by:
            _offer(event, task_name, other, candidate)
            return


def _offer(event: Event, task_name: str, name: str, agent: AgentRecord) -> None:
    session = event.session
    task = session.tasks.records[task_name]
    agent.capacity -= 1
    agent.offers = [*agent.offers, task_name]
    session.agents.put(name, agent)
    task.status = OFFERED
    session.tasks.put(task_name, task)
    left = f"{task.agent} has not finished it" if task.agent else ""
    event.direct(name, Assign(task_name, task.stream, left or None))


def _summarise(partial: dict[str, Any]) -> list[str]:
    """Say each finding in a line: `2 security issues`, or `key: value`."""
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
