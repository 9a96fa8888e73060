"""Why an agent is in its present state, and what would unblock it, from the log alone.

The session is rebuilt by running the rules over its log once more; a `LogIndex` keeps what was said
when. From the two follows a tree of causes: the agent's waits, the agents that could end them, and
why those do not. Only one fact comes from Redis: who has read which messages (`cursors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from msgspec import Struct

from fabric.core.agent_status import in_force, missing
from fabric.core.copies import to_merge
from fabric.core.record import ENDED, AgentRecord, AgentStatus, ClaimState, EscalationState
from fabric.errors import NotFoundError
from fabric.ops.replay import Until, rebuild
from fabric.ops.why.snapshot import Cause, LogIndex, Snapshot, line, logged, names, shortened
from fabric.ops.why.wait_causes import WaitCauses, deadlock_of, unblockers
from fabric.store.keys import SessionKeys
from fabric.store.port import Readable
from fabric.view.text import clock


class Explanation(Struct):
    """The answer to `fabric why`."""

    session: str
    #: When the session was opened, ms: times are printed relative to it.
    opened_ms: int
    agent: str
    status: str
    text: str
    causes: list[Cause]
    #: The ends of all chains of waits: working agents, open questions, missing producers.
    up_to: list[str]
    refused: list[Cause]
    #: Newest first.
    history: list[Cause]


async def why(
    store: Readable, keys: SessionKeys, agent: str, stop: Until | None = None
) -> Explanation:
    """Explain an agent's state now, or at `stop`.

    Raises NotFoundError for an unknown session or agent, and DivergedError when the log contradicts
    the rules.
    """
    log_index = LogIndex()
    replay = await rebuild(store, keys, stop, also=log_index.take)
    session = replay.session
    cursors: dict[str, bytes] = {}
    now_ms = session.clock_ms
    if stop is None:
        now_ms = max(now_ms, await store.now_ms(keys.log))
        (stored,) = await store.hashes([keys.cursors])
        cursors = {name.decode("utf-8", "replace"): place for name, place in stored.items()}
    return explain(Snapshot(session, replay.rules, log_index, now_ms, cursors), agent)


def explain(snapshot: Snapshot, name: str) -> Explanation:
    """Return the explanation of an agent. Raises NotFoundError for an unknown agent."""
    session, log_index = snapshot.session, snapshot.log_index
    agent = session.agents.get(name)
    refused = log_index.history_of(name).refused
    if agent is None and session.roster.get(name) is not None:
        return _not_come(snapshot, name)
    if agent is None:
        reasons = "".join(f"; it was refused: {entry.words}" for entry in refused)
        known = names(sorted(session.agents.records)) or "none"
        text = f"no agent {name} in session {session.name}{reasons}; agents: {known}"
        raise NotFoundError(line(text))
    waits = WaitCauses(snapshot).waits(name)
    if len(waits) > 1:
        text = "waits for more than one thing: it continues when all of these waits are over"
        waits.insert(0, Cause("note", f"{name} {text}", name))
    causes = [*deadlock_of(snapshot, name), *waits]
    ends = unblockers(snapshot, name) if causes else []
    if agent.status in ENDED:
        causes.append(_ended(snapshot, name, agent))
    elif not causes:
        causes.append(_working(snapshot, name, agent))
    causes += map(snapshot.unanswered, snapshot.doubts(name))
    for more in (_kept_out, _holds, _awaited, _to_merge):
        causes += more(snapshot, name, agent)
    text = snapshot.status(name, name)
    if agent.incarnation > 1:
        text += f"; this is its incarnation {agent.incarnation}"
    head = (session.name, session.opened_ms, name, agent.status.value, line(text))
    refusals = [logged(entry, "refused") for entry in reversed(refused)]
    history = [logged(entry, "history") for entry in log_index.history(name)]
    return Explanation(*head, causes, ends, refusals, history)


def _not_come(snapshot: Snapshot, name: str) -> Explanation:
    """Explain an agent that is expected: who waits for it to come."""
    session = snapshot.session
    one = session.roster.records[name]
    status = "awaited" if one.is_awaited else "absent"
    text = "the run is not over before it has come and ended"
    frees = "its first signal ends the wait"
    if one.until_ms and one.is_awaited:
        frees += f"; at {snapshot.when(one.until_ms)} it is named, and nobody waits any longer"
    if not one.is_awaited:
        text, frees = "nobody waits for it any longer", "it may still come"
    causes = [Cause("expected", text, name, frees=frees)]
    called, barrier = in_force(session)
    if barrier is not None and name in missing(barrier):
        causes.append(Cause("awaited", f"the barrier {called} waits for it too", name))
    head = (session.name, session.opened_ms, name, status, snapshot.absence(name, name))
    return Explanation(*head, causes, [], [], [])


def _ended(snapshot: Snapshot, name: str, agent: AgentRecord) -> Cause:
    """Explain an agent that has ended: how, what followed, and how it can come back."""
    end = snapshot.log_index.history_of(name).end
    log, ms = (end.entry.id, end.entry.ms) if end else ("", agent.seen_ms)
    when = snapshot.when(ms, log)
    if agent.status is AgentStatus.DEAD:
        text = f"{name} was declared dead at {when}: {agent.error}"
    elif agent.status is AgentStatus.FAILED:
        text = f"{name} ended with FAILED at {when}: {agent.error or 'no reason given'}"
    else:
        text = f"{name} ended with COMPLETED at {when}"
    back = "can come back with STARTED and a higher incarnation"
    cause = Cause("end", text, name, log, ms, f"{back}; until then its signals are refused")
    if agent.unmet:
        cause.children.append(Cause("note", f"it was still waiting for {names(agent.unmet)}"))
    if agent.lost:
        cause.children.append(Cause("note", f"it held {names(agent.lost)}: released"))
    if end:
        cause.children += [
            Cause("note", f"then, in {one.id}: {one.words}", one.to, one.id, one.ms)
            for one in end.follows
        ]
        if end.count > len(end.follows):
            cause.children.append(Cause("note", f"and {end.count - len(end.follows)} more"))
    task = snapshot.session.tasks.get(agent.task) if agent.task else None
    if task is not None and task.agent == name and task.status in ("pending", "offered"):
        text = f"its task {agent.task} is not done: {task.status} to any agent with capacity"
        cause.children.append(Cause("note", text))
    return cause


def _working(snapshot: Snapshot, name: str, agent: AgentRecord) -> Cause:
    """Explain an agent that waits for nothing: what it was last told, and why."""
    told = snapshot.log_index.last_told(name)
    text = f"{name} waits for nothing: it is working, as far as it has reported"
    if stuck := snapshot.stuck(name):
        text = f"{name} waits for nothing; it has sent {stuck}"
    cause = Cause("told", text, name, frees=f"if it stays silent, it {snapshot.death_of(name)}")
    if told is None:
        cause.children = [Cause("note", "it has been told nothing so far")]
    else:
        cause.log, cause.at_ms = told.id, told.ms
        last = logged(told, "told")
        last.text = line(f"it was last told, at {snapshot.when(told.ms, told.id)}: {last.text}")
        cause.children = [last]
        some = names([*map(str, told.payload.get("resources") or ())])
        if told.type == "PAUSE" and some:
            last.text = line(f"{last.text} ({some})")
        affected = told.payload.get("affected")
        if told.payload.get("code") == "DEADLOCK" and isinstance(affected, list) and affected:
            stuck = f"stuck behind that deadlock: {names([*map(str, affected)])}"
            last.children.append(Cause("note", stuck))
        if told.type == "CANCEL" and some and told.payload.get("reason"):
            text = f"it may ask for {some} again after it has released what others wait for"
            last.children.append(Cause("note", text))
    history = snapshot.log_index.history_of(name)
    if agent.incarnation > 1 and history.started is not None:
        text = f"incarnation {agent.incarnation} started at {snapshot.when(agent.started_ms)}"
        if history.end is not None:
            ended = history.end.entry
            text += f"; the one before ended at {snapshot.when(ended.ms, ended.id)}: {ended.words}"
        cause.children.append(Cause("note", text))
    return cause


def _kept_out(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """Explain the breaker: an agent that keeps dying needs a person's permission to start."""
    question = snapshot.session.escalations.get(agent.breaker) if agent.breaker else None
    if question is None:
        return []
    if question.state is EscalationState.OPEN:
        text = f"{name} may not start again: it has died in silence {agent.silent_deaths} times"
        frees = f"may start again after: {snapshot.decide_command(agent.breaker)}"
        asked = snapshot.unanswered(agent.breaker)
        return [Cause("kept-out", text, name, asked.log, asked.at_ms, frees, [asked])]
    when = snapshot.when(question.decided_ms)
    text = f"{question.by} decided at {when} whether {name} may start again: {question.decision}"
    return [Cause("kept-out", text, name, "", question.decided_ms)]


