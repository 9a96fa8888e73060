"""The runs of a session: one is closed for good, and the next begins with nothing of it in force.

Theory of operation. RUN_CLOSED ends every agent that is still at work and tells it (CANCEL with the
code CLOSED); what agents held, waited for and were asked ends with them. The synthesizer takes
them as failed, so the synthesis becomes final. From then on every signal is refused with the code
CLOSED, and no timer takes effect. RUN_OPENED begins the next run: the records are empty
again, and the log, the fencing tokens and the revisions of the synthesis go on, so that no reader
meets an id twice.

Processes of an earlier run may still live. The incarnations of its agents are *retired*: signals of
those are refused as stale, and a name goes on with the incarnation after its last one.
"""

from __future__ import annotations

from fabric.core import roster
from fabric.core.directive import Cancel, Notice
from fabric.core.event import Event, RefusedError, SignalEvent
from fabric.core.limits import NOTICE_PAUSE_MS, SESSION_RETIRED_MAX, listed
from fabric.core.record import (
    ENDED,
    AgentRecord,
    AgentStatus,
    BarrierState,
    DependencyStatus,
    RetiredRecord,
)
from fabric.core.session import SessionState
from fabric.core.signal import RunClosed, RunOpened, RunPurged, SignalType
from fabric.core.task import TaskStatus

#: Code of a CANCEL, and of a refusal, that says that the run is over.
CLOSED = "CLOSED"

#: A person sends these, whatever the name: they count as no agent's sign of life.
OF_RUNS = frozenset({SignalType.RUN_CLOSED, SignalType.RUN_OPENED, SignalType.RUN_PURGED})

#: These are about a session that is there: they begin none.
ENDING = (SignalType.RUN_CLOSED, SignalType.RUN_PURGED)

#: These are what can still come when the run is closed.
_AFTER_CLOSING = frozenset({SignalType.RUN_OPENED, SignalType.RUN_PURGED})


def close(event: SignalEvent, payload: RunClosed) -> None:
    """RUN_CLOSED: end the run and all agents that are still at work."""
    session, by = event.session, payload.by or event.name
    session.closed_ms, session.closed_by = session.clock_ms, by
    reason = f"{by} has closed run {session.run} of {session.name}"
    if payload.reason:
        reason = f"{reason}: {payload.reason}"
    for name in sorted(session.agents.records):
        agent = session.agents.records[name]
        if agent.status not in ENDED:
            _end(event, name, agent, reason)
    for claim in list(session.claims.records.values()):
        session.order.drop(claim)
        session.claims.drop(claim.id)
    _settle_records(session, by)
    roster.end(event)


def _end(event: SignalEvent, name: str, agent: AgentRecord, reason: str) -> None:
    held = [one for claim in event.session.claims_of(agent) for one in claim.writes]
    agent.status, agent.error = AgentStatus.FAILED, reason
    agent.waits_for, agent.asks, agent.claims, agent.offers = [], [], [], []
    agent.eta_ms, agent.capacity = None, 0
    agent.breaker = agent.wedged = agent.unread = ""
    agent.orders = []
    event.session.agents.put(name, agent)
    event.direct(name, Cancel(reason, CLOSED, incarnation=agent.incarnation, held=held))
    event.dismiss(name, agent)


def _settle_records(session: SessionState, by: str) -> None:
    """End what agents waited for, were asked or had begun: nobody goes on with it."""
    for name, dependency in session.dependencies.records.items():
        if dependency.waiters and dependency.status is DependencyStatus.PENDING:
            dependency.waiters, dependency.report_ms = {}, 0
            session.dependencies.put(name, dependency)
    for name, barrier in session.barriers.records.items():
        if barrier.state is not BarrierState.OVER:
            barrier.state = BarrierState.OVER
            session.barriers.put(name, barrier)
    for name, asked in session.escalations.records.items():
        if asked.is_open:
            asked.settle("the run was closed", by, session.clock_ms)
            session.escalations.put(name, asked)
    for name, task in session.tasks.records.items():
        if task.status in (TaskStatus.IN_PROGRESS, TaskStatus.OFFERED):
            task.status, task.offered_to, task.offered_until_ms = TaskStatus.PENDING, "", 0
            session.keep_task(name, task)
    session.spare.clear()
    session.deadlocks.clear()
    session.disputes.clear()


