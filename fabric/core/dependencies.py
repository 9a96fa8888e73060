"""Which agents wait for an output, and which agents produce it.

A dependency is `pending` until an agent resolves it; the wait may begin before or after that. It is
`failed` while every agent that declared to produce it has failed; a producer that starts again
makes it pending again.

    event                      pending                          resolved            failed
    BLOCKED                    wait; NUDGE the producer once    resume at once      wait; told of it
    DEPENDENCY_RESOLVED        waiters resume                   location replaced   waiters resume
    producer COMPLETED         waiters resume; inferred         -                   waiters resume
    producer told to stop      waiters told; its COMPLETED      -                   -
                               counts as FAILED
    last producer FAILED       waiters told; report             -                   -
    producer STARTED           NUDGE it when somebody waits     -                   pending; NUDGE
    producer drops it          NUDGE the next; none: report     -                   -
    grace time, no producer    a question                       -                   a question

Agents start in any order, so a producer may come later than the wait. After a grace time without
one, the report: the fabric tells the waiting agents, and asks a person. The question stays open
until the wait ends: nobody waits forever, unseen, for work that nobody does.

BLOCKED and RELEASE name anything that an agent can wait for, or give back; they begin here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import UNSET

from fabric.core import barriers, conflicts, escalation, quota
from fabric.core.agent_status import is_at_work, resume, update_status
from fabric.core.directive import Cancel, Notice, Nudge, Resume
from fabric.core.event import Event, RefusedError, SignalEvent
from fabric.core.limits import AGENT_WAITS_MAX, listed
from fabric.core.record import (
    AgentRecord,
    AgentStatus,
    DependencyRecord,
    DependencyStatus,
    EscalationRecord,
)
from fabric.core.resource_name import normalise
from fabric.core.session import SHARE_MIN, SessionState, is_reserved
from fabric.core.signal import Blocked, DependencyResolved, Escalate, Failed, Release

#: The timer's key is `undeclared:<dependency>`.
TIMER = "undeclared"

#: Code of the NOTICE that says that a producer was told to stop.
CANCELLED = "CANCELLED"

#: Answers to the question about an output that no agent is to produce.
KEEP_WAITING, GIVE_UP = "keep waiting", "give up"


def blocked(event: SignalEvent, payload: Blocked) -> None:
    """Wait for a quota, an open question, a resource of another agent, or else a dependency."""
    on = payload.on
    if on.startswith(quota.PREFIX):
        check_limit(event, [on])
        quota.reported(event, payload)
        return
    if escalation.wait_on(event, on):
        return
    if not _is_dependency(event.session, on) and conflicts.wait_on(event, on):
        return
    _wait(event, on)


def released(event: SignalEvent, payload: Release) -> None:
    """End the claims and waits that it names, or all of them when it names nothing."""
    session, name, agent = event.session, event.name, event.agent
    withdraw(event, name, agent, payload.resources or agent.waits_for)
    escalation.withdraw(session, name, agent, payload.resources or agent.asks)
    conflicts.give_back(event, payload.resources, is_unfinished=payload.unfinished)
    update_status(session, name)


def resolved(event: SignalEvent, payload: DependencyResolved) -> None:
    """Give the location to all that wait for it and all named consumers; the waiters resume."""
    session, on = event.session, payload.dependency_id
    check_limit(event, [on])
    is_resource = conflicts.holds(session, event.agent, on)
    known = session.dependencies.get(on)
    waiters = list(known.waiters) if known is not None else []
    if known is not None or not is_resource:
        _settle(event, on, event.name, payload.output_location)
    for name in dict.fromkeys([*waiters, *payload.consumers]):
        event.forward(name)
    for name in waiters:
        _end_wait(event, name, on)
    if is_resource:  # the emitter holds it, and gives it back
        conflicts.give_back(event, [on])
    barriers.trigger(event, [on], payload.output_location)


def declare(event: SignalEvent) -> None:
    """Register what an agent will produce, and tell it when somebody waits for that already."""
    session, name, agent = event.session, event.name, event.agent
    for on in agent.produces:
        dependency = session.dependencies.get(on) or DependencyRecord()
        if name not in dependency.producers:
            dependency.producers = [*dependency.producers, name]
        if dependency.status is DependencyStatus.FAILED:
            dependency.status = DependencyStatus.PENDING
            dependency.error = dependency.failed_by = ""
            dependency.retryable = False
        _close_question(event, dependency)
        _nudge(event, on, dependency, name)
        session.dependencies.put(on, dependency)


def retract(event: SignalEvent, produces: Iterable[str]) -> Iterator[str]:
    """An agent that declares anew no longer produces what it leaves out.

    The next producer is told of those that wait; without one, the fabric asks after the grace
    time. Yields each waiter that has lost a producer: the caller looks for deadlocks from there.
    """
    session, name = event.session, event.name
    for on in sorted(produces):
        dependency = session.dependencies.get(on)
        if dependency is None or name not in dependency.producers:
            continue
        dependency.producers = [other for other in dependency.producers if other != name]
        if dependency.waiters and dependency.status is DependencyStatus.PENDING:
            following = producer(session, dependency)
            if following is None:
                _watch(event, on, dependency)
            _nudge(event, on, dependency, following)
            yield from list(dependency.waiters)
        session.dependencies.put(on, dependency)


def unresolved(session: SessionState, agent: AgentRecord) -> list[str]:
    """Name what an agent is to produce and has not resolved yet."""
    known = session.dependencies.records
    return [on for on in agent.produces if known[on].status is not DependencyStatus.RESOLVED]


def resolve_all(event: Event, name: str, agent: AgentRecord) -> None:
    """Resolve what a producer declared and had not resolved when it completed."""
    session = event.session
    for on in unresolved(session, agent):
        waiters = list(session.dependencies.records[on].waiters)
        _settle(event, on, name, None, is_inferred=True)
        for waiter in waiters or [""]:
            # Each is told only of itself: a list of all in every message would grow as the square.
            payload = DependencyResolved(on, None, [waiter] if waiter else [], inferred=True)
            event.derive(waiter, payload, sender=name, stream=agent.stream)
        for waiter in waiters:
            _end_wait(event, waiter, on)


def fail_all(event: Event, name: str, agent: AgentRecord, error: Failed) -> Iterator[str]:
    """A producer has failed: another takes over, or the waiters are told. Yields as `retract`."""
    session = event.session
    for on in unresolved(session, agent):
        dependency = session.dependencies.records[on]
        following = producer(session, dependency, ended=name)
        if following is None:
            dependency.status = DependencyStatus.FAILED
            dependency.error = error.error or ""
            dependency.retryable = error.retryable
            dependency.failed_by = name
            _tell_failed(event, on, dependency, dependency.waiters)
            if dependency.waiters:
                _watch(event, on, dependency)
        else:
            _nudge(event, on, dependency, following)
            yield from list(dependency.waiters)
        session.dependencies.put(on, dependency)


def check_limit(event: SignalEvent, names: list[str]) -> None:
    """Refuse what would take the session over its number of dependencies, or one agent its share.

    When there are too many, those go that no agent waits for, makes or has made.
    """
    known, limit = event.session.dependencies, event.rules.dependencies_max
    if known.records.keys() >= set(names) and len(known) <= limit:
        return
    share = known.fault(event.name, len(names), limit)
    if len(known) + len(names) <= limit and not share:
        return
    new = sum(name not in known for name in names)
    if new and is_reserved(SHARE_MIN, len(known) + new, limit):
        for name in known.unowned():
            known.drop(name)
    if new and (share := known.fault(event.name, new, limit)):
        raise RefusedError("LIMIT", f"too many dependencies: {share}")
    total = len(known) + new
    if total > limit:
        reason = f"session {event.session.name} would have {total} dependencies"
        raise RefusedError("LIMIT", f"{reason}; the limit is {limit}")


def withdraw(event: Event, name: str, agent: AgentRecord, names: list[str]) -> None:
    """End an agent's waits for these."""
    known = event.session.dependencies
    for on in names:
        dependency = known.get(on)
        if dependency is not None and dependency.waiters.pop(name, None) is not None:
            if not dependency.waiters:
                _close_question(event, dependency)
            known.put(on, dependency)
    agent.waits_for = [on for on in agent.waits_for if on not in names]


