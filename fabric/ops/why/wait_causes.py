"""Why an agent waits: each wait, the agents that could end it, and what those wait for in turn.

There is one method for each kind of wait. An agent is explained once: where it comes up again, the
chain ends. If it is then among the agents that wait for this one, the cycle is named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from difflib import get_close_matches

from fabric.core import record, wait_graph
from fabric.core.agent_status import in_force, integration, is_at_work, missing
from fabric.core.escalation import BARRIER
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.policy import BarrierPolicy
from fabric.ops.why.snapshot import WIDTH_MAX, Cause, Snapshot, line, names, shortened

#: Agents explained below one another, and in all.
DEPTH_MAX = 6
AGENTS_MAX = 20

#: Agents visited to find the ends of all chains of waits.
REACH_MAX = 1_000

#: What happens at a barrier's deadline.
_POLICIES = {
    BarrierPolicy.WAIT: "a person is asked whether to wait longer",
    BarrierPolicy.RELEASE: "the others continue without them",
    BarrierPolicy.FAIL: "the integration is cancelled",
}

#: Kind of a wait → the words before what is waited for.
_WAITS = {
    wait_graph.DEPENDENCY: "for",
    wait_graph.LOCK: "for",
    wait_graph.QUESTION: "for the answer to question",
    wait_graph.BARRIER: "at the barrier",
}


class WaitCauses:
    """Follows the waits of a session's agents."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot, self._session = snapshot, snapshot.session
        self._agents: set[str] = set()
        self._barriers: set[str] = set()

    def waits(self, name: str, path: tuple[str, ...] = ()) -> list[Cause]:
        """Return a cause for each wait of an agent; the agents in `path` wait for it."""
        agent = self._session.agents.get(name)
        if agent is None or not is_at_work(self._session, name):
            return []
        self._agents.add(name)
        path = (*path, name)
        found = [self._dependency(name, on, path) for on in agent.waits_for]
        for claim_id in agent.claims:
            claim = self._session.claims.records[claim_id]
            if claim.state is record.ClaimState.WAITING:
                found.append(self._lock(name, claim, path))
        for question_id in filter(self._snapshot.is_open, agent.asks):
            found.append(self._question(name, question_id, path))
        return [*shortened(found), *self._at_barriers(name, path)]

    def _needed(
        self, others: list[str], path: tuple[str, ...], relation: Callable[[str], str]
    ) -> list[Cause]:
        """Return a cause for each agent that is needed, and below it what that agent waits for.

        `relation` returns a sentence that says what the agent has to do with the wait.
        """
        found = []
        for other in others[:WIDTH_MAX]:
            said = relation(other)
            cause = Cause("agent", f"{said}. {self._snapshot.status(other)}", other)
            found.append(cause)
            if other in path:
                cycle = " → ".join([*path[path.index(other) :], other])
                is_deadlock = wait_graph.WaitGraph(self._session).find_cycle(other) is not None
                way_out = "" if is_deadlock else "; other agents can break it"
                cause.kind = "cycle"
                cause.text = line(f"{said}. This closes a cycle: {cycle}{way_out}")
            elif other in self._agents:
                agent = self._session.agents.get(other)
                if agent is None or agent.status is not record.AgentStatus.ACTIVE:
                    cause.text += " (explained above)"
            elif len(path) >= DEPTH_MAX or len(self._agents) >= AGENTS_MAX:
                cause.text += f" (continue with: fabric why {other})"
            else:
                doubts = map(self._snapshot.unanswered, self._snapshot.doubts(other))
                cause.children = [*doubts, *self.waits(other, path)]
        return shortened(found, len(others))

    def _dependency(self, name: str, on: str, path: tuple[str, ...]) -> Cause:
        snapshot = self._snapshot
        dependency = self._session.dependencies.get(on) or record.DependencyRecord()
        began = dependency.waiters.get(name, "")
        began_ms = snapshot.log_index.time_of(began)
        since = began if began_ms is None else snapshot.when(began_ms, began)
        text = f"{name} has waited for {on} since {since}"
        cause = Cause("dependency", text, name, began, began_ms or 0)
        if dependency.until_ms:
            cause.frees = f"continues at {snapshot.when(dependency.until_ms)}, when the quota ends"
            return cause
        producers = [one for one in dependency.producers if is_at_work(self._session, one)]
        if not producers:
            self._without_producer(on, dependency, cause)
            return cause
        some = " or ".join(producers[:WIDTH_MAX])
        cause.frees = f"continues when {some} resolves {on} (DEPENDENCY_RESOLVED) or completes"
        cause.children = self._needed(
            producers,
            path,
            lambda other: (
                f"{other} has declared that it produces {on}. "
                + snapshot.aware(other, ("NUDGE",), (on,))
            ),
        )
        return cause

    def _without_producer(self, on: str, dependency: record.DependencyRecord, cause: Cause) -> None:
        """Explain a wait that no active agent has said it can end."""
        snapshot = self._snapshot
        if dependency.status is record.DependencyStatus.FAILED:
            by, why = dependency.failed_by, dependency.error or "no reason given"
            text = f"{by} was to produce {on} and has failed: {why}"
            if dependency.retryable:
                text += " (it says that a retry may help)"
            producer = f"{by} starts again and resolves it"
        else:
            ended = f": {names(dependency.producers)} has ended" if dependency.producers else ""
            text = f"no active agent has declared that it produces {on}{ended}"
            told = snapshot.log_index.told(cause.agent, "ESCALATE", on)
            if told is not None:
                text += f"; the agents that wait were told at {snapshot.when(told.ms, told.id)}"
            elif dependency.report_ms > snapshot.now_ms:
                text += f"; this is reported at {snapshot.when(dependency.report_ms)}"
            producer = f'an agent starts that declares it (STARTED with produces ["{on}"])'
        end = snapshot.log_index.history_of(dependency.failed_by).end
        log, at_ms = (end.entry.id, end.entry.ms) if end else ("", 0)
        cause.frees = f"continues when {producer}, or any agent sends DEPENDENCY_RESOLVED for {on}"
        cause.children = [Cause("nobody", text, dependency.failed_by, log, at_ms)]
        cause.children += snapshot.asked(dependency.question)
        records = self._session.dependencies.records
        others = [other for other, one in records.items() if one.producers and other != on]
        for near in get_close_matches(on, others, n=1):
            hint = f"was {near} meant? {names(records[near].producers)} has declared that"
            cause.children.append(Cause("note", hint))

    def _lock(self, name: str, claim: record.ClaimRecord, path: tuple[str, ...]) -> Cause:
        snapshot, order = self._snapshot, self._session.order
        wanted = [*claim.writes, *claim.reads]
        asked = f"{claim.asked}-0"
        before, first = order.position(claim)
        place = "is next in line"
        if before:
            shown = list(dict.fromkeys(one.agent for one in first))[:WIDTH_MAX]
            more = f" and {before - len(shown)} more" if before > len(shown) else ""
            place = f"is number {before + 1} in line, behind {', '.join(shown)}{more}"
        when = snapshot.when(claim.asked_ms, asked)
        finder = snapshot.log_index.conflicts.get(asked)
        text = f"{name} asked for {names(wanted)} at {when} and {place}"
        if finder is not None:
            text = f"{name} {place} for {names(wanted)}: {finder} reported a conflict at {when}"
        cause = Cause("lock", text, name, asked, claim.asked_ms)
        holders: dict[str, record.ClaimRecord] = {}
        for holder in order.blockers(claim):
            holders.setdefault(holder.agent, holder)
        others = list(dict.fromkeys([*holders, *(one.agent for one in order.ahead(claim))]))
        if holders:
            # An agent that is only in the same line is named above; it would add nothing here.
            others = [one for one in others if one in holders or self._waits_elsewhere(one, wanted)]
        barrier, leader = integration(self._session.barriers.records)
        if leader not in ("", name):
            text = f"{leader} integrates {barrier}: nobody else is granted anything until then"
            cause.children.append(Cause("note", text))
        if holders or others:
            cause.frees = line(self._end_of_lock(holders, names(others), is_first=not before))
        elif barrier:
            cause.frees = line(f"continues when {leader} has integrated {barrier} (INTEGRATED)")

        def relation(other: str) -> str:
            holder = holders.get(other)
            if holder is None:
                return f"{other} is ahead of it in line"
            has = names([*holder.writes, *holder.reads])
            told = snapshot.aware(other, ("NUDGE", "PAUSE"), wanted)
            return f"{other} has held {has} since {snapshot.granted(holder)}. {told}"

        cause.children += self._needed(others, path, relation)
        return cause

    def _end_of_lock(
        self, holders: dict[str, record.ClaimRecord], others: str, *, is_first: bool
    ) -> str:
        """Return what would give an agent its turn."""
        if not holders:
            return f"continues after the agents ahead in line have had their turn: {others}"
        ends = [self._snapshot.death_of(one) for one in holders] if len(holders) == 1 else []
        limits = [one.expires_ms for one in holders.values() if one.expires_ms]
        ends += [f"it is taken back, at {self._snapshot.when(limit_ms)}" for limit_ms in limits]
        text = f"continues when {names(list(holders))} releases it (RELEASE), ends"
        text += "".join(f", or {end}" for end in ends if end)
        return text if is_first else f"{text}; and after the agents ahead have had their turn"

    def _waits_elsewhere(self, name: str, wanted: list[str]) -> bool:
        """Whether an agent waits for anything but these resources."""
        agent = self._session.agents.records[name]
        claims = [self._session.claims.records[one] for one in agent.claims]
        return bool(agent.waits_for or agent.asks) or any(
            one.state is record.ClaimState.WAITING and {*one.writes, *one.reads} - {*wanted}
            for one in claims
        )

    def _question(self, name: str, question_id: str, path: tuple[str, ...]) -> Cause:
        snapshot, question = self._snapshot, self._session.escalations.records[question_id]
        asked = snapshot.when(question.asked_ms, question.cause)
        text = f"{name} waits for the answer to question {question_id}, asked at {asked}"
        cause = Cause("question", text, name, question.cause, question.asked_ms)
        if not question.to:
            cause.frees = "continues when somebody answers"
            cause.children = [snapshot.unanswered(question_id)]
            return cause
        cause.frees = f"continues when {question.to}, or a person, answers (DECIDED)"
        told = snapshot.aware(question.to, ("ESCALATE",), (question_id,))
        relation = f'{question.to} was asked: "{question.question}". {told}'
        cause.children = self._needed([question.to], path, lambda _: relation)
        return cause

    def _at_barriers(self, name: str, path: tuple[str, ...]) -> list[Cause]:
        """Return a cause for each barrier that an agent waits at, or waits to lead."""
        called, barrier = in_force(self._session)
        if barrier is None:
            return []
        is_leader = name == barrier.leader
        if is_leader and barrier.state is record.BarrierState.INTEGRATING:
            return []  # it may continue, even if it has called the next barrier too
        is_held = name in barrier.arrived or name in barrier.held
        is_held |= is_leader and barrier.state is record.BarrierState.GATHERING
        found = [self._barrier(name, called, barrier, path)] if is_held else []
        frees = line(f"begins when {called} is over")
        for other, queued in self._session.barriers.records.items():
            if queued.state is not record.BarrierState.QUEUED or queued.leader != name:
                continue
            log = f"{queued.called}-0"
            when = self._snapshot.when(queued.called_ms, log)
            text = f"{name} called the barrier {other} at {when}; {called} comes before it"
            found.append(Cause("barrier", text, name, log, queued.called_ms, frees))
            if not is_held:
                found.append(self._barrier(name, called, barrier, path))
        return found

    def _barrier(
        self, name: str, called: str, barrier: record.BarrierRecord, path: tuple[str, ...]
    ) -> Cause:
        """Explain the barrier in force to an agent that it holds, or else only name it again."""
        snapshot, log = self._snapshot, f"{barrier.called}-0"
        place = self._place(name, called, barrier)
        cause = Cause("barrier", "", name, log, barrier.called_ms)
        if called in self._barriers:
            cause.text = line(f"{place} (explained above)")
            return cause
        self._barriers.add(called)
        when = snapshot.when(barrier.called_ms, log)
        place += f" (called by {barrier.leader or 'the rule file'} at {when})"
        if barrier.state is record.BarrierState.INTEGRATING:
            cause.text = line(place)
            cause.frees = line(f"continues when {barrier.leader} sends INTEGRATED, or ends")
            told = snapshot.log_index.told(barrier.leader, "PROCEED", called)
            since = f" since {snapshot.when(told.ms, told.id)}" if told is not None else ""
            relation = f"all have arrived; {barrier.leader} has been integrating{since}"
            cause.children = self._needed([barrier.leader], path, lambda _: relation)
            return cause
        absent = missing(barrier)
        count = f"{len(barrier.arrived)} of {len(barrier.members)} have arrived"
        cause.text = line(f"{place}; {count}, missing: {names(absent)}")
        cause.frees = self._end_of_barrier(name, barrier, absent)
        others = [one for one in absent if one != name]
        cause.children = self._needed(others, path, lambda other: self._absent(called, other))
        cause.children.append(self._deadline(called, barrier))
        return cause

    def _place(self, name: str, called: str, barrier: record.BarrierRecord) -> str:
        if name == barrier.leader:
            return f"{name} leads the barrier {called} and waits until all have arrived"
        if name in barrier.held:
            began = f"started while the barrier {called} was in force"
            return f"{name} {began}, and is held until it ends"
        if name in barrier.arrived:
            when = self._snapshot.when(barrier.arrived[name])
            return f"{name} arrived at the barrier {called} at {when} and is held there"
        return f"{name} has to wait until the barrier {called} is over"

    def _end_of_barrier(self, name: str, barrier: record.BarrierRecord, absent: list[str]) -> str:
        reached = "reaches a checkpoint (CHECKPOINT_REACHED), begins to wait, ends"
        text = f"continues when {names(absent)} {reached}"
        if len(absent) == 1 and (death := self._snapshot.death_of(absent[0])):
            text += f", or {death}"
        if name != barrier.leader and is_at_work(self._session, barrier.leader):
            text += f"; and {barrier.leader} has integrated"
        return line(text)

    def _absent(self, called: str, other: str) -> str:
        told = self._snapshot.log_index.told(other, "PAUSE", called)
        if other not in self._session.agents:
            return f"{other} has not arrived"
        if told is None:
            return f"{other} has not arrived. It was not told of the barrier"
        when = self._snapshot.when(told.ms, told.id)
        is_read = self._snapshot.has_read(other, told)
        return f"{other} has not arrived. It was told of the barrier at {when}{is_read}"

    def _deadline(self, called: str, barrier: record.BarrierRecord) -> Cause:
        at = self._snapshot.when(barrier.deadline_ms)
        for question_id, question in reversed(self._session.escalations.records.items()):
            if question.subject != BARRIER or question.about != called:
                continue
            if question.state is record.EscalationState.OPEN:
                return self._snapshot.unanswered(question_id)
            if question.asked_ms >= barrier.called_ms:
                decided = f"{question.by} decided at {self._snapshot.when(question.decided_ms)}"
                text = f"the deadline was {at}; {decided}: {question.decision}"
                return Cause("note", text, at_ms=question.decided_ms)
        if not barrier.deadline_ms:
            return Cause("note", "it has no deadline")
        policy = _POLICIES[self._snapshot.rules.barrier_policy]
        text = f"the deadline is {at}: then the missing agents are named, and {policy}"
        return Cause("note", text, at_ms=barrier.deadline_ms)


