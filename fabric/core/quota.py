"""Quotas: one agent reports that a shared limit is used up, and all that share it pause.

An agent declares the quotas that it uses in STARTED (`quotas`). BLOCKED on `quota:NAME` says that
this one is used up, and for how long:

    event                        nobody waits for it        it is in force
    BLOCKED on quota:NAME        all that share it wait     the sender waits too; a later end counts
    STARTED with it              -                          the agent waits
    its time has come,
      or DEPENDENCY_RESOLVED     -                          all resume

A quota in force is a dependency that time resolves: its waiters are in its record. Agents that wait
for it need not be heard before its end. Those that report the same afterwards change nothing for
the others, so that a thousand reports are one pause.
"""

from __future__ import annotations

from collections.abc import Iterable

from fabric.core.agent_status import resume, update_status
from fabric.core.directive import Pause, Resume
from fabric.core.event import Event, SignalEvent
from fabric.core.limits import QUOTA_PAUSE_MS
from fabric.core.record import ENDED, AgentRecord, DependencyRecord, DependencyStatus
from fabric.core.session import SessionState
from fabric.core.signal import Blocked

#: What a BLOCKED on a quota names begins with this.
PREFIX = "quota:"

#: The timer is `quota:<name>`, as the dependency.
TIMER = "quota"


def reported(event: SignalEvent, payload: Blocked) -> None:
    """BLOCKED on `quota:NAME`: pause the sender and, if it is the first, all that share it."""
    session, on = event.session, payload.on
    until_ms = session.clock_ms + (payload.for_ms or QUOTA_PAUSE_MS)
    known = session.dependencies.get(on)
    sharing = [event.name]
    if known is None or known.status is not DependencyStatus.PENDING or not known.until_ms:
        known = DependencyRecord(waiters={})
        name = on.removeprefix(PREFIX)
        sharing += sorted(
            other
            for other, agent in session.agents.records.items()
            if name in agent.quotas and agent.status not in ENDED and other != event.name
        )
    if until_ms > known.until_ms:
        known.until_ms = until_ms
        event.set_timer(on, until_ms)
    _pause(event, on, known, sharing)


def join(event: SignalEvent, quotas: list[str]) -> None:
    """STARTED: note the agent's quotas; it waits for those that are used up at present."""
    event.agent.quotas = list(dict.fromkeys(quotas))
    for name in event.agent.quotas:
        known = event.session.dependencies.get(PREFIX + name)
        if known is not None and known.until_ms > event.session.clock_ms:
            _pause(event, PREFIX + name, known, [event.name], is_told=True)


def expired(event: Event, name: str) -> bool:
    """Let all go on that wait for a quota, when its time has come."""
    session, on = event.session, PREFIX + name
    known = session.dependencies.get(on)
    if known is None or not known.until_ms:
        return False
    if known.until_ms > session.clock_ms:
        return event.postpone(on, known.until_ms)
    session.dependencies.drop(on)
    for waiter in known.waiters:
        agent = session.agents.get(waiter)
        if agent is not None:
            agent.waits_for = [other for other in agent.waits_for if other != on]
            resume(event, waiter, agent, Resume(f"{on} is available again", dependency=on))
    return True


def end_ms(session: SessionState | None, agent: AgentRecord) -> int:
    """Return when the last of the quotas ends that an agent waits for, ms; 0 without one.

    `session` is None for an agent of another session, whose quotas are not known here.
    """
    if session is None:
        return 0
    known = (session.dependencies.get(on) for on in agent.waits_for if on.startswith(PREFIX))
    return max((one.until_ms for one in known if one is not None), default=0)


def _pause(
    event: SignalEvent,
    on: str,
    known: DependencyRecord,
    names: Iterable[str],
    *,
    is_told: bool = False,
) -> None:
    session = event.session
    begun: list[str] = []
    reason = f"{on} is used up" + ("" if is_told else f", as {event.name} has reported")
    for name in names:
        agent = session.agents.records.get(name, event.agent)
        if name not in known.waiters:
            known.waiters[name] = f"{session.log}-0"
            agent.waits_for = [*agent.waits_for, on]
            if name != event.name or is_told:
                event.direct(name, Pause(reason, dependency=on, until_ms=known.until_ms))
            if name != event.name:
                begun.append(name)
            session.agents.put(name, agent)
    session.dependencies.put(on, known)
    update_status(session, event.name)
    event.waiting = begun