def producer(session: SessionState, dependency: DependencyRecord, ended: str = "") -> str | None:
    """Name the first declared producer that is still to produce it; `ended` is one that is not.

    An agent that was told to stop is none, unless there is no other.
    """
    at_work = [name for name in dependency.producers if name != ended and is_at_work(session, name)]
    going_on = [name for name in at_work if not session.agents.records[name].cancelled]
    return next(iter([*going_on, *at_work]), None)


def tell_cancelled(event: Event, name: str, agent: AgentRecord, reason: str) -> None:
    """A producer was told to stop: the next one hears who waits, or those that wait hear of it."""
    session = event.session
    for on in unresolved(session, agent):
        dependency = session.dependencies.records[on]
        following = producer(session, dependency)
        if following is not None and not session.agents.records[following].cancelled:
            _nudge(event, on, dependency, following)
            session.dependencies.put(on, dependency)
            continue
        text = f"{name}, which is to produce {on}, was told to stop: {reason}"
        for waiter in dependency.waiters:
            event.direct(waiter, Notice(CANCELLED, text))


def move_graces(event: Event, outage_ms: int, since_ms: int) -> None:
    """Move the grace times that ran when an outage began, at `since_ms`, by its length."""
    for on, dependency in event.session.dependencies.records.items():
        if dependency.report_ms > since_ms:
            dependency.report_ms += outage_ms
            event.session.dependencies.put(on, dependency)
            event.set_timer(f"{TIMER}:{on}", dependency.report_ms)


