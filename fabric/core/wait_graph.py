"""The wait-for graph: which agents can end each wait of an agent, and which can never go on.

Nothing is kept of the graph: its edges follow from the records, so a wait that has ended is no
edge. A search starts from an agent that begins to wait and goes only as far as that can reach.
A wait for a dependency ends with any one of its producers; every other wait needs all agents that
it names. So an agent is *stuck* when one of its waits needs only agents that are stuck. With a
single producer for each dependency that is the cycle of the textbooks (Coffman, Elphick and
Shoshani, 1971); with several it is a knot in the AND-OR model (Knapp, "Deadlock Detection in
Distributed Databases", ACM Computing Surveys 19(4), 1987).

A search counts its steps: edges, and places in queues. `Order.measure` bounds them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from fabric.core import record
from fabric.core.agent_status import in_force, is_at_work
from fabric.core.order import Place
from fabric.core.session import SessionState

DEPENDENCY = "dependency"
LOCK = "lock"
QUESTION = "question"
BARRIER = "barrier"


class Wait(NamedTuple):
    """One wait of an agent: any one of `agents` can end it.

    Of a lock, `claim` is the id of the waiting claim; the agent holds it, or is before it in a
    queue (`is_ahead`).
    """

    kind: str
    on: str
    agents: tuple[str, ...]
    claim: str = ""
    is_ahead: bool = False


class Need(NamedTuple):
    """What other agents need from one: the kind of their wait, on what, and the agents."""

    kind: str
    on: str
    waiting: tuple[str, ...]


class Link(NamedTuple):
    """One step of a cycle: an agent, and the wait by which it needs the next one."""

    agent: str
    wait: Wait


class WaitGraph:
    """The waits of a session's agents, each looked up once; the session must not change meanwhile.

    After a claim was dropped it can be used on: see `forget`. All methods raise CostlyError when
    the session's `order` measures, and there is too much to look at.
    """

    def __init__(self, session: SessionState) -> None:
        self.session = session
        self._meter = session.order.meter
        self._called, self._barrier = in_force(session)
        barriers = session.barriers.records.values()
        self._leads_later = {
            one.leader for one in barriers if one.state is record.BarrierState.QUEUED
        }
        self._held = set(self._barrier.held) if self._barrier is not None else set()
        self._full: dict[str, list[Wait]] = {}
        self._brief: dict[str, list[Wait]] = {}
        #: Resource → how far a search has looked through its queue, and what counts there.
        self._queues: dict[str, tuple[int, list[Place]]] = {}

    def waits(self, name: str, *, brief: bool = False) -> list[Wait]:
        """Return an agent's waits, and the agents at work that can end each.

        `brief`: only the nearest of those before it in a queue. These need the others themselves,
        so the same agents can be reached, and the same are stuck.
        """
        known = self._brief if brief else self._full
        found = known.get(name)
        if found is None:
            found = known[name] = self._look_up(name, brief=brief)
        self._meter.spend(1 + len(found))
        return found

    def stuck(self, starts: Iterable[str]) -> set[str]:
        """Return the agents that can never go on, of these and all that they can reach."""
        graph: dict[str, list[Wait]] = {}
        ends: dict[str, list[tuple[str, int]]] = {}
        left = list(starts)
        while left:
            name = left.pop()
            if name in graph:
                continue
            graph[name] = self.waits(name, brief=True)
            for number, wait in enumerate(graph[name]):
                self._meter.spend(len(wait.agents))
                for other in wait.agents:
                    ends.setdefault(other, []).append((name, number))
                    if other not in graph:
                        left.append(other)
        open_waits = {name: len(found) for name, found in graph.items()}
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

    def find_cycle(self, start: str) -> list[Link] | None:
        """Return the cycle that an agent is in, or stuck behind; None when it can go on some day.

        A cycle through the agent itself comes first, beginning with it.
        """
        stuck = self.stuck([start])
        if start not in stuck:
            return None
        # An agent that also waits for something else counts as arrived at a barrier only for that
        # reason: prefer the cycle without the barrier.
        return (
            self._cycle_through(start, stuck, with_barriers=False)
            or self._cycle_through(start, stuck, with_barriers=True)
            or self._cycle_behind(start, stuck)
        )

    def stuck_behind(self, cycle: list[Link]) -> list[str]:
        """Name the agents that are stuck behind a cycle without being in it, sorted."""
        members = {link.agent for link in cycle}
        agents = self.session.agents.records
        waiting = [name for name, agent in agents.items() if agent.status in record.HELD_UP]
        stuck = self.stuck(waiting)
        needed_by: dict[str, list[str]] = {}
        for name in stuck:
            for wait in self.waits(name, brief=True):
                if stuck.issuperset(wait.agents):
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

    def is_still_there(self, cycle: list[tuple[str, str, str]]) -> bool:
        """Whether a cycle that was found earlier is one now."""
        stuck: set[str] | None = None
        for (name, kind, on), following in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
            found = [
                wait.agents
                for wait in self.waits(name)
                if (wait.kind, wait.on) == (kind, on) and following[0] in wait.agents
            ]
            # A wait that only the next agent can end needs no further look.
            if found and (following[0],) not in found:
                stuck = self.stuck([one for one, _, _ in cycle]) if stuck is None else stuck
                found = [agents for agents in found if stuck.issuperset(agents)]
            if not found:
                return False
        return True

    def forget(self, names: Iterable[str], ended: str) -> None:
        """Look these agents up again, and those behind `ended`, whose waiting claim was dropped.

        The waits of all others stand: agents behind a claim that was granted now need its holder.
        """
        gone = set(names)
        for known in (self._full, self._brief):
            gone.update(
                name
                for name, found in known.items()
                if any(wait.is_ahead and ended in wait.agents for wait in found)
            )
        for name in gone:
            self._full.pop(name, None)
            self._brief.pop(name, None)
        self._queues.clear()

    def _look_up(self, name: str, *, brief: bool) -> list[Wait]:
        session = self.session
        agent = session.agents.get(name)
        if agent is None or agent.status in record.ENDED:
            return []
        self._meter.spend(len(agent.claims))
        found: list[Wait] = []
        for on in agent.waits_for:
            producers = session.dependencies.records[on].producers
            self._meter.spend(len(producers))
            found.append(Wait(DEPENDENCY, on, _at_work(session, producers)))
        for claim in session.waiting_claims(agent):
            found += self._lock_waits(claim, brief=brief)
        for question_id in agent.asks:
            question = session.escalations.get(question_id)
            if question is not None and question.is_open and question.to:
                found.append(Wait(QUESTION, question_id, _at_work(session, [question.to])))
        found += self._barrier_waits(name, brief=brief)
        return [wait for wait in found if wait.agents]

    def _lock_waits(self, claim: record.ClaimRecord, *, brief: bool) -> list[Wait]:
        """Return what a waiting claim needs: its holders, and those before it in other queues.

        An agent before it that waits for the same single thing, and for nothing else, needs just
        those holders, so it adds nothing: a search looks through a queue of thousands once. But
        when the claim's own agent has a part of that thing, or asked for one before, the two need
        each other.
        """
        session = self.session
        #: Agent → whether it is before the claim in a queue, and holds nothing of it.
        found = dict.fromkeys((held.agent for held in session.order.blockers(claim)), False)
        can_skip = (
            len(claim.wanted) == 1
            and self._barrier is None
            and not session.order.overlaps_any(claim, session.agents.records[claim.agent].claims)
        )

        def counted(resource: str, queue: list[Place], upto: int) -> list[Place]:
            if not can_skip or resource != claim.wanted[0]:
                return queue
            known, places = self._queues.get(resource, (0, []))
            if upto > known:
                more = queue[known:upto]
                places += [place for place in more if not self._is_simple(place, claim.wanted)]
                self._queues[resource] = upto, places
            return places

        before = session.order.ahead(claim, counted, is_nearest_only=brief)
        for place in before:
            found.setdefault(place.agent, True)
        on = ", ".join(claim.wanted)
        return [Wait(LOCK, on, (name,), claim.id, ahead) for name, ahead in found.items()]

    def _is_simple(self, place: Place, wanted: list[str]) -> bool:
        """Whether a claim waits for just this, and its agent for nothing else."""
        agent = self.session.agents.records[place.agent]
        self._meter.spend(1 + len(agent.claims))
        is_same = self.session.claims.records[place.id].wanted == wanted and not agent.waits_for
        return is_same and not agent.asks and len(self.session.waiting_claims(agent)) == 1

    def _barrier_waits(self, name: str, *, brief: bool) -> list[Wait]:
        """Return the waits of an agent that a barrier holds: for its leader, and for the missing.

        The missing are at work, or they would have arrived: no cycle goes through them.
        """
        barrier = self._barrier
        if barrier is None:
            return []
        is_leader = name == barrier.leader
        is_queued = not is_leader and name in self._leads_later
        is_in = name in barrier.arrived or name in self._held or is_queued
        if barrier.state is record.BarrierState.INTEGRATING and not is_in and not is_leader:
            # While the leader integrates, nobody else is granted anything.
            is_in = bool(self.session.waiting_claims(self.session.agents.records[name]))
        if not is_in and not (is_leader and barrier.state is record.BarrierState.GATHERING):
            return []
        needed = [] if is_leader else [barrier.leader]
        if barrier.state is record.BarrierState.GATHERING and not brief:
            self._meter.spend(len(barrier.members))
            needed += [m for m in barrier.members if m not in barrier.arrived and m != name]
        return [Wait(BARRIER, self._called, (one,)) for one in _at_work(self.session, needed)]

    def _stuck_waits(self, name: str, stuck: set[str], *, with_barriers: bool) -> list[Wait]:
        """Return the waits of an agent that no agent can end."""
        found = self.waits(name)
        self._meter.spend(sum(len(wait.agents) for wait in found))
        if not with_barriers:
            found = [wait for wait in found if wait.kind != BARRIER] or found
        return [wait for wait in found if stuck.issuperset(wait.agents)]

    def _cycle_through(
        self, start: str, stuck: set[str], *, with_barriers: bool
    ) -> list[Link] | None:
        """Return the shortest cycle through an agent: breadth first, back to where it began."""
        came_by: dict[str, Link] = {}
        left = deque([start])
        while left:
            name = left.popleft()
            for wait in self._stuck_waits(name, stuck, with_barriers=with_barriers):
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

    def _cycle_behind(self, start: str, stuck: set[str]) -> list[Link]:
        """Return a cycle that an agent is stuck behind: walk on until the walk meets itself."""
        walk: list[Link] = []
        seen: dict[str, int] = {}
        name = start
        while name not in seen:
            seen[name] = len(walk)
            wait = self._stuck_waits(name, stuck, with_barriers=True)[0]
            walk.append(Link(name, wait))
            name = wait.agents[0]
        return walk[seen[name] :]


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
