"""Deadlocks: found when a wait begins, and what is done about them.

    what closes a cycle          what follows
    locks alone                  CANCEL to one member: the lowest priority, then the latest claim
    any other wait in it         ESCALATE to all members and all stuck behind; a person chooses
    a person's choice            CANCEL to that member: its wait ends
    the cycle comes apart        the question is closed; a new one is asked about the still stuck
    too much for one event       a timer of the agent looks for the rest
    too much even alone          CANCEL (LIMIT) to the agent: no wait is left that was not looked at

A member whose claim is refused keeps what it holds, to give back in order. The searches are in
`wait_graph.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Raw

from fabric.core import barriers, claims, dependencies, escalation, record
from fabric.core.agent_status import update_status
from fabric.core.directive import Cancel
from fabric.core.event import ORCHESTRATOR, Event
from fabric.core.limits import CYCLES_MAX, SEARCH_STEPS_MAX, listed
from fabric.core.resource import CostlyError
from fabric.core.signal import Escalate
from fabric.core.wait_graph import (
    BARRIER,
    DEPENDENCY,
    LOCK,
    QUESTION,
    Link,
    WaitGraph,
    is_needed,
)

#: The timer by which an agent is looked at that one event had no time for is `deadlock:<agent>`.
TIMER = "deadlock"

#: Open questions about deadlocks: each is looked at after every event. More follow as these end.
QUESTIONS_MAX = 100


def check(event: Event, name: str) -> None:
    """An agent has begun to wait: break, or report, the cycle that this has closed."""
    session = event.session
    is_first = not event.searched
    graph = WaitGraph(session)
    for _ in range(CYCLES_MAX):
        try:
            with _measured(event):
                if not (session.deadlocks or is_needed(session, name)):
                    return
                cycle = graph.find_cycle(name)
                if cycle is None:
                    return
        except CostlyError:
            if is_first:
                _end_waits(event, name)
            else:
                _look_later(event, [name])
            return
        affected = _stuck_behind(event, graph, cycle)
        if any(link.wait.kind != LOCK for link in cycle):
            if len(session.deadlocks) < QUESTIONS_MAX:
                _report(event, cycle, affected)
            return
        _refuse_one(event, graph, cycle, affected)
        is_first = False
    _look_later(event, [name])


def check_all(event: Event, names: Iterable[str]) -> None:
    """Look at several agents whose waits have changed; one search tells which can be stuck."""
    found = list(dict.fromkeys(names))
    stuck = _stuck_among(event, found)
    for name in found:
        if name in stuck:
            check(event, name)


def check_later(event: Event, name: str) -> bool:
    """Look at an agent that an earlier event had no time for; moot if it is in no deadlock."""
    if name in event.session.agents:
        check(event, name)
    return bool(event.decision.messages or event.decision.timers)


def close_gone(event: Event) -> None:
    """Close the questions about deadlocks that have come apart, and look for what is left."""
    session = event.session
    questions = {known: session.escalations.records[known] for known in sorted(session.deadlocks)}
    graph = WaitGraph(session)
    for question_id, question in questions.items():
        try:
            with _measured(event):
                if not question.is_open or graph.is_still_there(question.cycle):
                    continue
        except CostlyError:
            return  # the next event looks again
        named = question.waiting
        escalation.close(event, question_id, question, "the deadlock is gone", ORCHESTRATOR)
        check_again(event, named)
        graph = WaitGraph(session)


def check_again(event: Event, names: list[str]) -> None:
    """Ask again about agents that a closed question named and that another deadlock holds."""
    session = event.session
    left = _stuck_among(event, names)
    while left:
        questions = [session.escalations.records[known] for known in sorted(session.deadlocks)]
        named = {name for question in questions for name in question.waiting}
        unnamed = [name for name in names if name in left and name not in named]
        if not unnamed:
            return
        # The question about the first also names all that are stuck with it.
        check(event, unnamed[0])
        left.discard(unnamed[0])


@contextmanager
def _measured(event: Event) -> Iterator[None]:
    """Let one event search for so many steps in all. Raises CostlyError beyond."""
    order = event.session.order
    order.measure(SEARCH_STEPS_MAX - event.searched)
    try:
        yield
    finally:
        event.searched += order.stop_measuring()


def _stuck_among(event: Event, names: list[str]) -> set[str]:
    """Return which of these agents are stuck; leave them to their timers if that is too much."""
    try:
        with _measured(event):
            return WaitGraph(event.session).stuck(names).intersection(names)
    except CostlyError:
        _look_later(event, names)
        return set()


def _stuck_behind(event: Event, graph: WaitGraph, cycle: list[Link]) -> list[str]:
    """Name the agents stuck behind a cycle; none when it is too much to tell."""
    try:
        with _measured(event):
            return graph.stuck_behind(cycle)
    except CostlyError:
        return []


def _look_later(event: Event, names: list[str]) -> None:
    for name in names:
        event.set_timer(f"{TIMER}:{name}", event.session.clock_ms)


def _end_waits(event: Event, name: str) -> None:
    """End the waits of an agent when it is too much to tell whether they close a cycle."""
    session, agent = event.session, event.session.agents.records[name]
    reason = (
        f"{name} waits for agents that wait for so many others that telling whether this is a "
        f"deadlock takes over {SEARCH_STEPS_MAX} steps: its waits have ended"
    )
    freed: list[str] = []
    for claim in session.waiting_claims(agent):
        event.direct(name, Cancel(reason, "LIMIT", resources=claim.wanted))
        freed += claims.drop(session, claim, agent)
    for on in agent.waits_for:
        event.direct(name, Cancel(reason, "LIMIT", dependency=on))
    for question_id in agent.asks:
        event.direct(name, Cancel(reason, "LIMIT", escalation=question_id))
    dependencies.withdraw(event, name, agent, agent.waits_for)
    escalation.withdraw(session, name, agent, agent.asks)
    session.agents.put(name, agent)
    update_status(session, name)
    if freed:
        claims.grant_next(event, freed)


def give_way(event: Event, asked: record.EscalationRecord) -> None:
    """End the wait of the member that a person has chosen."""
    session = event.session
    for name, kind, on in asked.cycle:
        agent = session.agents.get(name)
        if name != asked.decision or agent is None:
            continue
        reason = f"{asked.by} has decided that {name} gives way"
        if kind == DEPENDENCY:
            dependencies.withdraw(event, name, agent, [on])
            told = Cancel(reason, "DEADLOCK", dependency=on)
        elif kind == QUESTION:
            escalation.withdraw(session, name, agent, [on])
            told = Cancel(reason, "DEADLOCK", escalation=on)
        elif kind == BARRIER:
            told = Cancel(reason, "DEADLOCK", barrier=on)
            barriers.leave(event, name, is_failure=False)
        else:
            told = Cancel(reason, "DEADLOCK", resources=_end_claim(event, agent, on))
        update_status(session, name)
        session.agents.put(name, agent)
        event.direct(name, told)


def _end_claim(event: Event, agent: record.AgentRecord, on: str) -> list[str]:
    """End the waiting claim that a cycle named by its resources; return them."""
    for claim in event.session.claims_of(agent):
        wanted = claim.wanted
        if ", ".join(wanted) == on and not claim.token:
            claims.grant_next(event, claims.drop(event.session, claim, agent))
            return wanted
    return []


def _described(cycle: list[Link]) -> str:
    """Say which agent waits for what, in order, round to the first."""
    steps = [f"{link.agent} waits for {link.wait.on}" for link in cycle]
    return f"{listed(steps)}, which needs {cycle[0].agent}"


def _refuse_one(event: Event, graph: WaitGraph, cycle: list[Link], affected: list[str]) -> None:
    session = event.session

    def last_first(link: Link) -> tuple[int, int, int, str]:
        claim = session.claims.records[link.wait.claim]
        priority = session.agents.records[link.agent].priority
        return (priority, -claim.asked, -claim.place, link.agent)

    victim = min(cycle, key=last_first)
    agent = session.agents.records[victim.agent]
    claim = session.claims.records[victim.wait.claim]
    told = Cancel(
        f"deadlock: {_described(cycle)}",
        "DEADLOCK",
        resources=claim.wanted,
        cycle=[link.agent for link in cycle],
        affected=affected,
    )
    freed = claims.drop(session, claim, agent)
    event.direct(victim.agent, told)
    update_status(session, victim.agent)
    granted = claims.grant_next(event, freed)
    holders = [session.claims.records[claim_id].agent for claim_id in granted]
    graph.forget([victim.agent, *holders], victim.agent)


def _report(event: Event, cycle: list[Link], affected: list[str]) -> None:
    session = event.session
    members = [link.agent for link in cycle]
    steps = [(link.agent, link.wait.kind, link.wait.on) for link in cycle]
    for question_id in sorted(session.deadlocks):
        known = session.escalations.records[question_id]
        if set(known.cycle) == set(steps):
            _add_affected(event, question_id, known, affected)
            return
    told = [*members, *affected]
    text = f"Deadlock: {_described(cycle)}. Which agent gives way?"
    question = escalation.new_question(session, escalation.DEADLOCK, text, members, waiting=told)
    needed = [
        {"agent": link.agent, "waits": link.wait.kind, "on": link.wait.on, "needs": following}
        for link, following in zip(cycle, [*members[1:], members[0]], strict=True)
    ]
    question.context = Raw(msgspec.json.encode({"cycle": needed, "affected": affected}))
    question.cycle = steps
    escalation.ask(event, question, told=told)


def _add_affected(
    event: Event, question_id: str, known: record.EscalationRecord, affected: list[str]
) -> None:
    """Tell those that have come to be stuck behind a deadlock that was reported before."""
    new = sorted(set(affected).difference(known.waiting))
    if new:
        known.waiting = [*known.waiting, *new]
        event.session.escalations.put(question_id, known)
    for name in new:
        text = f"{name} is stuck behind this deadlock. {known.question}"
        event.derive(name, Escalate(text, id=question_id))
