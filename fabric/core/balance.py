"""Work that has lost its agent goes to whoever has capacity (seeds: EARLY_COMPLETION; design, 6).

A task is offered again when its agent was given up for dead, or has failed and said that trying
again may help. Nobody is made to take it: the offer is an ASSIGN, and who takes it says STARTED
with the task.
"""

from __future__ import annotations

from fabric.core.decision import ACCEPTED, Decision
from fabric.core.directive import Assign, DirectiveType
from fabric.core.record import Agent, AgentStatus
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.signal import EarlyCompletion, Signal

#: Status of a task that waits for somebody to take it.
PENDING = "pending"
#: Status of one that an agent was offered, and has not taken up yet.
OFFERED = "offered"


def early(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
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


def orphaned(session: Session, agent: Agent, name: str, decision: Decision) -> None:
    """An agent has left its task undone: offer that to the first agent with capacity."""
    task = session.tasks.get(agent.task) if agent.task else None
    if task is None or task.agent != name:
        return
    _offer_around(session, agent.task, name, decision)


def declined(session: Session, name: str, agent: Agent, decision: Decision) -> None:
    """An agent ends without taking up what it was offered: that goes to the next."""
    offers, agent.offers = agent.offers, []
    for offered in offers:
        task = session.tasks.get(offered)
        if task is not None and task.status == OFFERED:
            _offer_around(session, offered, name, decision)


def _offer_around(session: Session, task_name: str, left_by: str, decision: Decision) -> None:
    task = session.tasks.records[task_name]
    task.status = PENDING
    session.tasks.put(task_name, task)
    for other in sorted(session.agents.records):
        candidate = session.agents.records[other]
        if candidate.capacity > 0 and candidate.status is AgentStatus.ACTIVE and other != left_by:
            _offer(session, task_name, other, candidate, decision)
            return


def _offer(session: Session, task_name: str, name: str, agent: Agent, decision: Decision) -> None:
    task = session.tasks.records[task_name]
    agent.capacity -= 1
    agent.offers = [*agent.offers, task_name]
    session.agents.put(name, agent)
    task.status = OFFERED
    session.tasks.put(task_name, task)
    left = f"{task.agent} has not finished it" if task.agent else ""
    decision.direct(name, DirectiveType.ASSIGN, Assign(task_name, task.stream, left or None))
