"""Why an agent is where it is, and what would free it, from the log alone (design, section 5).

The session is rebuilt from its log by running the rules over it; `LogIndex` keeps of the same log
what was said when. From the two follows a tree of causes: the agent's own waits, whom each needs,
and why that one does not go on. One fact is asked of Redis: who has read what (`cursors`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from fabric.core import agent_status
from fabric.core.agent_status import in_force
from fabric.core.record import ENDED, AgentRecord, AgentStatus, ClaimState, EscalationState
from fabric.errors import NotFoundError
from fabric.ops.log import pages
from fabric.ops.replay import Replay, Until
from fabric.ops.why.log_index import LogIndex
from fabric.ops.why.snapshot import (
    WIDTH_MAX,
    Cause,
    Snapshot,
    answering,
    line,
    names,
    open_question,
    said_of,
    waits,
)
from fabric.ops.why.wait_causes import WaitCauses, deadlocked, up_to
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore
from fabric.view.text import clock


class Explanation(Struct):
    """The answer: where an agent stands, the causes, whom it is up to, and how it came there."""

    session: str
    #: When that was opened: times are shown since then.
    opened_ms: int
    agent: str
    status: str
    text: str
    causes: list[Cause]
    #: In the end it is up to these: agents at work, questions, things that nobody makes.
    up_to: list[str]
    refused: list[Cause]
    #: Newest first.
    history: list[Cause]


async def why(
    store: ClientStore,
    keys: SessionKeys,
    agent: str,
    stop: Until | None = None,
    note: Callable[[int], None] | None = None,
) -> Explanation:
    """Explain an agent, as it is or as it was at `stop`.

    `note` hears of the number of events read, now and then. Raises NotFoundError for an unknown
    session or agent, and DivergedError when the log is not what the rules make of it.
    """
    replay, log_index = Replay(keys, stop), LogIndex()
    if not await _read(store, keys, replay, log_index, note):
        raise NotFoundError(f"no session {keys.name}: nothing was logged under {keys.log}")
    session = replay.session
    cursors: dict[str, bytes] = {}
    now_ms = session.clock_ms
    if stop is None:
        now_ms = max(now_ms, round(time.time() * 1000))
        (stored,) = await store.hashes([keys.cursors])
        cursors = {name.decode("utf-8", "replace"): place for name, place in stored.items()}
    return explain(Snapshot(session, replay.rules, log_index, now_ms, cursors), agent)


async def _read(
    store: ClientStore,
    keys: SessionKeys,
    replay: Replay,
    log_index: LogIndex,
    note: Callable[[int], None] | None,
) -> bool:
    """Read the log as far as it is wanted; say whether there is one."""
    found = False
    async for page in pages(store, keys, BEGINNING):
        found = True
        for entry in page:
            if not replay.take(entry):
                return True
            log_index.take(entry)
        replay.delivered.clear()
        if note is not None:
            note(replay.session.log)
    replay.finish()
    return found


def explain(snapshot: Snapshot, name: str) -> Explanation:
    """Return the answer for an agent. Raises NotFoundError for one that is not known."""
    agent = snapshot.session.agents.get(name)
    life = snapshot.log_index.life(name)
    if agent is None:
        reasons = "".join(f"; it was refused: {fact.words}" for fact in life.refused)
        known = names(sorted(snapshot.session.agents.records)) or "none"
        reason = f"no agent {name} in session {snapshot.session.name}{reasons}; agents: {known}"
        raise NotFoundError(line(reason))
    waits = WaitCauses(snapshot).waits(name)
    if len(waits) > 1:
        text = f"{name} waits for more than one thing: it goes on when all of these waits are over"
        waits.insert(0, Cause("note", line(text), name))
    causes = [*deadlocked(snapshot, name), *waits]
    responsible = up_to(snapshot, name) if causes else []
    if agent.status in ENDED:
        causes += ended(snapshot, name, agent)
    elif not causes:
        causes += going(snapshot, name, agent)
    causes += [
        *kept_out(snapshot, name, agent),
        *holds(snapshot, name, agent),
        *due(snapshot, name),
    ]
    return Explanation(
        snapshot.session.name,
        snapshot.session.opened_ms,
        name,
        agent.status.value,
        _head(snapshot, name, agent),
        causes,
        responsible,
        [said_of(snapshot, fact, "refused") for fact in reversed(life.refused)],
        [said_of(snapshot, fact, "history") for fact in snapshot.log_index.history(name)],
    )


def _head(snapshot: Snapshot, name: str, agent: AgentRecord) -> str:
    words = snapshot.standing(name, name)
    if agent.incarnation > 1:
        words += f"; this is its incarnation {agent.incarnation}"
    return line(words)


def explanation_lines(answer: Explanation) -> list[str]:
    """Return an explanation as lines for a person."""
    lines = [answer.text]
    if answer.up_to:
        lines.append(f"In the end it is up to {'; '.join(answer.up_to)}")
    lines.append("")
    for cause in answer.causes:
        lines += _tree(cause, "")
    if answer.refused:
        lines += ["", "Refused lately", *_rows(answer.refused, answer.opened_ms)]
    if answer.history:
        lines += ["", "How it came there, newest first", *_rows(answer.history, answer.opened_ms)]
    return lines


def _tree(cause: Cause, indent: str) -> list[str]:
    lines = [indent + cause.text]
    if cause.frees:
        lines.append(f"{indent}  → {cause.frees}")
    for child in cause.children:
        lines += _tree(child, f"{indent}  ")
    return lines


def _rows(causes: list[Cause], opened_ms: int) -> list[str]:
    width = max(len(cause.log) for cause in causes)
    lines = []
    for cause in causes:
        # The signal that a directive to the same agent answers is printed right above it.
        because = "".join(
            f"  (of {child.log})" if child.agent == cause.agent else f"  ({child.text})"
            for child in cause.children
        )
        time = clock(cause.at_ms, opened_ms)
        lines.append(f"  {time:>5}  {cause.log:<{width}}  {cause.text}{because}")
    return lines


def ended(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """With which signal it ended, what followed, and how it comes back."""
    end = snapshot.log_index.life(name).end
    log, ms = (end.fact.id, end.fact.ms) if end is not None else ("", agent.seen_ms)
    when = snapshot.when(ms, log)
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
    task = snapshot.session.tasks.get(agent.task) if agent.task else None
    if task is not None and task.agent == name and task.status in ("pending", "offered"):
        text = f"its task {agent.task} is not done: {task.status} to whoever has capacity"
        cause.children.append(Cause("note", line(text)))
    return [cause]


def going(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """Nothing holds it: what it was last told, and why."""
    told = snapshot.log_index.last_told(name)
    silent = snapshot.silent_until(name)
    text = f"nothing holds {name}: it is at work, as far as it has said"
    cause = Cause("told", line(text), name, frees=f"when it stays silent it {silent}")
    if told is None:
        cause.children.append(Cause("note", "it has been told nothing so far"))
    else:
        cause.log, cause.at_ms = told.id, told.ms
        last = said_of(snapshot, told, "told")
        last.text = line(f"it was last told, at {snapshot.when(told.ms, told.id)}: {last.text}")
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
    life = snapshot.log_index.life(name)
    if agent.incarnation > 1 and life.started is not None:
        text = f"incarnation {agent.incarnation} started at {snapshot.when(agent.started_ms)}"
        if life.end is not None:
            before = life.end.fact
            text += (
                f"; the one before ended at {snapshot.when(before.ms, before.id)}: {before.words}"
            )
        cause.children.append(Cause("note", line(text)))
    return [cause]


def kept_out(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """The breaker: an agent that keeps dying needs a person's word to start again."""
    question = snapshot.session.escalations.get(agent.breaker) if agent.breaker else None
    if question is None:
        return []
    if question.state is EscalationState.OPEN:
        text = f"{name} may not start again: it has died in silence {agent.silent_deaths} times"
        frees = f"may start again after: {answering(agent.breaker, question)}"
        asked = [open_question(snapshot, agent.breaker, question)]
        log, ms = question.cause, question.asked_ms
        return [Cause("kept-out", line(text), name, log, ms, frees, asked)]
    when = snapshot.when(question.decided_ms)
    text = (
        f"{question.by} decided at {when}, of whether {name} may start again: {question.decision}"
    )
    return [Cause("kept-out", line(text), name, "", question.decided_ms)]


