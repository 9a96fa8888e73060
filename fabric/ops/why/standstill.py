"""Where the chains of waits end: at agents at work, at questions, or in a deadlock."""

from __future__ import annotations

from collections import deque

from fabric.core import deadlock
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.question import BARRIER
from fabric.core.record import AgentStatus, EscalationState
from fabric.core.standing import in_force
from fabric.ops.why.scene import WIDTH_MAX, Cause, Scene, answering, line, names, open_question

#: Kind of a wait → how it is said.
_WAITS = {
    deadlock.DEPENDENCY: "for",
    deadlock.LOCK: "for",
    deadlock.QUESTION: "for the answer to question",
    deadlock.BARRIER: "at the barrier",
}

#: Agents looked at to find out whom it is up to in the end.
REACH_MAX = 1_000


def deadlocked(scene: Scene, name: str) -> list[Cause]:
    """Return the deadlock that keeps an agent from ever going on by itself, if there is one."""
    session = scene.session
    cycle = deadlock.find(session, name)
    if cycle is None:
        return []
    members = [link.agent for link in cycle]
    where = "is part of" if name in members else "is stuck behind"
    text = f"{name} {where} a deadlock: {circle(cycle)}. None of them can go on by itself"
    cause = Cause("cycle", line(text), name)
    for question_id in sorted(session.deadlocks):
        question = session.escalations.records[question_id]
        if not set(members).isdisjoint(member for member, _, _ in question.cycle):
            asked = open_question(scene, question_id, question)
            asked.frees += "; whoever gives way has its wait ended (CANCEL)"
            cause.log, cause.at_ms = question.cause, question.asked_ms
            cause.children = [asked]
    affected = [one for one in deadlock.behind(session, cycle) if one != name]
    if affected:
        verb = "is" if len(affected) == 1 else "are"
        text = f"{names(affected)} {verb} stuck behind it"
        cause.children = [*cause.children, Cause("note", line(text))]
    return [cause]


def circle(cycle: list[deadlock.Link]) -> str:
    """Say who waits for what, in order, round to the first."""
    steps = [f"{agent} waits {_WAITS[wait.kind]} {wait.on}" for agent, wait in cycle]
    more = len(steps) - NAMES_SHOWN_MAX
    shown = ", ".join(steps[:NAMES_SHOWN_MAX]) + (f", and {more} more" if more > 0 else "")
    return f"{shown}, which needs {cycle[0].agent}"


def up_to(scene: Scene, name: str) -> list[str]:
    """Walk the whole graph of waits to its ends: whom, or what, it is up to."""
    session = scene.session
    found: dict[str, None] = {}
    seen, left = {name}, deque([name])
    while left and len(seen) <= REACH_MAX:
        one = left.popleft()
        agent = session.agents.records[one]
        waits = deadlock.waits(session, one)
        answered = {wait.on for wait in waits}
        for on in agent.waits_for:
            if on not in answered:
                found[f"whoever can make {on}: nobody at work has declared to"] = None
        for question_id in agent.asks:
            question = session.escalations.get(question_id)
            if question_id in answered or question is None:
                continue
            if question.state is EscalationState.OPEN:
                found[f"a person: {answering(question_id, question)}"] = None
        for other in [other for wait in waits for other in wait.agents]:
            if other not in seen:
                seen.add(other)
                left.append(other)
        # Also one that is paused and needs nobody: the leader of a barrier that calls the next one.
        if agent.status is AgentStatus.ACTIVE or not (waits or agent.waits_for or agent.asks):
            heard = scene.ago(agent.seen_ms)
            found[f"{one}, at work as far as it has said, last heard of {heard}"] = None
    for question_id in _about_barriers(scene, seen):
        question = session.escalations.records[question_id]
        found[f"a person: {answering(question_id, question)}"] = None
    for question_id in sorted(session.deadlocks):
        question = session.escalations.records[question_id]
        if seen.intersection(member for member, _, _ in question.cycle):
            found[f"a person: {answering(question_id, question)}"] = None
    shown = list(found)[:WIDTH_MAX]
    more = len(found) - len(shown)
    return [*shown, *([f"and {more} more"] if more > 0 else [])]


def _about_barriers(scene: Scene, agents: set[str]) -> list[str]:
    """Name the open questions about a barrier that holds one of these agents."""
    current = in_force(scene.session)
    if current is None or agents.isdisjoint([current[1].leader, *current[1].members]):
        return []
    return [
        question_id
        for question_id, question in scene.session.escalations.records.items()
        if question.subject == BARRIER
        and question.about == current[0]
        and question.state is EscalationState.OPEN
    ]
