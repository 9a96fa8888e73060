"""Why an agent waits: the causes of each wait, followed from agent to agent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from difflib import get_close_matches

from fabric.core import agent_status, deadlock
from fabric.core.agent_status import in_force
from fabric.core.escalation import BARRIER
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.record import (
    AgentStatus,
    BarrierRecord,
    BarrierState,
    ClaimRecord,
    ClaimState,
    DependencyRecord,
    DependencyStatus,
    EscalationRecord,
    EscalationState,
)
from fabric.core.rules import BarrierPolicy
from fabric.ops.why.snapshot import (
    WIDTH_MAX,
    Cause,
    Snapshot,
    answering,
    line,
    names,
    open_question,
)

#: Agents explained below one another, and in all.
DEPTH_MAX = 6
AGENTS_MAX = 20


class WaitCauses:
    """Follows the waits of a session's agents."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._scene = snapshot
        self._session = snapshot.session
        self._explained: set[str] = set()
        self._barriers: set[str] = set()

    def waits(self, name: str, path: tuple[str, ...] = ()) -> list[Cause]:
        """Return a cause for each wait of an agent. `path` are those who wait for it."""
        snapshot, agent = self._scene, self._session.agents.get(name)
        if agent is None or not snapshot.is_at_work(name):
            return []
        self._explained.add(name)
        path = (*path, name)
        found = [self._dependency(name, on, path) for on in agent.waits_for]
        for claim_id in agent.claims:
            claim = self._session.claims.records[claim_id]
            if claim.state is ClaimState.WAITING:
                found.append(self._lock(name, claim_id, claim, path))
        for question_id in agent.asks:
            question = self._session.escalations.get(question_id)
            if question is not None and question.state is EscalationState.OPEN:
                found.append(self._question(name, question_id, question, path))
        held = barrier_waits(
            snapshot, name, self._barriers, lambda others, say: self._agents(others, path, say)
        )
        return [*_cut(found), *held]

    def _dependency(self, name: str, on: str, path: tuple[str, ...]) -> Cause:
        snapshot, dependency = self._scene, self._session.dependencies.get(on) or DependencyRecord()
        began = dependency.waiters.get(name, "")
        text = f"{name} has waited for {on} since {snapshot.of(began)}"
        cause = Cause("dependency", line(text), name, began, snapshot.log_index.time_of(began) or 0)
        at_work = [one for one in dependency.producers if snapshot.is_at_work(one)]
        if not at_work:
            self._nobody(on, dependency, cause)
            return cause
        makers = " or ".join(at_work[:WIDTH_MAX])
        cause.frees = f"goes on when {makers} resolves {on} (DEPENDENCY_RESOLVED) or completes"

        def relation(other: str) -> str:
            said = f"{other} has declared to produce {on}"
            return f"{said}. {snapshot.aware(other, ('NUDGE',), (on,))}"

        cause.children = self._agents(at_work, path, relation)
        return cause

    def _nobody(self, on: str, dependency: DependencyRecord, cause: Cause) -> None:
        """A wait that no agent at work can end."""
        snapshot = self._scene
        if dependency.status is DependencyStatus.FAILED:
            by, why = dependency.failed_by, dependency.error or "no reason given"
            text = f"{by} was to produce {on} and has failed: {why}"
            if dependency.retryable:
                text += " (it says that trying again may help)"
            again = f"{by} starts again and resolves it"
        else:
            ended = f": {names(dependency.producers)} has ended" if dependency.producers else ""
            text = f"nobody at work has declared to produce {on}{ended}"
            told = snapshot.log_index.told(cause.agent, "ESCALATE", on)
            if told is not None:
                text += f"; who waits was told so at {snapshot.when(told.ms, told.id)}"
            elif dependency.report_ms > snapshot.now_ms:
                text += f"; that is reported at {snapshot.at(dependency.report_ms)}"
            again = f'an agent starts that declares it (STARTED with produces ["{on}"])'
        end = self._end_of(dependency.failed_by)
        cause.frees = f"goes on when {again}, or anybody sends DEPENDENCY_RESOLVED for {on}"
        cause.children = [Cause("nobody", line(text), dependency.failed_by, *end)]
        made = [k for k, other in self._session.dependencies.records.items() if other.producers]
        for near in get_close_matches(on, [other for other in made if other != on], n=1):
            producers = self._session.dependencies.records[near].producers
            hint = f"is {near} meant? {names(producers)} has declared to produce that"
            cause.children.append(Cause("note", line(hint)))

    def _end_of(self, name: str) -> tuple[str, int]:
        end = self._scene.log_index.life(name).end if name else None
        return (end.fact.id, end.fact.ms) if end is not None else ("", 0)

    def _lock(self, name: str, claim_id: str, claim: ClaimRecord, path: tuple[str, ...]) -> Cause:
        snapshot, order = self._scene, self._session.order
        wanted = names([*claim.writes, *claim.reads])
        asked = f"{claim.asked}-0"
        before, first = order.position(claim_id, claim)
        place = "is next in line"
        if before:
            shown = list(dict.fromkeys(one.agent for one in first))[:WIDTH_MAX]
            more = f" and {before - len(shown)} more" if before > len(shown) else ""
            place = f"is number {before + 1} in line, behind {', '.join(shown)}{more}"
        when = snapshot.when(claim.asked_ms, asked)
        finder = snapshot.log_index.conflicts.get(asked)
        text = f"{name} asked for {wanted} at {when} and {place}"
        if finder is not None:
            text = f"{name} {place} for {wanted}: {finder} saw a conflict there at {when}"
        cause = Cause("lock", line(text), name, asked, claim.asked_ms)
        holders: dict[str, ClaimRecord] = {}
        for holder_id in order.blockers(claim_id, claim):
            holder = self._session.claims.records[holder_id]
            holders.setdefault(holder.agent, holder)
        ahead = dict.fromkeys(one.agent for one in order.before(claim_id, claim))
        others = [*holders, *(one for one in ahead if one not in holders)]
        if holders:
            # Who only stands in the same line is named above, and adds nothing.
            others = [one for one in others if one in holders or self._has_more(one, claim)]
        cause.frees = line(self._way_out(holders, names(others), is_first=not before))

        def relation(other: str) -> str:
            holder = holders.get(other)
            if holder is None:
                return f"{other} stands before it in line"
            has = names([*holder.writes, *holder.reads])
            told = snapshot.aware(other, ("NUDGE", "PAUSE"), [*claim.writes, *claim.reads])
            return f"{other} has held {has} since {snapshot.granted(holder)}. {told}"

        cause.children = self._agents(others, path, relation)
        return cause

    def _way_out(self, holders: dict[str, ClaimRecord], others: str, *, is_first: bool) -> str:
        """Say what would give an agent its turn."""
        if not holders:
            return f"goes on when those before it have had their turn: {others}"
        ends = [self._scene.silent_until(one) for one in holders] if len(holders) == 1 else []
        ends += [
            f"it is taken back, at {self._scene.at(one.expires_ms)}"
            for one in holders.values()
            if one.expires_ms
        ]
        told = f"goes on when {names(list(holders))} gives it back (RELEASE), ends"
        told += "".join(f", or {end}" for end in ends if end)
        return told if is_first else f"{told}; and those before it have had their turn"

    def _has_more(self, name: str, claim: ClaimRecord) -> bool:
        """Whether an agent waits for anything but what a claim is for."""
        agent, wanted = self._session.agents.records[name], {*claim.writes, *claim.reads}
        waiting = [self._session.claims.records[one] for one in agent.claims]
        return bool(agent.waits_for or agent.asks) or any(
            one.state is ClaimState.WAITING and not wanted.issuperset([*one.writes, *one.reads])
            for one in waiting
        )

    def _question(
        self, name: str, question_id: str, question: EscalationRecord, path: tuple[str, ...]
    ) -> Cause:
        snapshot = self._scene
        asked = snapshot.when(question.asked_ms, question.cause)
        text = f"{name} waits for the answer to question {question_id}, asked at {asked}"
        cause = Cause("question", line(text), name, question.cause, question.asked_ms)
        if question.to:
            cause.frees = f"goes on when {question.to}, or a person, answers (DECIDED)"

            def relation(other: str) -> str:
                told = snapshot.aware(other, ("ESCALATE",), (question_id,))
                return f'{other} is asked: "{question.question}". {told}'

            cause.children = self._agents([question.to], path, relation)
        else:
            cause.frees = "goes on when somebody answers"
            cause.children = [open_question(snapshot, question_id, question)]
        return cause

    def _agents(self, others: list[str], path: tuple[str, ...], relation: Relation) -> list[Cause]:
        """Return a cause for each agent that is needed, and why that one does not go on."""
        found = []
        for other in others[:WIDTH_MAX]:
            text = f"{relation(other)}. {self._scene.standing(other)}"
            cause = Cause("agent", line(text), other)
            found.append(cause)
            if other in path:
                circle = " → ".join([*path[path.index(other) :], other])
                way_out = "" if deadlock.find(self._session, other) else "; others can open it"
                cause.text = line(f"{relation(other)}. That closes the circle: {circle}{way_out}")
                cause.kind = "cycle"
            elif other in self._explained:
                if not self._scene.is_active(other):
                    cause.text += " (see where it comes up first)"
            elif len(path) >= DEPTH_MAX or len(self._explained) >= AGENTS_MAX:
                cause.text += f" (go on with: fabric why {other})"
            else:
                cause.children = self.waits(other, path)
        return _more(found, len(others))


