"""Invariants of a session's state: they hold after every event, whatever the agents send."""

from fabric.core import escalation
from fabric.core import event as shared
from fabric.core.agent_status import is_at_work, is_held, is_waiting
from fabric.core.balance import Balance
from fabric.core.claims import is_kept_back
from fabric.core.copies import is_apart
from fabric.core.dependencies import producer
from fabric.core.event import Decision, Outcome
from fabric.core.order import Order
from fabric.core.record import (
    ENDED,
    IN_FORCE,
    AgentStatus,
    BarrierState,
    ClaimState,
    DependencyStatus,
)
from fabric.core.resource import overlap
from fabric.core.session import Disputes, SessionState, Spare
from fabric.core.task import Backlog, TaskStatus
from fabric.core.wait_graph import WaitGraph


def check(session: SessionState) -> None:
    """Check all invariants."""
    check_claims(session)
    check_barriers(session)
    check_deadlocks(session)
    check_disputes(session)
    check_unmet(session)
    check_tasks(session)
    for name, agent in session.agents.records.items():
        waits = is_waiting(session, agent)
        if agent.status in ENDED:
            assert not waits
            assert not agent.claims
        elif waits:
            assert agent.status is AgentStatus.BLOCKED
        else:
            held = is_held(session, name)
            assert agent.status is (AgentStatus.PAUSED if held else AgentStatus.ACTIVE)
        assert len(set(agent.waits_for)) == len(agent.waits_for)
        if agent.status in ENDED:
            assert not agent.waits_for
        for on in agent.waits_for:
            dependency = session.dependencies.get(on)
            assert dependency is not None
            assert name in dependency.waiters
        for on in agent.produces:
            dependency = session.dependencies.get(on)
            assert dependency is not None
            assert name in dependency.producers
    for on, dependency in session.dependencies.records.items():
        for name, cause in dependency.waiters.items():
            waiter = session.agents.get(name)
            assert waiter is not None
            assert on in waiter.waits_for
            number, _, rest = cause.partition("-")
            assert rest == "0"
            assert 1 <= int(number) <= session.log
        if dependency.status is DependencyStatus.RESOLVED:
            assert not dependency.waiters
            assert dependency.resolved_by
        for name in dependency.producers:
            declared = session.agents.get(name)
            assert declared is not None
            assert on in declared.produces
    # All sessions share these; they must never change.
    assert Decision() == shared.ACCEPTED
    assert Decision(to_results=True) == shared.ACCEPTED_TO_RESULTS
    assert Decision(Outcome.REPEATED) == shared.REPEATED


def check_tasks(session: SessionState) -> None:
    """Check that a task has one agent at most, that the index is right, and nothing is lost."""
    tasks, agents = session.tasks.records, session.agents.records
    for name, agent in agents.items():
        held = [one for one in tasks if (mine := tasks[one]).status is TaskStatus.IN_PROGRESS
                and mine.agent == name]  # fmt: skip
        if agent.status in ENDED:
            assert not held
            assert not agent.offers
            assert not agent.capacity
        else:
            assert held == ([agent.task] if agent.task else [])
        for offered in agent.offers:
            assert (tasks[offered].status, tasks[offered].offered_to) == ("offered", name)
    streams = {agent.stream for agent in agents.values()}
    for some in (None, streams, {""}):
        assert [*session.spare.names(some)] == [*Spare(agents).names(some)]
    for name, task in tasks.items():
        assert task.token <= session.token
        if task.status is TaskStatus.IN_PROGRESS:
            assert agents[task.agent].incarnation == task.incarnation
        if task.status is TaskStatus.OFFERED:
            assert name in agents[task.offered_to].offers
        else:
            assert not task.offered_to
        asked = session.escalations.get(task.question)
        if asked is not None and asked.is_open:
            assert task.status is TaskStatus.FAILED
    fresh = Backlog(tasks)
    assert list(fresh.ready()) == list(session.backlog.ready())
    assert all(fresh.missing(name) == session.backlog.missing(name) for name in tasks)
    assert all(set(fresh.followers(name)) == set(session.backlog.followers(name)) for name in tasks)
    if isinstance(session.balance, Balance):
        check_balance(session, session.balance)


def check_balance(session: SessionState, kept: Balance) -> None:
    """Check that what is known of the load follows from the records, whatever was known before."""
    kept.update()
    fresh = Balance(session.tasks.records, Backlog(session.tasks.records), kept.rules)
    for name, agent in session.agents.records.items():
        key = name, agent.incarnation
        for is_near in (True, False):
            best = [one.best(agent.stream, key, is_near=is_near) for one in (kept, fresh)]
            assert best[0] == best[1]
    for name, task in session.tasks.records.items():
        assert kept.to_go_ms(task.stream) == fresh.to_go_ms(task.stream)
        assert kept.obstacle(name) == fresh.obstacle(name)


