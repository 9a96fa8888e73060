"""Tasks as a todo list sees them (seeds: RESULT_STREAMING, "Integration with TodoWrite")."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.decision import ACCEPTED, Decision, refuse
from fabric.core.directive import Assign, DirectiveType
from fabric.core.limits import TASK_FINDING_CHARS_MAX, TASK_FINDINGS_MAX
from fabric.core.record import AgentRecord, AgentStatus, TaskRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import EarlyCompletion, Signal, SignalType

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


def over_limit(session: SessionState, name: str, rules: Rules) -> Decision | None:
    """Refuse a new task in a session that has as many as it may have."""
    if not name or name in session.tasks or len(session.tasks) < rules.tasks_max:
        return None
    return refuse(
        "LIMIT",
        f"session {session.name} would have {len(session.tasks) + 1} tasks; "
        f"the limit is {rules.tasks_max}",
    )


def begin(session: SessionState, name: str, agent: AgentRecord) -> None:
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
        TaskRecord(
            content=agent.task,
            status=_TODO_STATUS[agent.status],
            agent=name,
            incarnation=agent.incarnation,
        ),
    )


def follow(session: SessionState, agent: AgentRecord, signal: Signal) -> None:
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


#: Status of a task that waits for somebody to take it.
PENDING = "pending"
#: Status of one that an agent was offered, and has not taken up yet.
OFFERED = "offered"


def early(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """EARLY_COMPLETION: offer the agent what waits, as much as it has capacity for."""
    assert agent is not None
    assert isinstance(signal.payload, EarlyCompletion)
    agent.capacity = 1 if signal.payload.capacity is None else signal.payload.capacity
    decision = Decision()
    for name in sorted(session.tasks.records):
        if agent.capacity <= 0:
            break
        if session.tasks.records[name].status == PENDING:
            _offer(session, name, signal.emitter, agent, decision)
    return decision if decision.messages else ACCEPTED


def orphaned(session: SessionState, agent: AgentRecord, name: str, decision: Decision) -> None:
    """An agent has left its task undone: offer that to the first agent with capacity."""
    task = session.tasks.get(agent.task) if agent.task else None
    if task is None or task.agent != name:
        return
    _offer_around(session, agent.task, name, decision)


def declined(session: SessionState, name: str, agent: AgentRecord, decision: Decision) -> None:
    """An agent ends without taking up what it was offered: that goes to the next."""
    offers, agent.offers = agent.offers, []
    for offered in offers:
        task = session.tasks.get(offered)
        if task is not None and task.status == OFFERED:
            _offer_around(session, offered, name, decision)


def _offer_around(session: SessionState, task_name: str, left_by: str, decision: Decision) -> None:
    task = session.tasks.records[task_name]
    task.status = PENDING
    session.tasks.put(task_name, task)
    for other in sorted(session.agents.records):
        candidate = session.agents.records[other]
        if candidate.capacity > 0 and candidate.status is AgentStatus.ACTIVE and other != left_by:
            _offer(session, task_name, other, candidate, decision)
            return


def _offer(
    session: SessionState, task_name: str, name: str, agent: AgentRecord, decision: Decision
) -> None:
    task = session.tasks.records[task_name]
    agent.capacity -= 1
    agent.offers = [*agent.offers, task_name]
    session.agents.put(name, agent)
    task.status = OFFERED
    session.tasks.put(task_name, task)
    left = f"{task.agent} has not finished it" if task.agent else ""
    decision.direct(name, DirectiveType.ASSIGN, Assign(task_name, task.stream, left or None))
