"""Orders that an agent leaves unread while it goes on: a person is asked about it.

CANCEL to an agent as a whole and PAUSE are *orders*. Where the rules set `unread_ms_max`, the
orders in force are noted in the agent's record, and a timer looks that long after the first:

    the order is over, or was read               it is forgotten
    unread, and nothing but HEARTBEAT since      look again later: the agent may be in a long call
    unread, and the agent has sent more since    ask a person, once
    answer "wait"                                ask again if that lasts as long again
    answer "give up"                             the agent is declared dead

What an agent has read is no part of its session. The worker reads the agent's stored place for a
timer that needs it (`reader`), and writes it into the timer's log entry: replay decides by that.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from fabric.core.agent_status import in_force
from fabric.core.directive import DirectiveType
from fabric.core.escalation import UNREAD, ask, close_own, new_question
from fabric.core.event import EVERYONE, NOTHING_READ, Event, Kind, TimerEvent
from fabric.core.limits import listed
from fabric.core.liveness import GIVE_UP, WAIT, declare_dead
from fabric.core.record import (
    ENDED,
    AgentRecord,
    AgentStatus,
    ClaimState,
    EscalationRecord,
    OrderRecord,
)
from fabric.core.session import SessionState

#: The timer's key is `unread:<agent>`.
TIMER: Final = "unread"

#: Orders that are noted of an agent: the first, and the latest, which takes the place of others.
ORDERS_MAX: Final = 2

_PAUSE, _CANCEL = DirectiveType.PAUSE.value, DirectiveType.CANCEL.value
_ENDS = (DirectiveType.RESUME.value, DirectiveType.PROCEED.value)


class _Named(Struct):
    """The resources that a directive names."""

    resources: list[str] = []


def note(event: Event) -> None:
    """Note the orders among an event's messages, and forget those that it ends."""
    session, records = event.session, event.session.agents.records
    for number, message in enumerate(event.decision.messages, 1):
        is_order = message.type in (_PAUSE, _CANCEL)
        if message.kind is not Kind.DIRECTIVE or not (is_order or message.type in _ENDS):
            continue
        named = msgspec.json.decode(message.payload, type=_Named).resources
        to_all = message.to == EVERYONE
        for name in sorted(records) if to_all else [message.to]:
            agent = records.get(name)
            if agent is None or agent.status in ENDED:
                continue
            if not is_order:
                left = [one for one in agent.orders if set(named).isdisjoint(one.taken)]
                _keep(event, name, agent, left)
                continue
            order = OrderRecord(message.type, session.log, number, session.clock_ms, to_all)
            if message.type == _PAUSE and not _is_in_force(session, name, agent, order):
                order.taken = named
            _keep(event, name, agent, [*agent.orders[: ORDERS_MAX - 1], order])


def _keep(event: Event, name: str, agent: AgentRecord, orders: list[OrderRecord]) -> None:
    """Keep those of an agent's orders that are in force, and set the timer for the first."""
    kept = [one for one in orders if _is_in_force(event.session, name, agent, one)]
    if kept != agent.orders:
        _hold(event, name, agent, kept, "what it had not read is over")


def _hold(event: Event, name: str, agent: AgentRecord, orders: list[OrderRecord], why: str) -> None:
    """Note an agent's orders; without any, close the question about it and say why."""
    agent.orders = orders
    due_ms = orders[0].counts_ms + event.rules.unread_ms_max if orders else None
    event.set_timer(f"{TIMER}:{name}", due_ms)
    if agent.unread and not orders:
        close_own(event, agent.unread, why)
        agent.unread = ""
    event.session.agents.put(name, agent)


def _is_in_force(session: SessionState, name: str, agent: AgentRecord, order: OrderRecord) -> bool:
    """Whether an agent is still to stop; or to pause, for what it waits for or has lost."""
    if order.type == _CANCEL:
        return agent.cancelled
    if not order.to_all:
        return bool(order.taken) or agent.status is not AgentStatus.ACTIVE
    _, barrier = in_force(session)
    return barrier is not None and name in barrier.members and name != barrier.leader


def reader(session: SessionState, timer: str) -> str:
    """Name the agent whose place in its messages a timer needs to know; "" if it needs none."""
    kind, _, name = timer.partition(":")
    agent = session.agents.get(name) if kind == TIMER else None
    return name if agent is not None and agent.orders else ""


def check(event: TimerEvent, name: str) -> bool:
    """Ask a person about an agent that goes on against orders which it has not read."""
    session, most_ms = event.session, event.rules.unread_ms_max
    agent = session.agents.get(name)
    if agent is None or not agent.orders or not most_ms:
        return False
    orders, timer = agent.orders, f"{TIMER}:{name}"
    unread = [
        one
        for one in orders
        if not _is_read(event, agent, one) and _is_in_force(session, name, agent, one)
    ]
    if unread != orders:
        _hold(event, name, agent, unread, "it has read that")
        return True
    due_ms = orders[0].counts_ms + most_ms
    if due_ms > session.clock_ms:
        return event.postpone(timer, due_ms)
    heard_ms = agent.idle_since_ms or agent.seen_ms
    if agent.unread or heard_ms <= orders[0].counts_ms:
        return event.postpone(timer, session.clock_ms + most_ms)
    held = [
        resource
        for claim in session.claims_of(agent)
        if claim.state is ClaimState.HELD
        for resource in claim.writes
    ]
    text = f"{name} {_unread(session, orders[0])}, and goes on ({agent.last_signal})."
    text += f" It holds {listed(held)}." if held else ""
    text += " Wait until it reads that, or give it up?"
    question = new_question(session, UNREAD, text, [WAIT, GIVE_UP], about=name)
    agent.unread = ask(event, question, told=[])
    session.agents.put(name, agent)
    event.set_timer(timer, session.clock_ms + most_ms)
    return True


def _is_read(event: TimerEvent, agent: AgentRecord, order: OrderRecord) -> bool:
    """Whether an agent has read an order. A library that is asked for no message obeys PAUSE."""
    is_library = agent.seq > 0 and event.reading == NOTHING_READ
    return event.reading.has(order) or (is_library and order.type == _PAUSE)


def apply_answer(event: Event, asked: EscalationRecord) -> None:
    """Give an agent up that does not read, or ask again after as long again."""
    session, name = event.session, asked.about
    agent = session.agents.get(name)
    if agent is None or not agent.unread or not agent.orders:
        return
    agent.unread = ""
    if asked.decision == GIVE_UP:
        why = f"given up by {asked.by}: it {_unread(session, agent.orders[0])}"
        declare_dead(event, name, agent, why)
        return
    agent.orders[0].allowed_ms = session.clock_ms
    session.agents.put(name, agent)
    event.set_timer(f"{TIMER}:{name}", session.clock_ms + event.rules.unread_ms_max)


def _unread(session: SessionState, order: OrderRecord) -> str:
    told = "stop" if order.type == _CANCEL else "pause"
    age_s = (session.clock_ms - order.since_ms) / 1000
    where = f"message {order.log}-{order.number}, {order.type}"
    return f"was told {age_s:.0f} s ago to {told} ({where}), has not read that"