def deadlock_of(snapshot: Snapshot, name: str) -> list[Cause]:
    """Return the deadlock that an agent is part of or stuck behind, if there is one."""
    session = snapshot.session
    graph = wait_graph.WaitGraph(session)
    cycle = graph.find_cycle(name)
    if cycle is None:
        return []
    members = [link.agent for link in cycle]
    where = "is part of" if name in members else "is stuck behind"
    text = f"{name} {where} a deadlock: {_described(cycle)}. None of them can continue on its own"
    cause = Cause("cycle", text, name)
    for question_id in sorted(session.deadlocks):
        question = session.escalations.records[question_id]
        if not set(members).isdisjoint(member for member, _, _ in question.cycle):
            asked = snapshot.unanswered(question_id)
            asked.frees += "; the agent that gives way gets CANCEL, and its wait ends"
            cause.log, cause.at_ms = question.cause, question.asked_ms
            cause.children = [asked]
    if affected := [one for one in graph.stuck_behind(cycle) if one != name]:
        verb = "is" if len(affected) == 1 else "are"
        cause.children.append(Cause("note", f"{names(affected)} {verb} stuck behind it"))
    return [cause]


def _described(cycle: list[wait_graph.Link]) -> str:
    steps = [f"{agent} waits {_WAITS[wait.kind]} {wait.on}" for agent, wait in cycle]
    more = len(steps) - NAMES_SHOWN_MAX
    shown = ", ".join(steps[:NAMES_SHOWN_MAX]) + (f", and {more} more" if more > 0 else "")
    return f"{shown}, which needs {cycle[0].agent}"


