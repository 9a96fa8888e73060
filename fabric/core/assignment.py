"""Which agent is offered which task.

An agent says how many more tasks it could take (EARLY_COMPLETION). Each ready task is offered to
one such agent, by ASSIGN. An offer ends when its agent starts the task, or ends; when another agent
starts it first; and after `offer_ms`: then the next agent with room is asked.
"""

from __future__ import annotations

from itertools import islice

from fabric.core.directive import Assign
from fabric.core.event import Event, SignalEvent
from fabric.core.limits import AGENT_OFFERS_MAX
from fabric.core.record import AgentRecord, AgentStatus
from fabric.core.session import SessionState
from fabric.core.signal import EarlyCompletion
from fabric.core.task import TaskRecord, TaskStatus

#: The timer of an offer is `offer:<task>`.
TIMER = "offer"


def note_room(event: SignalEvent, payload: EarlyCompletion) -> None:
    """EARLY_COMPLETION: the agent could take so many more tasks."""
    room = 1 if payload.capacity is None else payload.capacity
    _set_room(event.session, event.name, event.agent, min(room, AGENT_OFFERS_MAX))


def offer(event: Event) -> None:
    """Offer ready tasks to agents that have room; nobody gets back what it has just left."""
    session = event.session
    if not session.spare or next(session.backlog.ready(), None) is None:
        return
    records = session.agents.records
    free = [name for name in sorted(session.spare) if records[name].status is AgentStatus.ACTIVE]
    room = sum(records[name].capacity for name in free)
    for task_name in list(islice(session.backlog.ready(), room + AGENT_OFFERS_MAX)):
        task = session.tasks.records[task_name]
        left = (task.agent, task.incarnation)
        for name in free:
            if left != (name, records[name].incarnation):
                _offer(event, task_name, task, name)
                if name not in session.spare:
                    free.remove(name)
                break


def offer_due(event: Event, name: str) -> bool:
    """Take back an offer that its agent has not taken up: it goes to the next with room."""
    session = event.session
    task = session.tasks.get(name)
    if task is None or task.status is not TaskStatus.OFFERED or not task.offered_until_ms:
        return False
    if task.offered_until_ms > session.clock_ms:  # moved by an outage
        return event.postpone(f"{TIMER}:{name}", task.offered_until_ms)
    silent = task.offered_to
    withdraw(session, name, task, taker=silent)
    session.keep_task(name, task)
    if silent in session.agents:
        # It has not answered: it gets no more before it says again that it has room.
        _set_room(session, silent, session.agents.records[silent], 0)
    return True


def withdraw(session: SessionState, name: str, task: TaskRecord, taker: str = "") -> None:
    """End an offer; its agent has room for another one, unless it is the `taker`."""
    if task.status is not TaskStatus.OFFERED:
        return
    agent = session.agents.get(task.offered_to)
    if agent is not None:
        agent.offers = [offered for offered in agent.offers if offered != name]
        regained = 0 if task.offered_to == taker else 1
        _set_room(session, task.offered_to, agent, agent.capacity + regained)
    task.status = TaskStatus.PENDING
    task.offered_to, task.offered_until_ms = "", 0


def end(session: SessionState, name: str, agent: AgentRecord) -> None:
    """Take back what was offered to an agent that has ended: it has no room any more."""
    for offered in agent.offers:
        task = session.tasks.get(offered)
        # An older version did not note the agent.
        if task is not None and task.offered_to in ("", name):
            withdraw(session, offered, task, taker=name)
            session.keep_task(offered, task)
    _set_room(session, name, agent, 0)


def _offer(event: Event, task_name: str, task: TaskRecord, name: str) -> None:
    session = event.session
    agent = session.agents.records[name]
    agent.offers = [*agent.offers, task_name]
    _set_room(session, name, agent, agent.capacity - 1)
    task.status, task.offered_to = TaskStatus.OFFERED, name
    if event.rules.offer_ms:
        task.offered_until_ms = session.clock_ms + event.rules.offer_ms
        event.set_timer(f"{TIMER}:{task_name}", task.offered_until_ms)
    session.keep_task(task_name, task)
    left = f"{task.agent} has not finished it" if task.agent else None
    event.direct(name, Assign(task_name, task.stream, left))


def _set_room(session: SessionState, name: str, agent: AgentRecord, room: int) -> None:
    agent.capacity = max(room, 0)
    (session.spare.add if agent.capacity else session.spare.discard)(name)
    session.agents.put(name, agent)