def _more(found: list[Cause], count: int) -> list[Cause]:
    """Say how many more there are."""
    if count > len(found):
        found.append(Cause("note", f"and {count - len(found)} more"))
    return found


def _cut(found: list[Cause]) -> list[Cause]:
    return _more(found[:WIDTH_MAX], len(found))


#: What an agent has to do with a wait, in words.
Relation = Callable[[str], str]

#: Returns a cause for each of these agents, and why that one does not go on.
Follow = Callable[[list[str], Relation], list[Cause]]

#: What happens at a barrier's deadline.
_POLICIES = {
    BarrierPolicy.WAIT: "a person is asked whether to go on waiting",
    BarrierPolicy.RELEASE: "the others go on without them",
    BarrierPolicy.FAIL: "the integration is called off",
}


def barrier_waits(
    snapshot: Snapshot, name: str, explained: set[str], follow: Follow
) -> list[Cause]:
    """Return a cause for each barrier that an agent waits at, or waits to lead.

    One that is `explained` is only named; what is explained here is added.
    """
    found: list[Cause] = []
    current = in_force(snapshot.session)
    if current is not None and (name, BarrierState.INTEGRATING) == (
        current[1].leader,
        current[1].state,
    ):
        return found  # it may go on, whatever it has called besides
    is_held = current is not None and _is_held(name, current[1])
    if current is not None and is_held:
        found.append(_held_at(snapshot, name, *current, explained, follow))
    for called, barrier in snapshot.session.barriers.records.items():
        if current is None or barrier.state is not BarrierState.QUEUED or barrier.leader != name:
            continue
        log = f"{barrier.called}-0"
        said = snapshot.when(barrier.called_ms, log)
        text = f"{name} called the barrier {called} at {said}; {current[0]} is in force before it"
        frees = f"begins when {current[0]} is over"
        found.append(Cause("barrier", line(text), name, log, barrier.called_ms, line(frees)))
        if not is_held:
            found.append(_held_at(snapshot, name, *current, explained, follow))
    return found


