"""The wait-for graph, the cycles in it, and what is done about them.

Nothing is kept of the graph: its edges follow from the records, so a wait that has ended is no
edge. The search starts from an agent that begins to wait and goes only as far as that can reach.
A wait for a dependency ends with any one of its producers; every other wait needs all agents that
it names. So an agent is *stuck* when one of its waits needs only agents that are stuck. With a
single producer for each dependency that is the cycle of the textbooks (Coffman, Elphick and
Shoshani, 1971); with several it is a knot in the AND-OR model (Knapp, "Deadlock Detection in
Distributed Databases", ACM Computing Surveys 19(4), 1987).

    what closes a cycle          what follows
    locks alone                  CANCEL to one member: the lowest priority, then the latest claim
    any other wait in it         ESCALATE to all members and all stuck behind; a person chooses
    a person's choice            CANCEL to that member: its wait ends
    the cycle comes apart        the question is closed; a new one is asked about the still stuck

A member whose claim is refused keeps what it holds, to give back in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import Raw

from fabric.core import barriers, claims, dependencies, escalation, record
from fabric.core.agent_status import in_force, is_at_work, update_status
from fabric.core.directive import Cancel
from fabric.core.event import ORCHESTRATOR, Event
from fabric.core.limits import CYCLES_MAX, EDGES_MAX, listed
from fabric.core.order import Place
from fabric.core.session import SessionState
from fabric.core.signal import Escalate

DEPENDENCY = "dependency"
LOCK = "lock"
QUESTION = "question"
BARRIER = "barrier"

#: Open questions about deadlocks: each is looked at after every event. More follow as these end.
QUESTIONS_MAX = 100


class Wait(NamedTuple):
    """One wait of an agent: any one of `agents` can end it. `claim` is the id, of a lock."""

    kind: str
    on: str
    agents: tuple[str, ...]
    claim: str = ""


#: Agents, and the waits of each.
Graph = dict[str, list[Wait]]

#: Resource → how far a search has looked through its queue, and what counts there (`_lock_waits`).
Queues = dict[str, tuple[int, list[Place]]]


class Need(NamedTuple):
    """What other agents need from one: the kind of their wait, on what, and the agents."""

    kind: str
    on: str
    waiting: tuple[str, ...]


class Link(NamedTuple):
    """One step of a cycle: an agent, and the wait by which it needs the next one."""

    agent: str
    wait: Wait


def waits(
    session: SessionState, name: str, *, brief: bool = False, queues: Queues | None = None
) -> list[Wait]:
    """Return an agent's waits, and the agents at work that can end each.

    `brief`: only the nearest of those before it in a queue. These need the others themselves, so
    the same agents can be reached, and the same are stuck. `queues` is kept for one search.
    """
    agent = session.agents.get(name)
    if agent is None or agent.status in record.ENDED:
        return []
    found: list[Wait] = []
    for on in agent.waits_for:
        producers = session.dependencies.records[on].producers
        found.append(Wait(DEPENDENCY, on, _at_work(session, producers)))
    for claim in session.waiting_claims(agent):
        found += _lock_waits(session, claim, {} if queues is None else queues, brief=brief)
    for question_id in agent.asks:
        question = session.escalations.get(question_id)
        if question is not None and question.is_open and question.to:
            found.append(Wait(QUESTION, question_id, _at_work(session, [question.to])))
    found += _barrier_waits(session, name, brief=brief)
    return [wait for wait in found if wait.agents]


def find_cycle(session: SessionState, start: str) -> list[Link] | None:
    """Return the cycle that an agent is in, or stuck behind; None when it can go on some day.

    A cycle through the agent itself comes first, beginning with it.
    """
    if start not in _stuck(_reachable(session, [start], brief=True)):
        return None
    graph = _reachable(session, [start])
    stuck = _stuck(graph)
    # An agent that also waits for something else counts as arrived at a barrier only for that
    # reason: prefer the cycle without the barrier.
    plain = {
        name: [wait for wait in found if wait.kind != BARRIER] or found
        for name, found in graph.items()
    }
    return (
        _cycle_through(_stuck_waits(plain, stuck), start)
        or _cycle_through(_stuck_waits(graph, stuck), start)
        or _cycle_behind(_stuck_waits(graph, stuck), start)
    )


def stuck_behind(session: SessionState, cycle: list[Link]) -> list[str]:
    """Name the agents that are stuck behind a cycle without being in it, sorted."""
    members = {link.agent for link in cycle}
    waiting = [
        name for name, agent in session.agents.records.items() if agent.status in record.HELD_UP
    ]
    graph = _reachable(session, waiting, brief=True)
    needed_by: dict[str, list[str]] = {}
    for name, found in _stuck_waits(graph, _stuck(graph)).items():
        for wait in found:
            for other in wait.agents:
                needed_by.setdefault(other, []).append(name)
    reached = set(members)
    left = list(members)
    while left:
        for name in needed_by.get(left.pop(), ()):
            if name not in reached:
                reached.add(name)
                left.append(name)
    return sorted(reached - members)


def is_still_there(
    session: SessionState, cycle: list[tuple[str, str, str]], stuck: set[str] | None = None
) -> bool:
    """Whether a cycle that was found earlier is one now; `stuck`: agents known to be stuck."""
    if stuck is None:
        stuck = _stuck(_reachable(session, [name for name, _, _ in cycle], brief=True))
    queues: Queues = {}
    for (name, kind, on), following in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
        if not any(
            (wait.kind, wait.on) == (kind, on) and following[0] in wait.agents
            for wait in waits(session, name, queues=queues)
            if stuck.issuperset(wait.agents)
        ):
            return False
    return True


def is_needed(session: SessionState, name: str) -> bool:
    """Whether any agent may wait for this one: otherwise no cycle goes through it."""
    agent = session.agents.records[name]
    produced = map(session.dependencies.get, agent.produces)
    questions = session.escalations.records.values()
    return (
        in_force(session)[1] is not None
        or any(dependency is not None and dependency.waiters for dependency in produced)
        or any(map(session.order.is_awaited, session.claims_of(agent)))
        or any(question.to == name and question.is_open for question in questions)
    )


def needs(session: SessionState, name: str) -> list[Need]:
    """Return what other agents wait for from an agent: its locks first, then what it produces."""
    agent = session.agents.records[name]
    found = [
        Need(LOCK, ", ".join(claim.wanted), session.order.waiting_agents(claim))
        for claim in session.claims_of(agent)
        if claim.state is record.ClaimState.HELD
    ]
    for on in agent.produces:
        output = session.dependencies.get(on)
        if output is not None and output.status is record.DependencyStatus.PENDING:
            found.append(Need(DEPENDENCY, on, tuple(one for one in output.waiters if one != name)))
    called, barrier = in_force(session)
    if barrier is not None:
        found.append(Need(BARRIER, called, _need_at_barrier(session, barrier, name)))
    for question_id, question in session.escalations.records.items():
        if question.to == name and question.is_open:
            askers = dict.fromkeys([question.asker, *question.waiting])
            waiting = [one for one in askers if is_at_work(session, one)]
            waiting = [one for one in waiting if question_id in session.agents.records[one].asks]
            found.append(Need(QUESTION, question_id, tuple(waiting)))
    return [need for need in found if need.waiting]


def _need_at_barrier(
    session: SessionState, barrier: record.BarrierRecord, name: str
) -> tuple[str, ...]:
    """Name the agents that a barrier holds until one arrives, or until it has integrated."""
    if barrier.state is record.BarrierState.INTEGRATING:
        held = [*barrier.arrived, *barrier.held] if name == barrier.leader else []
    else:
        is_missing = name in barrier.members and name not in barrier.arrived
        held = [barrier.leader, *barrier.arrived, *barrier.held] if is_missing else []
    return _at_work(session, held)


def _at_work(session: SessionState, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if is_at_work(session, name))


def _lock_waits(
    session: SessionState, claim: record.ClaimRecord, queues: Queues, *, brief: bool
) -> list[Wait]:
    """Return what a waiting claim needs: its holders, and the agents before it in other queues.

    An agent before it that waits for the same single thing, and for nothing else, needs just those
    holders, so it adds nothing: a search looks through a queue of thousands once. But when the
    claim's own agent has a part of that thing, or asked for one before, the two need each other.
    """
    found: dict[str, None] = {holder.agent: None for holder in session.order.blockers(claim)}
    can_skip = (
        len(claim.wanted) == 1
        and in_force(session)[1] is None
        and not session.order.overlaps_any(claim, session.agents.records[claim.agent].claims)
    )

    def counted(resource: str, queue: list[Place], upto: int) -> list[Place]:
        if not can_skip or resource != claim.wanted[0]:
            return queue
        known, places = queues.get(resource, (0, []))
        if upto > known:
            more = queue[known:upto]
            places += [place for place in more if not _is_simple(session, place, claim.wanted)]
            queues[resource] = upto, places
        return places

    before = session.order.ahead(claim, counted, is_nearest_only=brief)
    found.update((place.agent, None) for place in before)
    on = ", ".join(claim.wanted)
    return [Wait(LOCK, on, (name,), claim.id) for name in found]


def _is_simple(session: SessionState, place: Place, wanted: list[str]) -> bool:
    """Whether a claim waits for just this, and its agent for nothing else."""
    agent = session.agents.records[place.agent]
    is_same = session.claims.records[place.id].wanted == wanted and not agent.waits_for
    return is_same and not agent.asks and len(session.waiting_claims(agent)) == 1


def _barrier_waits(session: SessionState, name: str, *, brief: bool) -> list[Wait]:
    """Return the waits of an agent that a barrier holds: for its leader, and for the missing.

    The missing are at work, or they would have arrived: no cycle goes through them.
    """
    called, barrier = in_force(session)
    if barrier is None:
        return []
    is_leader = name == barrier.leader
    is_queued = not is_leader and any(
        other.leader == name and other.state is record.BarrierState.QUEUED
        for other in session.barriers.records.values()
    )
    is_in = name in barrier.arrived or name in barrier.held or is_queued
    if not is_in and not (is_leader and barrier.state is record.BarrierState.GATHERING):
        return []
    needed = [] if is_leader else [barrier.leader]
    if barrier.state is record.BarrierState.GATHERING and not brief:
        needed += [m for m in barrier.members if m not in barrier.arrived and m != name]
    return [Wait(BARRIER, called, (other,)) for other in _at_work(session, needed)]


def _reachable(session: SessionState, starts: Iterable[str], *, brief: bool = False) -> Graph:
    graph: Graph = {}
    left = list(starts)
    edges = 0
    queues: Queues = {}
    while left:
        name = left.pop()
        if name in graph:
            continue
        graph[name] = waits(session, name, brief=brief, queues=queues) if edges < EDGES_MAX else []
        edges += sum(len(wait.agents) for wait in graph[name])
        left += [other for wait in graph[name] for other in wait.agents if other not in graph]
    return graph


def _stuck(graph: Graph) -> set[str]:
    """Return the agents that can never go on: no chain of agents at work sets them free."""
    open_waits = {name: len(found) for name, found in graph.items()}
    ends: dict[str, list[tuple[str, int]]] = {}
    for name, found in graph.items():
        for number, wait in enumerate(found):
            for other in wait.agents:
                ends.setdefault(other, []).append((name, number))
    free = [name for name, count in open_waits.items() if not count]
    stuck = set(graph).difference(free)
    ended: set[tuple[str, int]] = set()
    while free:
        for end in ends.get(free.pop(), ()):
            if end in ended:
                continue
            ended.add(end)
            name = end[0]
            open_waits[name] -= 1
            if not open_waits[name]:
                stuck.discard(name)
                free.append(name)
    return stuck


def _stuck_waits(graph: Graph, stuck: set[str]) -> Graph:
    """Return the waits that no agent can end."""
    return {name: [wait for wait in graph[name] if stuck.issuperset(wait.agents)] for name in stuck}


def _cycle_through(graph: Graph, start: str) -> list[Link] | None:
    """Return the shortest cycle through an agent: breadth first, back to where it began."""
    came_by: dict[str, Link] = {}
    left = deque([start])
    while left:
        name = left.popleft()
        for wait in graph[name]:
            for other in wait.agents:
                if other == start:
                    links = [Link(name, wait)]
                    while links[-1].agent != start:
                        links.append(came_by[links[-1].agent])
                    return links[::-1]
                if other not in came_by:
                    came_by[other] = Link(name, wait)
                    left.append(other)
    return None


def _cycle_behind(graph: Graph, start: str) -> list[Link]:
    """Return a cycle that an agent is stuck behind: walk on until the walk meets itself."""
    walk: list[Link] = []
    seen: dict[str, int] = {}
    name = start
    while name not in seen:
        seen[name] = len(walk)
        wait = graph[name][0]
        walk.append(Link(name, wait))
        name = wait.agents[0]
    return walk[seen[name] :]


def check(event: Event, name: str) -> None:
    """An agent has begun to wait: break, or report, the cycle that this has closed."""
    session = event.session
    for _ in range(CYCLES_MAX):
        if not (session.deadlocks or is_needed(session, name)):
            return
        cycle = find_cycle(session, name)
        if cycle is None:
            return
        if any(link.wait.kind != LOCK for link in cycle):
            if len(session.deadlocks) < QUESTIONS_MAX:
                _report(event, cycle)
            return
        _refuse_one(event, cycle)


def close_gone(event: Event) -> None:
    """Close the questions about deadlocks that have come apart, and look for what is left."""
    session = event.session
    questions = {known: session.escalations.records[known] for known in sorted(session.deadlocks)}
    stuck: set[str] | None = None
    for question_id, question in questions.items():
        if stuck is None:  # one search for all, and another after each change
            named = [name for asked in questions.values() for name, _, _ in asked.cycle]
            stuck = _stuck(_reachable(session, named, brief=True))
        if question.is_open and not is_still_there(session, question.cycle, stuck):
            stuck = None
            named = question.waiting
            escalation.close(event, question_id, question, "the deadlock is gone", ORCHESTRATOR)
            check_again(event, named)


def check_again(event: Event, names: list[str]) -> None:
    """Ask again about agents that a closed question named and that another deadlock holds."""
    session = event.session
    left = _stuck(_reachable(session, names, brief=True)).intersection(names)
    while left:
        questions = [session.escalations.records[known] for known in sorted(session.deadlocks)]
        named = {name for question in questions for name in question.waiting}
        unnamed = [name for name in names if name in left and name not in named]
        if not unnamed:
            return
        # The question about the first also names all that are stuck with it.
        check(event, unnamed[0])
        left.discard(unnamed[0])


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


def _refuse_one(event: Event, cycle: list[Link]) -> None:
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
        affected=stuck_behind(session, cycle),
    )
    freed = claims.drop(session, claim, agent)
    event.direct(victim.agent, told)
    update_status(session, victim.agent)
    claims.grant_next(event, freed)


def _report(event: Event, cycle: list[Link]) -> None:
    session = event.session
    members = [link.agent for link in cycle]
    affected = stuck_behind(session, cycle)
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