def unblockers(snapshot: Snapshot, name: str) -> list[str]:
    """Follow all waits to their ends; return what would unblock the agent: agents, questions …"""
    session = snapshot.session
    found: dict[str, None] = {}
    graph = wait_graph.WaitGraph(session)

    def ask(question_id: str) -> None:
        found[f"a person: {snapshot.decide_command(question_id)}"] = None

    called, barrier = in_force(session)
    absent = [one for one in missing(barrier) if one not in session.agents] if barrier else []
    seen, left = {name}, deque([name])
    while left and len(seen) <= REACH_MAX:
        one = left.popleft()
        agent = session.agents.records[one]
        waits = graph.waits(one)
        answered = {wait.on for wait in waits}
        for on in agent.waits_for:
            if on not in answered:
                found[f"an agent that produces {on}: none has declared that it does"] = None
                dependency = session.dependencies.get(on)
                if dependency is not None and snapshot.is_open(dependency.question):
                    ask(dependency.question)
        for question_id in filter(snapshot.is_open, agent.asks):
            if question_id not in answered:
                ask(question_id)
        new = [other for wait in waits for other in wait.agents if other not in seen]
        left += dict.fromkeys(new)
        seen.update(new)
        # A paused agent that needs nobody counts too: the leader of a barrier that calls the next.
        is_held_up = waits or agent.waits_for or agent.asks or absent
        if agent.status is record.AgentStatus.ACTIVE or not is_held_up:
            heard = f"last heard of {snapshot.ago(agent.seen_ms)}"
            stuck = snapshot.stuck(one)
            how = f"has sent {stuck}" if stuck else "is working as far as it has reported"
            found[f"{one}, which {how}, {heard}"] = None
            for question_id in snapshot.doubts(one):
                ask(question_id)
    if barrier is not None and seen.intersection([barrier.leader, *barrier.members]):
        found |= {f"{one}, which is expected and has not come": None for one in absent}
        for question_id, question in session.escalations.records.items():
            is_about = (question.subject, question.about) == (BARRIER, called)
            if is_about and snapshot.is_open(question_id):
                ask(question_id)
    for question_id in sorted(session.deadlocks):
        question = session.escalations.records[question_id]
        if seen.intersection(member for member, _, _ in question.cycle):
            ask(question_id)
    more = len(found) - WIDTH_MAX
    return [*list(found)[:WIDTH_MAX], *([f"and {more} more"] if more > 0 else [])]