def _held_at(
    snapshot: Snapshot,
    name: str,
    called: str,
    barrier: BarrierRecord,
    explained: set[str],
    follow: Follow,
) -> Cause:
    log = f"{barrier.called}-0"
    by = f"called by {barrier.leader or 'the rule file'} at {snapshot.when(barrier.called_ms, log)}"
    cause = Cause("barrier", "", name, log, barrier.called_ms)
    if called in explained:
        cause.text = line(
            f"{_place(snapshot, name, called, barrier)} (see where it comes up first)"
        )
        return cause
    explained.add(called)
    place = f"{_place(snapshot, name, called, barrier)} ({by})"
    if barrier.state is BarrierState.INTEGRATING:
        cause.text = line(place)
        cause.frees = line(f"goes on when {barrier.leader} says INTEGRATED, or ends")
        told = snapshot.log_index.told(barrier.leader, "PROCEED", called)
        since = f" since {snapshot.when(told.ms, told.id)}" if told is not None else ""
        relation = f"all have arrived; {barrier.leader} has been integrating{since}"
        cause.children = follow([barrier.leader], lambda _: relation)
        return cause
    missing = agent_status.missing(barrier)
    count = f"{len(barrier.arrived)} of {len(barrier.members)} have arrived"
    cause.text = line(f"{place}; {count}, missing: {names(missing)}")
    cause.frees = _way_out(snapshot, name, barrier, missing)
    others = [one for one in missing if one != name]
    cause.children = follow(others, lambda other: _missing(snapshot, called, other))
    cause.children.append(_deadline(snapshot, called, barrier))
    return cause


