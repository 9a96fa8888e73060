"""An agent that waits for nothing: it has ended, or is at work; what it holds, and who needs it."""

from __future__ import annotations

from fabric.core import standing
from fabric.core.record import ENDED, Agent, AgentStatus, ClaimState, EscalationState
from fabric.core.standing import in_force
from fabric.ops.why.scene import (
    WIDTH_MAX,
    Cause,
    Scene,
    answering,
    line,
    names,
    open_question,
    said_of,
    waits,
)


def ended(scene: Scene, name: str, agent: Agent) -> list[Cause]:
    """With which signal it ended, what followed, and how it comes back."""
    end = scene.chronicle.life(name).end
    log, ms = (end.fact.id, end.fact.ms) if end is not None else ("", agent.seen_ms)
    when = scene.when(ms, log)
    if agent.status is AgentStatus.DEAD:
        text = f"{name} was given up for dead at {when}: {agent.error}"
    elif agent.status is AgentStatus.FAILED:
        text = f"{name} ended with FAILED at {when}: {agent.error or 'no reason given'}"
    else:
        text = f"{name} ended with COMPLETED at {when}"
    frees = (
        "speaks again after STARTED with a higher incarnation; until then all it says is refused"
    )
    cause = Cause("end", line(text), name, log, ms, frees)
    if agent.lost:
        cause.children.append(Cause("note", line(f"it held {names(agent.lost)}: given back")))
    if end is not None:
        cause.children += [
            Cause("note", line(f"then, in {fact.id}: {fact.words}"), fact.to, fact.id, fact.ms)
            for fact in end.follows
        ]
        if end.count > len(end.follows):
            cause.children.append(Cause("note", f"and {end.count - len(end.follows)} more"))
    task = scene.session.tasks.get(agent.task) if agent.task else None
    if task is not None and task.agent == name and task.status in ("pending", "offered"):
        text = f"its task {agent.task} is not done: {task.status} to whoever has capacity"
        cause.children.append(Cause("note", line(text)))
    return [cause]


def going(scene: Scene, name: str, agent: Agent) -> list[Cause]:
    """Nothing holds it: what it was last told, and why."""
    told = scene.chronicle.last_told(name)
    silent = scene.silent_until(name)
    text = f"nothing holds {name}: it is at work, as far as it has said"
    cause = Cause("told", line(text), name, frees=f"when it stays silent it {silent}")
    if told is None:
        cause.children.append(Cause("note", "it has been told nothing so far"))
    else:
        cause.log, cause.at_ms = told.id, told.ms
        last = said_of(scene, told, "told")
        last.text = line(f"it was last told, at {scene.when(told.ms, told.id)}: {last.text}")
        cause.children.append(last)
        reason = told.payload.get("reason")
        if told.type == "PAUSE" and told.payload.get("resources"):
            paused = names([str(one) for one in told.payload["resources"]])
            last.text = line(f"{last.text} ({paused})")
        affected = told.payload.get("affected")
        if told.payload.get("code") == "DEADLOCK" and isinstance(affected, list) and affected:
            stuck = f"stuck behind that deadlock: {names([str(one) for one in affected])}"
            last.children.append(Cause("note", line(stuck)))
        if told.type == "CANCEL" and reason and told.payload.get("resources"):
            wanted = names([str(one) for one in told.payload["resources"]])
            text = f"it may ask for {wanted} again once it has given back what others wait for"
            last.children.append(Cause("note", line(text)))
    life = scene.chronicle.life(name)
    if agent.incarnation > 1 and life.started is not None:
        text = f"incarnation {agent.incarnation} started at {scene.when(agent.started_ms)}"
        if life.end is not None:
            before = life.end.fact
            text += f"; the one before ended at {scene.when(before.ms, before.id)}: {before.words}"
        cause.children.append(Cause("note", line(text)))
    return [cause]


def kept_out(scene: Scene, name: str, agent: Agent) -> list[Cause]:
    """The breaker: an agent that keeps dying needs a person's word to start again."""
    question = scene.session.escalations.get(agent.breaker) if agent.breaker else None
    if question is None:
        return []
    if question.state is EscalationState.OPEN:
        text = f"{name} may not start again: it has died in silence {agent.silent_deaths} times"
        frees = f"may start again after: {answering(agent.breaker, question)}"
        asked = [open_question(scene, agent.breaker, question)]
        log, ms = question.cause, question.asked_ms
        return [Cause("kept-out", line(text), name, log, ms, frees, asked)]
    when = scene.when(question.decided_ms)
    text = (
        f"{question.by} decided at {when}, of whether {name} may start again: {question.decision}"
    )
    return [Cause("kept-out", line(text), name, "", question.decided_ms)]


def holds(scene: Scene, name: str, agent: Agent) -> list[Cause]:
    """What it holds, and who waits for that."""
    found = []
    order, claims = scene.session.order, scene.session.claims.records
    for claim_id in agent.claims:
        claim = claims[claim_id]
        if claim.state is not ClaimState.HELD:
            continue
        places = [
            place
            for resource in [*claim.writes, *claim.reads]
            for other in order.overlapping(resource)
            for place in order.queue(other)
            if place.agent != name
        ]
        waiting = list(dict.fromkeys(place.agent for place in sorted(places)))
        resources = names([*claim.writes, *claim.reads])
        text = f"{name} has held {resources} since {scene.granted(claim)}"
        if waiting:
            text += f", and {waits(waiting)} for it"
        found.append(Cause("holds", line(text), name, "", claim.granted_ms))
    more = len(found) - WIDTH_MAX
    return [*found[:WIDTH_MAX], *([Cause("note", f"and {more} more")] if more > 0 else [])]


def due(scene: Scene, name: str) -> list[Cause]:
    """Who waits for what it is to do: produce, answer, arrive, integrate."""
    found = []
    agent = scene.session.agents.records[name]
    if agent.status in ENDED:
        return []
    for on in agent.produces:
        dependency = scene.session.dependencies.get(on)
        if dependency is not None and dependency.waiters:
            found.append(f"{waits(list(dependency.waiters))} for {on}, which it is to produce")
    for question_id, question in scene.session.escalations.records.items():
        if question.to == name and question.state is EscalationState.OPEN:
            found.append(f"{question.asker} waits for its answer to question {question_id}")
    current = in_force(scene.session)
    if current is not None:
        called, barrier = current
        if name in standing.missing(barrier):
            who = list(barrier.arrived) or [barrier.leader or "the rule file"]
            found.append(f"{waits(who)} for it at the barrier {called}")
    causes = [Cause("awaited", line(text), name) for text in found[:WIDTH_MAX]]
    more = len(found) - WIDTH_MAX
    return [*causes, *([Cause("note", f"and {more} more")] if more > 0 else [])]
