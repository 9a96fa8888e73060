"""Who waits for what, and who makes it (seeds: Rule 2 and "Level 2 Dependencies").

A dependency is `pending` until somebody resolves it, in either order: the wait may begin before or
after. It is `failed` while every agent that declared to produce it has failed; a producer that
starts again makes it pending again.

    event                      pending                          resolved            failed
    BLOCKED                    wait; NUDGE the producer once    resume at once      wait; told of it
    DEPENDENCY_RESOLVED        waiters resume                   location replaced   waiters resume
    producer COMPLETED         waiters resume                   -                   waiters resume
    last producer FAILED       waiters told, go on waiting      -                   -
    producer STARTED           NUDGE it when somebody waits     -                   pending; NUDGE
    producer drops it          NUDGE the next; none: report     -                   -
"""

from __future__ import annotations

from collections.abc import Iterable

from fabric.core import barriers, conflicts, deadlock, escalation
from fabric.core.agent_status import restate, resume
from fabric.core.decision import ORCHESTRATOR, Decision, refuse
from fabric.core.directive import DirectiveType, Nudge, Resume
from fabric.core.limits import AGENT_WAITS_MAX, listed
from fabric.core.record import ENDED, AgentRecord, AgentStatus, DependencyRecord, DependencyStatus
from fabric.core.resource import normalise
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import (
    Blocked,
    DependencyResolved,
    Escalate,
    Failed,
    Release,
    Signal,
    SignalType,
)


def wait(session: SessionState, name: str, agent: AgentRecord, on: str, rules: Rules) -> Decision:
    """Begin a wait, or end it at once when the dependency is there already."""
    excess = over_limit(session, [on], rules)
    if excess is not None:
        return excess
    dependency = session.dependencies.get(on) or DependencyRecord()
    decision = Decision()
    if dependency.status is DependencyStatus.RESOLVED:
        decision.derive(
            name,
            SignalType.DEPENDENCY_RESOLVED,
            dependency.resolved_by,
            _stream_of(session, dependency.resolved_by),
            DependencyResolved(on, dependency.location, [name]),
        )
        if restate(session, name, agent) is AgentStatus.ACTIVE:
            decision.direct(name, DirectiveType.RESUME, _resume(on))
        return decision
    if name not in dependency.waiters:
        if len(agent.waits_for) >= AGENT_WAITS_MAX:
            return refuse(
                "LIMIT",
                f"{name} waits for {AGENT_WAITS_MAX} dependencies already, the most allowed",
            )
        dependency.waiters[name] = f"{session.log}-0"
        agent.waits_for = [*agent.waits_for, on]
    if dependency.status is DependencyStatus.FAILED:
        _tell_failed(session, on, dependency, [name], decision)
    elif producer(session, dependency) is None:
        watch_undeclared(session, on, dependency, rules, decision)
    _nudge(session, on, dependency, decision)
    session.dependencies.put(on, dependency)
    restate(session, name, agent)
    return decision