def _waiting(several: Sequence[str]) -> str:
    return f"{names(several)} {'waits' if len(several) == 1 else 'wait'}"


def _holds(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """Return what an agent holds, and which agents wait for it."""
    found = []
    order, claims = snapshot.session.order, snapshot.session.claims.records
    for claim_id in agent.claims:
        claim = claims[claim_id]
        if claim.state is not ClaimState.HELD:
            continue
        resources = [*claim.writes, *claim.reads]
        overlapping = chain.from_iterable(map(order.overlapping, resources))
        places = sorted(chain.from_iterable(map(order.queue, overlapping)))
        waiting = list(dict.fromkeys(place.agent for place in places if place.agent != name))
        text = f"{name} has held {names(resources)} since {snapshot.granted(claim)}"
        if waiting:
            text += f", and {_waiting(waiting)} for it"
        found.append(Cause("holds", text, name, "", claim.granted_ms))
    return shortened(found)


def _to_merge(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """Return what others have written in copies of their own, and what git makes of it."""
    found = []
    for resource, one in to_merge(snapshot.session.written.records).items():
        for pair in one.pairs:
            agents = [one.copies[where] for where in pair]
            if name not in agents:
                continue
            both, is_conflict = " and ".join(agents), one.found.get(pair)
            text = f"{both} have written {resource}, each in a copy: nobody has tried to merge it"
            frees = "tried when one gives it back, if both copies are on that host"
            if is_conflict is not None:
                text = f"git {'cannot' if is_conflict else 'can'} merge {resource} of {both}"
                frees = "tried again when one of them has written and given it back again"
            found.append(Cause("merge", text, name, frees=f"{frees}; INTEGRATED settles it"))
    return shortened(found)


def _awaited(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """Return what others wait for this agent to do: produce, answer, arrive, integrate."""
    session = snapshot.session
    if agent.status in ENDED:
        return []
    found = []
    for on in agent.produces:
        dependency = session.dependencies.get(on)
        if dependency is not None and dependency.waiters:
            found.append(f"{_waiting([*dependency.waiters])} for {on}, which it is to produce")
    for question_id, question in session.escalations.records.items():
        if question.to == name and question.state is EscalationState.OPEN:
            found.append(f"{question.asker} waits for its answer to question {question_id}")
    called, barrier = in_force(session)
    if barrier is not None and name in missing(barrier):
        waiting = _waiting([*barrier.arrived] or [barrier.leader or "the rule file"])
        found.append(f"{waiting} for it at the barrier {called}")
    return shortened([Cause("awaited", text, name) for text in found])


def explanation_lines(answer: Explanation) -> list[str]:
    """Return an explanation as lines for a person."""
    lines = [answer.text]
    if answer.up_to:
        lines.append(f"It depends on {'; '.join(answer.up_to)}")
    lines.append("")
    for cause in answer.causes:
        lines += _tree(cause, "")
    if answer.refused:
        lines += ["", "Refused recently", *_rows(answer.refused, answer.opened_ms)]
    if answer.history:
        lines += ["", "What happened, newest first", *_rows(answer.history, answer.opened_ms)]
    return lines


def _tree(cause: Cause, indent: str) -> list[str]:
    lines = [indent + cause.text]
    if cause.frees:
        lines.append(f"{indent}  → {cause.frees}")
    for child in cause.children:
        lines += _tree(child, f"{indent}  ")
    return lines


def _rows(rows: list[Cause], opened_ms: int) -> list[str]:
    width = max(len(cause.log) for cause in rows)
    lines = []
    for cause in rows:
        # The signal that a directive to the same agent answers is printed right above it.
        because = "".join(
            f"  (of {child.log})" if child.agent == cause.agent else f"  ({child.text})"
            for child in cause.children
        )
        at = clock(cause.at_ms, opened_ms)
        lines.append(f"  {at:>5}  {cause.log:<{width}}  {cause.text}{because}")
    return lines