def begin(event: SignalEvent, payload: RunOpened) -> None:
    """RUN_OPENED: begin the next run of a session that was closed, or the first of a new one."""
    session = event.session
    # Rules that are not the defaults, and tokens above those of a deleted session, come first.
    first = 1 + bool(session.rules) + bool(session.token)
    if not session.closed_ms and (session.log > first or session.agents.records):
        reason = f"run {session.run} of {session.name} is open: close it first"
        raise RefusedError("OPEN", reason)
    roster.check(event, payload.expect)
    if session.closed_ms:
        _begin_next(event)
    if payload.expect:
        roster.expect(event, payload.expect, payload.deadline_ms)


def _begin_next(event: SignalEvent) -> None:
    session = event.session
    for name, known in list(session.retired.records.items()):
        if not known.incarnation:
            session.retired.drop(name)
    for name, agent in session.agents.records.items():
        retire(session, name, agent.incarnation)
    session.begin_run()
    # The synthesizer drops what it has: the findings are those of the earlier run.
    event.give_to_results()


def purge(event: SignalEvent, payload: RunPurged) -> None:
    """RUN_PURGED: have everything of the session deleted, unless its run is open."""
    session = event.session
    if is_open(session):
        raise RefusedError("OPEN", f"{_open_because(session)}: close it first")
    session.is_purging = True
    event.give_to_results()


def is_open(session: SessionState) -> bool:
    """Whether a run has not ended: an agent is at work or awaited, or nobody has come yet.

    A run that was closed is over, whoever was expected; so is one that is being deleted.
    """
    if session.closed_ms or session.is_purging:
        return False
    return not session.agents.records or bool(at_work(session) or session.awaited())


def at_work(session: SessionState) -> list[str]:
    """Name the agents that have come and not ended, sorted."""
    records = session.agents.records
    return sorted(name for name, agent in records.items() if agent.status not in ENDED)


def _open_because(session: SessionState) -> str:
    if names := at_work(session):
        return f"{listed(names)} still work in {session.name}"
    if names := session.awaited():
        verb, has = ("is", "has") if len(names) == 1 else ("are", "have")
        return f"{listed(names)} {verb} expected in {session.name}, and {has} not come"
    return f"nobody has come to run {session.run} of {session.name} yet"


def retire(session: SessionState, name: str, incarnation: int, seq: int = 0) -> None:
    """Remember the last incarnation of a name whose record goes: it must not speak again.

    Unless `seq` says with which number it was heard last: it has not ended, and may go on.
    """
    known = session.retired.get(name)
    last = max(incarnation, known.incarnation if known is not None else 0)
    session.retired.put(name, RetiredRecord(last, session.log, seq))
    if len(session.retired) > SESSION_RETIRED_MAX:
        records = session.retired.records
        oldest = sorted(records, key=lambda one: (records[one].log, one))
        for gone in oldest[: SESSION_RETIRED_MAX // 100]:
            session.retired.drop(gone)


def refusal(event: SignalEvent) -> str:
    """Say why a signal comes too late: its run is closed. "" while it is open."""
    session = event.session
    if not session.closed_ms or event.signal.type in _AFTER_CLOSING:
        return ""
    return (
        f"{session.closed_by} has closed run {session.run} of {session.name}; "
        f"`fabric open` begins the next one"
    )


def tell(event: Event, name: str, notice: Notice) -> None:
    """Tell a sender without a record of a refusal, if it was not told of one just now."""
    session = event.session
    if name in session.agents:
        return
    known = session.retired.get(name)
    if known is None:
        if len(session.retired) >= SESSION_RETIRED_MAX // 2:
            return  # names cost nothing: they must not make those that count be forgotten
        known = RetiredRecord(0, session.log)
    if session.clock_ms - known.told_ms >= NOTICE_PAUSE_MS:
        known.told_ms = session.clock_ms
        session.retired.put(name, known)
        event.direct(name, notice)