def holds(snapshot: Snapshot, name: str, agent: AgentRecord) -> list[Cause]:
    """What it holds, and who waits for that."""
    found = []
    order, claims = snapshot.session.order, snapshot.session.claims.records
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
        text = f"{name} has held {resources} since {snapshot.granted(claim)}"
        if waiting:
            text += f", and {waits(waiting)} for it"
        found.append(Cause("holds", line(text), name, "", claim.granted_ms))
    more = len(found) - WIDTH_MAX
    return [*found[:WIDTH_MAX], *([Cause("note", f"and {more} more")] if more > 0 else [])]


def due(snapshot: Snapshot, name: str) -> list[Cause]:
    """Who waits for what it is to do: produce, answer, arrive, integrate."""
    found = []
    agent = snapshot.session.agents.records[name]
    if agent.status in ENDED:
        return []
    for on in agent.produces:
        dependency = snapshot.session.dependencies.get(on)
        if dependency is not None and dependency.waiters:
            found.append(f"{waits(list(dependency.waiters))} for {on}, which it is to produce")
    for question_id, question in snapshot.session.escalations.records.items():
        if question.to == name and question.state is EscalationState.OPEN:
            found.append(f"{question.asker} waits for its answer to question {question_id}")
    current = in_force(snapshot.session)
    if current is not None:
        called, barrier = current
        if name in agent_status.missing(barrier):
            who = list(barrier.arrived) or [barrier.leader or "the rule file"]
            found.append(f"{waits(who)} for it at the barrier {called}")
    causes = [Cause("awaited", line(text), name) for text in found[:WIDTH_MAX]]
    more = len(found) - WIDTH_MAX
    return [*causes, *([Cause("note", f"and {more} more")] if more > 0 else [])]