def check_claims(session: SessionState) -> None:
    """Check that a resource has one holder, no claim is lost, and the index matches the claims."""
    left = [(one, name) for name, agent in session.agents.records.items() for one in agent.left]
    told = session.leftovers.near(dict.fromkeys(one for one, _ in left))
    assert len(left) > len(told) or {(one.resource, one.agent) for one in told} == set(left)
    records = session.claims.records
    for claim_id, claim in records.items():
        assert claim_id == claim.id
        assert claim_id in session.agents.records[claim.agent].claims
        assert claim.token <= session.token
        assert bool(claim.token) == (claim.state is ClaimState.HELD)
        if claim.state is ClaimState.WAITING:
            is_free = session.order.is_free(claim) and not is_kept_back(session, claim)
            assert not is_free, "free, and nobody has told it"
    for name, agent in session.agents.records.items():
        assert all(records[claim_id].agent == name for claim_id in agent.claims)
        assert len(set(agent.claims)) == len(agent.claims)
    held = [claim for claim in records.values() if claim.state is ClaimState.HELD]
    assert len({claim.token for claim in held}) == len(held)
    for claim in held:
        for other in held:
            for theirs in [*other.writes, *other.reads]:
                for mine in claim.writes:
                    assert is_apart(claim, other, mine, theirs) or not overlap(mine, theirs)
    fresh = Order(records)
    for resource in {r for claim in records.values() for r in [*claim.writes, *claim.reads]}:
        assert sorted(fresh.holders(resource)) == sorted(session.order.holders(resource))
        assert fresh.queue(resource) == session.order.queue(resource)
        assert fresh.overlapping(resource) == session.order.overlapping(resource)


def check_barriers(session: SessionState) -> None:
    """Check that at most one barrier is in force, of active members, and opens with the last."""
    in_force = [b for b in session.barriers.records.values() if b.state in IN_FORCE]
    queued = [b for b in session.barriers.records.values() if b.state is BarrierState.QUEUED]
    assert len(in_force) <= 1
    assert in_force or not queued
    for barrier in in_force:
        assert set(barrier.arrived) <= set(barrier.members)
        assert barrier.leader not in barrier.members
        assert not set(barrier.held) & set(barrier.members)
        awaited = set(session.awaited())  # expected agents that have not come are members, too
        for name in {*barrier.members, *barrier.held} - awaited:
            assert session.agents.records[name].status not in ENDED
        missing = set(barrier.members) - set(barrier.arrived)
        assert bool(missing) == (barrier.state is BarrierState.GATHERING)
        for name in missing - awaited:
            assert session.agents.records[name].status is AgentStatus.ACTIVE


def check_unmet(session: SessionState) -> None:
    """Check that a question about an output is open only while agents wait and none makes it.

    And that no open question waits for an agent that is not there.
    """
    for question_id, question in session.escalations.records.items():
        if question.is_open and question.to:
            assert is_at_work(session, question.to)
        if question.subject == escalation.DEPENDENCY and question.is_open:
            assert session.dependencies.records[question.about].question == question_id
    for dependency in session.dependencies.records.values():
        asked = session.escalations.get(dependency.question)
        if asked is not None and asked.is_open:
            assert dependency.waiters
            assert dependency.status is not DependencyStatus.RESOLVED
            assert producer(session, dependency) is None


def check_disputes(session: SessionState) -> None:
    """Check that what a digest names is open, and that one digest is open while it names any."""
    questions, kept = session.escalations.records, session.disputes
    fresh = Disputes(questions)
    assert (fresh.in_grace, fresh.named, fresh.digest) == (kept.in_grace, kept.named, kept.digest)
    assert bool(kept.named) == bool(kept.digest)
    digests = [one for one in questions.values() if one.subject == escalation.DIGEST]
    assert sum(one.is_open for one in digests) == bool(kept.digest)


def check_deadlocks(session: SessionState) -> None:
    """Check that open questions name exactly the agents that are deadlocked."""
    graph = WaitGraph(session)
    questions = [session.escalations.records[i] for i in session.deadlocks]
    named = {name for question in questions for name in question.waiting}
    for name in session.agents.records:
        if graph.find_cycle(name) is not None:
            assert name in named, "stuck, and nobody was told"
    for question in questions:
        assert graph.is_still_there(question.cycle)