def grace_expired(event: Event, on: str) -> bool:
    """Ask all that wait, unless a producer, the output or a failure has come in the meantime."""
    session = event.session
    dependency = session.dependencies.get(on)
    if dependency is None:
        return False
    # An outage has moved it. Whoever begins to wait by then counts on this timer (`_watch`).
    if dependency.report_ms > session.clock_ms:
        return event.postpone(f"{TIMER}:{on}", dependency.report_ms)
    if not dependency.waiters or dependency.status is DependencyStatus.RESOLVED:
        return False
    if producer(session, dependency):
        return False
    waiting = list(dependency.waiters)
    missing = f"No active agent has declared that it produces {on}"
    if dependency.status is DependencyStatus.FAILED:
        missing = f"{dependency.failed_by}, the last agent to produce {on}, has failed"
    text = f"{missing}; waiting for it: {listed(waiting)}."
    asked = session.escalations.get(dependency.question)
    if asked is None or not asked.is_open:
        question = escalation.new_question(
            session, escalation.DEPENDENCY, text, [KEEP_WAITING, GIVE_UP], about=on
        )
        dependency.question = escalation.ask(event, question, told=waiting)
        session.dependencies.put(on, dependency)
        return True
    # More agents wait for it than when it was asked.
    asked.question = text
    session.escalations.put(dependency.question, asked)
    for name in waiting:
        event.derive(name, Escalate(text, asked.options, id=dependency.question))
    return True


def apply_answer(event: Event, asked: EscalationRecord) -> None:
    """End the waits for an output that nobody is to produce, if a person has decided so."""
    session, on = event.session, asked.about
    dependency = session.dependencies.get(on)
    if asked.decision != GIVE_UP or dependency is None:
        return
    reason = f"{asked.by} has decided that nobody waits for {on} any longer"
    for name in list(dependency.waiters):
        agent = session.agents.get(name)
        if agent is not None:
            withdraw(event, name, agent, [on])
            event.direct(name, Cancel(reason, "ABANDONED", dependency=on))
            session.agents.put(name, agent)
            update_status(session, name)


def _close_question(event: Event, dependency: DependencyRecord) -> None:
    """Close the question whether to wait on: the wait has ended, or an agent is to end it."""
    escalation.close_own(event, dependency.question, "the wait is over")
    dependency.question = ""