def _place(snapshot: Snapshot, name: str, called: str, barrier: BarrierRecord) -> str:
    if name == barrier.leader:
        return f"{name} leads the barrier {called} and waits until all have arrived"
    if name in barrier.held:
        return f"{name} came while the barrier {called} was in force, and is held until it ends"
    if name in barrier.arrived:
        when = snapshot.at(barrier.arrived[name])
        return f"{name} arrived at the barrier {called} at {when} and is held there"
    return f"{name} has to wait until the barrier {called} is over"


def _way_out(snapshot: Snapshot, name: str, barrier: BarrierRecord, missing: list[str]) -> str:
    frees = f"goes on when {names(missing)} reaches a checkpoint (CHECKPOINT_REACHED), "
    frees += "begins to wait, ends"
    silent = snapshot.silent_until(missing[0]) if len(missing) == 1 else ""
    frees += f", or {silent}" if silent else ""
    if name != barrier.leader and snapshot.is_at_work(barrier.leader):
        frees += f"; and {barrier.leader} has integrated"
    return line(frees)


def _missing(snapshot: Snapshot, called: str, other: str) -> str:
    told = snapshot.log_index.told(other, "PAUSE", called)
    if told is None:
        return f"{other} has not arrived. It was not told of the barrier"
    when = snapshot.when(told.ms, told.id)
    return f"{other} has not arrived. It was told of the barrier at {when}" + snapshot.has_read(
        other, told
    )


def _deadline(snapshot: Snapshot, called: str, barrier: BarrierRecord) -> Cause:
    at = snapshot.at(barrier.deadline_ms)
    for question_id, question in reversed(snapshot.session.escalations.records.items()):
        if question.subject != BARRIER or question.about != called:
            continue
        if question.state is EscalationState.OPEN:
            return open_question(snapshot, question_id, question)
        if question.asked_ms >= barrier.called_ms:
            when = snapshot.at(question.decided_ms)
            text = f"its deadline was {at}; {question.by} decided at {when}: {question.decision}"
            return Cause("note", line(text), at_ms=question.decided_ms)
    if not barrier.deadline_ms:
        return Cause("note", "it has no deadline")
    policy = _POLICIES[snapshot.rules.barrier_policy]
    text = f"its deadline is {at}: then the missing are named, and {policy}"
    return Cause("note", text, at_ms=barrier.deadline_ms)


def _is_held(name: str, barrier: BarrierRecord) -> bool:
    """Whether a barrier in force keeps an agent from going on."""
    is_gathering = barrier.state is BarrierState.GATHERING
    is_leader = name == barrier.leader and is_gathering
    return is_leader or name in barrier.arrived or name in barrier.held


#: Kind of a wait → how it is said.
_WAITS = {
    deadlock.DEPENDENCY: "for",
    deadlock.LOCK: "for",
    deadlock.QUESTION: "for the answer to question",
    deadlock.BARRIER: "at the barrier",
}

#: Agents looked at to find out whom it is up to in the end.
REACH_MAX = 1_000


def deadlocked(snapshot: Snapshot, name: str) -> list[Cause]:
    """Return the deadlock that keeps an agent from ever going on by itself, if there is one."""
    session = snapshot.session
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
            asked = open_question(snapshot, question_id, question)
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


def up_to(snapshot: Snapshot, name: str) -> list[str]:
    """Walk the whole graph of waits to its ends: whom, or what, it is up to."""
    session = snapshot.session
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
            heard = snapshot.ago(agent.seen_ms)
            found[f"{one}, at work as far as it has said, last heard of {heard}"] = None
    for question_id in _about_barriers(snapshot, seen):
        question = session.escalations.records[question_id]
        found[f"a person: {answering(question_id, question)}"] = None
    for question_id in sorted(session.deadlocks):
        question = session.escalations.records[question_id]
        if seen.intersection(member for member, _, _ in question.cycle):
            found[f"a person: {answering(question_id, question)}"] = None
    shown = list(found)[:WIDTH_MAX]
    more = len(found) - len(shown)
    return [*shown, *([f"and {more} more"] if more > 0 else [])]


def _about_barriers(snapshot: Snapshot, agents: set[str]) -> list[str]:
    """Name the open questions about a barrier that holds one of these agents."""
    current = in_force(snapshot.session)
    if current is None or agents.isdisjoint([current[1].leader, *current[1].members]):
        return []
    return [
        question_id
        for question_id, question in snapshot.session.escalations.records.items()
        if question.subject == BARRIER
        and question.about == current[0]
        and question.state is EscalationState.OPEN
    ]