def resolved(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Give the location to all who wait for it and all named consumers; who waited resumes.

    When the id is a resource that the speaker holds, that is given back (seeds: the example).
    """
    assert agent is not None
    assert isinstance(signal.payload, DependencyResolved)
    payload = signal.payload
    on = payload.dependency_id
    excess = over_limit(session, [on], rules)
    if excess is not None:
        return excess
    decision = Decision()
    is_resource = conflicts.holds(session, agent, on)
    known = session.dependencies.get(on)
    waiters = list(known.waiters) if known is not None else []
    if known is not None or not is_resource:
        dependency = known or DependencyRecord()
        _settle(dependency, signal.emitter, payload.output_location)
        session.dependencies.put(on, dependency)
    for name in dict.fromkeys([*waiters, *payload.consumers]):
        decision.forward(name, signal)
    for name in waiters:
        _release_waiter(session, name, on, decision)
    if is_resource:
        conflicts.give_back(session, signal.emitter, agent, [on], rules, decision)
    barriers.pull_triggers(session, [on], payload.output_location, rules, decision)
    return decision


def declare(session: SessionState, name: str, agent: AgentRecord, decision: Decision) -> None:
    """Register what an agent will produce, and tell it when somebody waits for that already."""
    for on in agent.produces:
        dependency = session.dependencies.get(on) or DependencyRecord()
        if name not in dependency.producers:
            dependency.producers = [*dependency.producers, name]
        if dependency.status is DependencyStatus.FAILED:
            dependency.status = DependencyStatus.PENDING
            _forget_failure(dependency)
        _nudge(session, on, dependency, decision, starting=(name, agent))
        session.dependencies.put(on, dependency)


def retract(
    session: SessionState, name: str, produces: Iterable[str], rules: Rules, decision: Decision
) -> None:
    """An agent that declares anew no longer produces what it leaves out.

    Those who wait for it are left to the next producer, or reported when there is none.
    """
    for on in sorted(produces):
        dependency = session.dependencies.get(on)
        if dependency is None or name not in dependency.producers:
            continue
        dependency.producers = [other for other in dependency.producers if other != name]
        if dependency.waiters and dependency.status is DependencyStatus.PENDING:
            if producer(session, dependency) is None:
                watch_undeclared(session, on, dependency, rules, decision)
            _nudge(session, on, dependency, decision)
            _look_again(session, dependency, rules, decision)
        session.dependencies.put(on, dependency)


def unresolved(session: SessionState, agent: AgentRecord) -> list[str]:
    """Name what an agent is to produce and has not resolved yet."""
    known = ((on, session.dependencies.get(on)) for on in agent.produces)
    return [on for on, d in known if d is None or d.status is not DependencyStatus.RESOLVED]


def resolve_all(session: SessionState, name: str, agent: AgentRecord, decision: Decision) -> None:
    """A producer has completed: what it declared and did not resolve is resolved now."""
    for on in agent.produces:
        dependency = session.dependencies.get(on)
        if dependency is None or dependency.status is DependencyStatus.RESOLVED:
            continue
        waiters = list(dependency.waiters)
        _settle(dependency, name, None)
        session.dependencies.put(on, dependency)
        for waiter in waiters or [""]:
            # Each is told of itself alone: a list of all in each message would grow as the square.
            payload = DependencyResolved(on, None, [waiter] if waiter else [])
            decision.derive(waiter, SignalType.DEPENDENCY_RESOLVED, name, agent.stream, payload)
        for waiter in waiters:
            _release_waiter(session, waiter, on, decision)


def fail_all(
    session: SessionState,
    name: str,
    agent: AgentRecord,
    error: Failed,
    rules: Rules,
    decision: Decision,
) -> None:
    """A producer has failed: another one takes over, or the waiters are told."""
    for on in agent.produces:
        dependency = session.dependencies.get(on)
        if dependency is None or dependency.status is DependencyStatus.RESOLVED:
            continue
        if producer(session, dependency, ended=name) is None:
            dependency.status = DependencyStatus.FAILED
            dependency.error = agent.error
            dependency.retryable = error.retryable
            dependency.failed_by = name
            _tell_failed(session, on, dependency, dependency.waiters, decision)
        else:
            _nudge(session, on, dependency, decision, ended=name)
            _look_again(session, dependency, rules, decision)
        session.dependencies.put(on, dependency)


def over_limit(session: SessionState, names: list[str], rules: Rules) -> Decision | None:
    """Refuse what would take the session over its number of dependencies."""
    if len(session.dependencies) + len(names) <= rules.dependencies_max:
        return None
    added = sum(name not in session.dependencies for name in names)
    total = len(session.dependencies) + added
    if total <= rules.dependencies_max:
        return None
    return refuse(
        "LIMIT",
        f"session {session.name} would have {total} dependencies; "
        f"the limit is {rules.dependencies_max}",
    )


def withdraw(session: SessionState, name: str, agent: AgentRecord, names: list[str]) -> None:
    """End an agent's waits for these."""
    for on in names:
        dependency = session.dependencies.get(on)
        if dependency is not None and dependency.waiters.pop(name, None) is not None:
            session.dependencies.put(on, dependency)
    agent.waits_for = [on for on in agent.waits_for if on not in names]


def _settle(dependency: DependencyRecord, by: str, location: str | None) -> None:
    dependency.status = DependencyStatus.RESOLVED
    dependency.resolved_by = by
    dependency.location = location
    dependency.waiters = {}
    dependency.nudged = {}
    dependency.report_ms = 0
    _forget_failure(dependency)


def _forget_failure(dependency: DependencyRecord) -> None:
    dependency.error = dependency.failed_by = ""
    dependency.retryable = False


def _release_waiter(session: SessionState, name: str, on: str, decision: Decision) -> None:
    """Take one wait off an agent; with nothing else in its way it resumes."""
    waiter = session.agents.get(name)
    if waiter is not None:
        waiter.waits_for = [other for other in waiter.waits_for if other != on]
        resume(session, name, waiter, decision, _resume(on))


def _resume(on: str) -> Resume:
    return Resume("dependency resolved", dependency=on)


def _look_again(
    session: SessionState, dependency: DependencyRecord, rules: Rules, decision: Decision
) -> None:
    """With one producer less, who waits may be in a cycle that it was not in before."""
    for name in list(dependency.waiters):
        deadlock.look(session, name, rules, decision)


def _tell_failed(
    session: SessionState,
    on: str,
    dependency: DependencyRecord,
    waiters: Iterable[str],
    decision: Decision,
) -> None:
    payload = Failed(dependency.error, dependency.retryable, on)
    stream = _stream_of(session, dependency.failed_by)
    for name in waiters:
        decision.derive(name, SignalType.FAILED, dependency.failed_by, stream, payload)


def _nudge(
    session: SessionState,
    on: str,
    dependency: DependencyRecord,
    decision: Decision,
    *,
    starting: tuple[str, AgentRecord] | None = None,
    ended: str = "",
) -> None:
    """Tell the producer that somebody waits, once per incarnation (seeds: Rule 2, step 2)."""
    if not dependency.waiters:
        return
    if starting is not None:
        name, agent = starting
    else:
        found = producer(session, dependency, ended)
        known = session.agents.get(found) if found is not None else None
        if found is None or known is None:
            return
        name, agent = found, known
    if dependency.nudged.get(name) == agent.incarnation:
        return
    dependency.nudged = {**dependency.nudged, name: agent.incarnation}
    decision.direct(name, DirectiveType.NUDGE, Nudge(on, list(dependency.waiters)))


def _stream_of(session: SessionState, name: str) -> str:
    agent = session.agents.get(name)
    return agent.stream if agent is not None else ""


def blocked(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Wait for an open question, a resource that another holds, or else a dependency."""
    assert agent is not None
    assert isinstance(signal.payload, Blocked)
    name, on = signal.emitter, signal.payload.on
    decision = escalation.wait_on(session, name, agent, on)
    if decision is None and not _is_dependency(session, on):
        decision = conflicts.blocked_on(session, name, agent, on, rules)
    if decision is None:
        decision = wait(session, name, agent, on, rules)
    return decision


def _is_dependency(session: SessionState, on: str) -> bool:
    """Whether a name is that of an output, whatever resources there are.

    It is when somebody at work is to produce it or it is there already. A name that nobody has
    spoken of is an output too, unless it is that of a held resource, or a path within one.
    """
    known = session.dependencies.get(on)
    if known is not None and (
        known.status is DependencyStatus.RESOLVED or producer(session, known) is not None
    ):
        return True
    return not (session.order.holders(normalise(on)) or "/" in on or "." in on)


def released(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """End the claims and waits that it names, or all of them when it names nothing."""
    assert agent is not None
    assert isinstance(signal.payload, Release)
    named, name = signal.payload.resources, signal.emitter
    decision = Decision()
    withdraw(session, name, agent, named or agent.waits_for)
    escalation.withdraw(session, name, agent, named or agent.asks)
    conflicts.give_back(session, name, agent, named, rules, decision)
    restate(session, name, agent)
    return decision


#: The timer's key is `undeclared:<dependency>`.
TIMER = "undeclared"


def producer(session: SessionState, dependency: DependencyRecord, ended: str = "") -> str | None:
    """Name the first declared producer that is still at work; `ended` is one that is not."""
    for name in dependency.producers:
        agent = session.agents.get(name)
        if name != ended and agent is not None and agent.status not in ENDED:
            return name
    return None


def watch_undeclared(
    session: SessionState, on: str, dependency: DependencyRecord, rules: Rules, decision: Decision
) -> None:
    """Set the timer when a wait begins; a later wait for the same thing does not put it off."""
    if dependency.report_ms > session.clock_ms:
        return
    dependency.report_ms = session.clock_ms + rules.undeclared_grace_ms
    decision.timers[f"{TIMER}:{on}"] = dependency.report_ms


def grace_over(session: SessionState, on: str, rules: Rules) -> Decision | None:
    """Escalate, to all who wait and to the log, unless a producer or the thing itself has come.

    Of a failure the waiters have been told when it came.
    """
    dependency = session.dependencies.get(on)
    if dependency is None or not dependency.waiters:
        return None
    if dependency.status is not DependencyStatus.PENDING or producer(session, dependency):
        return None
    waiting = list(dependency.waiters)
    question = f"Nobody at work has declared to produce {on}; waiting for it: {listed(waiting)}."
    decision = Decision()
    for name in waiting:
        decision.derive(name, SignalType.ESCALATE, ORCHESTRATOR, "", Escalate(question))
    return decision
