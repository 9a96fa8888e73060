"""Which agent is offered which task, and whether a task may be started now.

An agent says how many more tasks it could take (EARLY_COMPLETION). Each ready task that nothing is
in the way of is offered to one such agent, by ASSIGN; `balance.py` says which. Idle agents are
served first, each with one task, then those that are at work: first with tasks of their own stream
or of none, then, unless the rules keep agents to their streams, with those of others. An offer ends
when its agent starts the task, or ends; when another agent starts it first; and after `offer_ms`:
then the next agent with room is asked.
"""

from __future__ import annotations

from collections.abc import Iterable

from fabric.core.balance import Balance, Choice
from fabric.core.directive import Assign
from fabric.core.event import Event, SignalEvent
from fabric.core.limits import AGENT_OFFERS_MAX
from fabric.core.policy import BalanceMode
from fabric.core.record import AgentRecord, AgentStatus
from fabric.core.rules import Rules
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
    balance = balance_of(session, event.rules)
    if balance.is_idle:
        return
    # There may be thousands of idle agents: only those are looked at that may get something.
    streams = balance.streams()
    near = session.spare.names(None if "" in streams else streams)
    far = session.spare.names()
    _offer_round(event, balance, near, is_near=True)
    if event.rules.balance is BalanceMode.ALL and not balance.is_idle:
        _offer_round(event, balance, far, is_near=False)


def _offer_round(event: Event, balance: Balance, free: Iterable[str], *, is_near: bool) -> None:
    """Offer each agent one task after the other, until nobody gets one more."""
    records, active = event.session.agents.records, AgentStatus.ACTIVE
    #: Streams whose agents can get nothing: what runs only grows here.
    in_vain: set[str] = set()
    while free:
        served: list[str] = []
        for name in free:
            if balance.is_idle:
                return
            agent = records[name]
            if agent.stream in in_vain or name not in event.session.spare:
                continue
            if agent.status is not active:
                continue
            choice = balance.best(agent.stream, (name, agent.incarnation), is_near=is_near)
            if choice is not None:
                _offer(event, balance, choice, name)
                balance.update()
                served.append(name)
            elif not balance.has_left_out:
                in_vain.add(agent.stream)
        free = served


def balance_of(session: SessionState, rules: Rules) -> Balance:
    """Return the session's balance of load by these rules, up to date."""
    balance = session.balance
    if isinstance(balance, Balance) and (balance.rules is rules or balance.rules == rules):
        balance.update()
        return balance
    session.balance = balance = Balance(session.tasks.records, session.backlog, rules)
    return balance


def obstacle(event: SignalEvent, name: str) -> str:
    """Say what is in the way of a task that the sender is about to start; "" if nothing is."""
    session, agent = event.session, event.agent
    balance = balance_of(session, event.rules)
    found = balance.obstacle(name, agent.task)
    reason = balance.reason(name, found, agent.task) if found is not None else ""
    return f"{name} cannot begin now: {reason}" if reason else ""


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


def withdraw_after(session: SessionState, name: str) -> None:
    """End the offers of what comes after a task that is to be done again."""
    for later in session.backlog.followers(name):
        task = session.tasks.records[later]
        if task.status is TaskStatus.OFFERED:
            withdraw(session, later, task)
            session.keep_task(later, task)


def end(session: SessionState, name: str, agent: AgentRecord) -> None:
    """Take back what was offered to an agent that has ended: it has no room any more."""
    for offered in agent.offers:
        task = session.tasks.get(offered)
        # An older version did not note the agent.
        if task is not None and task.offered_to in ("", name):
            withdraw(session, offered, task, taker=name)
            session.keep_task(offered, task)
    _set_room(session, name, agent, 0)


def _offer(event: Event, balance: Balance, choice: Choice, name: str) -> None:
    session, task_name = event.session, choice.rank.name
    agent, task = session.agents.records[name], session.tasks.records[task_name]
    why = _why(balance, agent, task)
    agent.offers = [*agent.offers, task_name]
    _set_room(session, name, agent, agent.capacity - 1)
    task.status, task.offered_to = TaskStatus.OFFERED, name
    if event.rules.offer_ms:
        task.offered_until_ms = session.clock_ms + event.rules.offer_ms
        event.set_timer(f"{TIMER}:{task_name}", task.offered_until_ms)
    session.keep_task(task_name, task)
    event.direct(name, Assign(task_name, task.stream, why))


def _why(balance: Balance, agent: AgentRecord, task: TaskRecord) -> str | None:
    """Say why a task goes to this agent; None if it is simply the next one."""
    if task.agent:
        return f"{task.agent} has not finished it"
    if task.stream in ("", agent.stream):
        return None
    to_go, workers = balance.to_go_ms(task.stream), balance.workers(task.stream)
    at_work = {0: "nobody is", 1: "1 agent is"}.get(workers, f"{workers} agents are")
    return f"{at_work} at work in stream {task.stream}, which has {to_go / 1000:.0f} s to go"


def _set_room(session: SessionState, name: str, agent: AgentRecord, room: int) -> None:
    agent.capacity = max(room, 0)
    session.spare.note(name, agent)
    session.agents.put(name, agent)
