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

from fabric.core import undeclared
from fabric.core.decision import ACCEPTED, Decision, refuse
from fabric.core.directive import DirectiveType, Nudge, Resume
from fabric.core.limits import AGENT_WAITS_MAX
from fabric.core.rules import Rules
from fabric.core.session import (
    Agent,
    AgentStatus,
    Dependency,
    DependencyStatus,
    Session,
)
from fabric.core.signal import Blocked, DependencyResolved, Failed, Release, Signal, SignalType


def blocked(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Begin a wait, or end it at once when the dependency is there already."""
    assert agent is not None
    assert isinstance(signal.payload, Blocked)
    name, on = signal.emitter, signal.payload.on
    excess = over_limit(session, [on], rules)
    if excess is not None:
        return excess
    dependency = session.dependencies.get(on) or Dependency()
    decision = Decision()
    if dependency.status is DependencyStatus.RESOLVED:
        decision.derive(
            name,
            SignalType.DEPENDENCY_RESOLVED,
            dependency.resolved_by,
            _stream_of(session, dependency.resolved_by),
            DependencyResolved(on, dependency.location, [name]),
        )
        if not agent.waits_for:
            _resume(name, on, decision)
        return decision
    if name not in dependency.waiters:
        if len(agent.waits_for) >= AGENT_WAITS_MAX:
            return refuse(
                "LIMIT",
                f"{name} waits for {AGENT_WAITS_MAX} dependencies already, the most allowed",
            )
        dependency.waiters[name] = f"{session.log}-0"
        agent.waits_for = [*agent.waits_for, on]
    agent.status = AgentStatus.BLOCKED
    if dependency.status is DependencyStatus.FAILED:
        _tell_failed(session, on, dependency, [name], decision)
    elif undeclared.producer(session, dependency) is None:
        undeclared.watch(session, on, dependency, rules, decision)
    _nudge(session, on, dependency, decision)
    session.dependencies.put(on, dependency)
    return decision


def resolved(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """Give the location to all who wait for it and all named consumers; who waited resumes."""
    assert isinstance(signal.payload, DependencyResolved)
    payload = signal.payload
    excess = over_limit(session, [payload.dependency_id], rules)
    if excess is not None:
        return excess
    dependency = session.dependencies.get(payload.dependency_id) or Dependency()
    waiters = list(dependency.waiters)
    _settle(dependency, signal.emitter, payload.output_location)
    session.dependencies.put(payload.dependency_id, dependency)
    decision = Decision()
    for name in dict.fromkeys([*waiters, *payload.consumers]):
        decision.forward(name, signal)
    for name in waiters:
        _release_waiter(session, name, payload.dependency_id, agent, signal.emitter, decision)
    return decision


def withdrawn(session: Session, agent: Agent | None, signal: Signal, rules: Rules) -> Decision:
    """RELEASE ends the agent's waits for what it names, or all of them when it names nothing."""
    assert agent is not None
    assert isinstance(signal.payload, Release)
    _withdraw(session, signal.emitter, agent, signal.payload.resources or agent.waits_for)
    return ACCEPTED


def declare(session: Session, name: str, agent: Agent, decision: Decision) -> None:
    """Register what an agent will produce, and tell it when somebody waits for that already."""
    for on in agent.produces:
        dependency = session.dependencies.get(on) or Dependency()
        if name not in dependency.producers:
            dependency.producers = [*dependency.producers, name]
        if dependency.status is DependencyStatus.FAILED:
            dependency.status = DependencyStatus.PENDING
            _forget_failure(dependency)
        _nudge(session, on, dependency, decision, starting=(name, agent))
        session.dependencies.put(on, dependency)


def retract(
    session: Session, name: str, produces: Iterable[str], rules: Rules, decision: Decision
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
            if undeclared.producer(session, dependency) is None:
                undeclared.watch(session, on, dependency, rules, decision)
            _nudge(session, on, dependency, decision)
        session.dependencies.put(on, dependency)


def resolve_all(session: Session, name: str, agent: Agent, decision: Decision) -> None:
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
            _release_waiter(session, waiter, on, agent, name, decision)


def fail_all(session: Session, signal: Signal, agent: Agent, decision: Decision) -> None:
    """A producer has failed: another one takes over, or the waiters are told."""
    assert isinstance(signal.payload, Failed)
    retryable = signal.payload.retryable
    for on in agent.produces:
        dependency = session.dependencies.get(on)
        if dependency is None or dependency.status is DependencyStatus.RESOLVED:
            continue
        if undeclared.producer(session, dependency, ended=signal.emitter) is None:
            dependency.status = DependencyStatus.FAILED
            dependency.error = agent.error
            dependency.retryable = retryable
            dependency.failed_by = signal.emitter
            _tell_failed(session, on, dependency, dependency.waiters, decision)
        else:
            _nudge(session, on, dependency, decision, ended=signal.emitter)
        session.dependencies.put(on, dependency)


def withdraw_all(session: Session, name: str, agent: Agent) -> None:
    """End every wait of an agent."""
    _withdraw(session, name, agent, agent.waits_for)


def over_limit(session: Session, names: list[str], rules: Rules) -> Decision | None:
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


def _withdraw(session: Session, name: str, agent: Agent, names: list[str]) -> None:
    for on in names:
        dependency = session.dependencies.get(on)
        if dependency is not None and dependency.waiters.pop(name, None) is not None:
            session.dependencies.put(on, dependency)
    agent.waits_for = [on for on in agent.waits_for if on not in names]
    if not agent.waits_for and agent.status is AgentStatus.BLOCKED:
        agent.status = AgentStatus.ACTIVE


def _settle(dependency: Dependency, by: str, location: str | None) -> None:
    dependency.status = DependencyStatus.RESOLVED
    dependency.resolved_by = by
    dependency.location = location
    dependency.waiters = {}
    dependency.nudged = {}
    dependency.report_ms = 0
    _forget_failure(dependency)


def _forget_failure(dependency: Dependency) -> None:
    dependency.error = dependency.failed_by = ""
    dependency.retryable = False


def _release_waiter(
    session: Session,
    name: str,
    on: str,
    speaker: Agent | None,
    speaker_name: str,
    decision: Decision,
) -> None:
    """Take one wait off an agent; with its last one gone it resumes."""
    waiter = speaker if name == speaker_name else session.agents.get(name)
    if waiter is None:
        return
    waiter.waits_for = [other for other in waiter.waits_for if other != on]
    if not waiter.waits_for and waiter.status is AgentStatus.BLOCKED:
        waiter.status = AgentStatus.ACTIVE
        _resume(name, on, decision)
    session.agents.put(name, waiter)


def _resume(name: str, on: str, decision: Decision) -> None:
    decision.direct(name, DirectiveType.RESUME, Resume("dependency resolved", dependency=on))


def _tell_failed(
    session: Session, on: str, dependency: Dependency, waiters: Iterable[str], decision: Decision
) -> None:
    payload = Failed(dependency.error, dependency.retryable, on)
    stream = _stream_of(session, dependency.failed_by)
    for name in waiters:
        decision.derive(name, SignalType.FAILED, dependency.failed_by, stream, payload)


def _nudge(
    session: Session,
    on: str,
    dependency: Dependency,
    decision: Decision,
    *,
    starting: tuple[str, Agent] | None = None,
    ended: str = "",
) -> None:
    """Tell the producer that somebody waits, once per incarnation (seeds: Rule 2, step 2)."""
    if not dependency.waiters:
        return
    if starting is not None:
        name, agent = starting
    else:
        found = undeclared.producer(session, dependency, ended)
        known = session.agents.get(found) if found is not None else None
        if found is None or known is None:
            return
        name, agent = found, known
    if dependency.nudged.get(name) == agent.incarnation:
        return
    dependency.nudged = {**dependency.nudged, name: agent.incarnation}
    decision.direct(name, DirectiveType.NUDGE, Nudge(on, list(dependency.waiters)))


def _stream_of(session: Session, name: str) -> str:
    agent = session.agents.get(name)
    return agent.stream if agent is not None else ""