def _wait(event: SignalEvent, on: str) -> None:
    """Begin a wait, or end it at once when the dependency is resolved already."""
    session, name, agent = event.session, event.name, event.agent
    check_limit(event, [on])
    dependency = session.dependencies.get(on) or DependencyRecord()
    if dependency.status is DependencyStatus.RESOLVED:
        event.derive(
            name,
            DependencyResolved(on, dependency.location, [name], dependency.inferred or UNSET),
            sender=dependency.resolved_by,
            stream=_stream_of(session, dependency.resolved_by),
        )
        update_status(session, name)
        if agent.status is AgentStatus.ACTIVE:
            event.direct(name, Resume("dependency resolved", dependency=on))
        return
    if name not in dependency.waiters:
        if len(agent.waits_for) >= AGENT_WAITS_MAX:
            reason = f"{name} already waits for {AGENT_WAITS_MAX} dependencies, the most allowed"
            raise RefusedError("LIMIT", reason)
        dependency.waiters[name] = f"{session.log}-0"
        agent.waits_for = [*agent.waits_for, on]
    maker = producer(session, dependency)
    if dependency.status is DependencyStatus.FAILED:
        _tell_failed(event, on, dependency, [name])
    if maker is not None and session.agents.records[maker].cancelled:
        text = f"{maker}, which is to produce {on}, was told to stop"
        event.direct(name, Notice(CANCELLED, text))
    if maker is None:
        _watch(event, on, dependency)
    _nudge(event, on, dependency, maker)
    session.dependencies.put(on, dependency)
    update_status(session, name)


def _is_dependency(session: SessionState, on: str) -> bool:
    """Whether a name is that of an output, whatever resources there are.

    It is when an agent at work is to produce it, or it is resolved already. A name that no agent
    has used is an output too, unless it is a held resource or looks like a path.
    """
    known = session.dependencies.get(on)
    if known is not None and (
        known.status is DependencyStatus.RESOLVED or producer(session, known) is not None
    ):
        return True
    resource = normalise(on)
    return not (session.order.holders(resource) or "/" in resource or "." in on)


def _watch(event: Event, on: str, dependency: DependencyRecord) -> None:
    """Set the grace timer when a wait begins; a later wait for the same does not put it off."""
    if dependency.report_ms > event.session.clock_ms:
        return
    dependency.report_ms = event.session.clock_ms + event.rules.undeclared_grace_ms
    event.set_timer(f"{TIMER}:{on}", dependency.report_ms)


def _settle(
    event: Event, on: str, by: str, location: str | None, *, is_inferred: bool = False
) -> None:
    """Keep that an output is there; of what was before, only its producers stay."""
    session = event.session
    known = session.dependencies.get(on) or DependencyRecord()
    _close_question(event, known)
    settled = DependencyRecord(
        DependencyStatus.RESOLVED,
        known.producers,
        location=location,
        resolved_by=by,
        inferred=is_inferred,
    )
    session.dependencies.put(on, settled)


def _end_wait(event: Event, name: str, on: str) -> None:
    """End one wait of an agent; with nothing else in its way it resumes."""
    waiter = event.session.agents.get(name)
    if waiter is not None:
        waiter.waits_for = [other for other in waiter.waits_for if other != on]
        resume(event, name, waiter, Resume("dependency resolved", dependency=on))


def _tell_failed(
    event: Event, on: str, dependency: DependencyRecord, waiters: Iterable[str]
) -> None:
    payload = Failed(dependency.error, dependency.retryable, on)
    stream = _stream_of(event.session, dependency.failed_by)
    for name in waiters:
        event.derive(name, payload, sender=dependency.failed_by, stream=stream)


def _nudge(event: Event, on: str, dependency: DependencyRecord, name: str | None) -> None:
    """Tell a producer, once per incarnation, that somebody waits."""
    agent = event.session.agents.get(name) if name is not None else None
    if not dependency.waiters or name is None or agent is None:
        return
    if dependency.nudged.get(name) == agent.incarnation:
        return
    dependency.nudged = {**dependency.nudged, name: agent.incarnation}
    event.direct(name, Nudge(on, list(dependency.waiters)))


def _stream_of(session: SessionState, name: str) -> str:
    agent = session.agents.get(name)
    return agent.stream if agent is not None else ""
