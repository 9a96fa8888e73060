"""Two agents want the same resource: they get it one after the other.

An agent asks for all it needs in one INTENT and gets all of it, under a fencing token, or waits for
all of it. A conflict is found by the fabric itself, from the agents' intents, or by an outside
detector that sends CONFLICT_DETECTED. In both cases all agents in the conflict domain pause, the
most urgent proceeds, and the others wait in order and go on one after the other.

    INTENT, it is free        PROCEED
    INTENT, another has it    CONFLICT_DETECTED; PAUSE both; PROCEED to the holder, WAIT
    INTENT, a leader          WAIT until it has integrated
      integrates
    CONFLICT_DETECTED         PAUSE all; PROCEED to the most urgent, WAIT to the others
    BLOCKED on a resource     NUDGE to the holder, WAIT
    RELEASE, or the end       RESUME and PROCEED to the next agent
    DEPENDENCY_RESOLVED       the same, when its id is a resource that the emitter holds

Order and index are in `order.py`; how claims are granted and taken back, in `claims.py`.
"""

from __future__ import annotations

from itertools import islice

from fabric.core import claims, contradiction
from fabric.core.agent_status import is_at_work, update_status
from fabric.core.claims import Ask
from fabric.core.copies import is_apart
from fabric.core.directive import Cancel, Nudge, Pause
from fabric.core.event import Event, RefusedError, SignalEvent
from fabric.core.handover import UNFINISHED
from fabric.core.limits import (
    AGENT_RESOURCES_MAX,
    AGENT_WAITS_MAX,
    EVENT_GRANTS_MAX,
    NAMES_SHOWN_MAX,
    SESSION_CLAIMS_MAX,
    SESSION_RESOURCES_MAX,
    SIGNAL_STEPS_MAX,
)
from fabric.core.order import Order
from fabric.core.policy import WorktreePolicy
from fabric.core.record import ENDED, AgentRecord, ClaimRecord, ClaimState
from fabric.core.resource import CostlyError, Meter, overlap
from fabric.core.resource_name import folder_names, normalise
from fabric.core.session import SHARE_MIN, SessionState, is_reserved, reserved
from fabric.core.signal import ConflictDetected, Intent

WRITE_WRITE = "write-write"
READ_WRITE = "read-write"


def intent(event: SignalEvent, payload: Intent) -> None:
    """Grant what the agent is about to write, or let it wait for its turn."""
    ask = claims.ask_of(payload.writes, payload.reads, event.rules)
    if payload.workspace and not event.agent.workspace:
        event.agent.workspace = payload.workspace
    if not any(ask):
        return
    known = claims.covering(event.session, event.agent, ask)
    if known is not None:
        # An agent that asks again gets the answer again.
        if known.state is ClaimState.HELD:
            claims.send_proceed(event, known)
        else:
            claims.send_wait(event, known)
        return
    _check_limits(event, ask)
    claim = claims.enqueue(event, event.name, event.agent, ask)
    claims.check_cost(event, [claim])
    if not claims.try_grant(event, claim):
        if event.session.order.is_free(claim):
            # Only an integration is in its way.
            claims.send_wait(event, claim)
            update_status(event.session, event.name)
        else:
            _serialise(event, claim)


def detected(event: SignalEvent, payload: ConflictDetected) -> None:
    """Serialise a conflict that an agent, or an outside detector, has found."""
    if payload.kind == contradiction.FINDING:
        contradiction.ask_person(event, payload)
        return
    if claims.take_trial(event, payload):
        return
    session = event.session
    ask = claims.ask_of(payload.resources or [f"conflict-{session.log}"], [], event.rules)
    named = payload.agents or _in_domain(session, ask)
    domain = [name for name in dict.fromkeys(named) if is_at_work(session, name)]
    is_conflict = len(domain) >= 2
    total = len(session.claims) + len(domain)
    # Whoever sends this need not be one of them: no share of theirs bounds it.
    is_full = total > SESSION_CLAIMS_MAX or is_reserved(SHARE_MIN, total, SESSION_CLAIMS_MAX)
    if is_conflict and is_full:
        reason = f"{total} claims, and {reserved(SESSION_CLAIMS_MAX)}"
        raise RefusedError("LIMIT", reason)
    if is_conflict and len(domain) * len(ask.writes) > EVENT_GRANTS_MAX:
        raise claims.too_costly(ask.writes)
    concerned: list[ClaimRecord] = []
    new: list[ClaimRecord] = []
    for place, name in enumerate(domain if is_conflict else ()):
        member = session.agents.records[name]
        known = claims.covering(session, member, ask)
        concerned.append(known or claims.enqueue(event, name, member, ask, place))
        new += [] if known else concerned[-1:]
    if new:
        claims.check_cost(event, new)
    for name in claims.coordinators(ask.writes, event.rules):
        event.forward(name)
    if not is_conflict:
        return
    _arbitrate(event, concerned, ask.writes)
    event.waiting = domain


def wait_on(event: SignalEvent, on: str) -> bool:
    """BLOCKED on a resource that another agent has: wait for it. False when it is free."""
    session, name, agent = event.session, event.name, event.agent
    ask = claims.ask_of([on], [], event.rules)
    known = claims.covering(session, agent, ask)
    if known is not None and known.state is ClaimState.WAITING:
        claims.send_wait(event, known)
        return True
    holders = {
        holder_id: holder
        for resource in ask.writes
        for other in session.order.overlapping(resource)
        for holder_id in session.order.holders(other)
        if _excludes(agent, holder := session.claims.records[holder_id], event, resource, other)
    }
    if not holders:
        return False
    _check_limits(event, ask)
    claim = claims.enqueue(event, name, agent, ask)
    claims.check_cost(event, [claim])
    unaware = [holder for holder in holders.values() if not holder.contended]
    for holder in unaware:
        holder.contended = True
        session.claims.put(holder.id, holder)
    for other in dict.fromkeys(holder.agent for holder in unaware):
        event.direct(other, Nudge(on, [name]))
    claim.contended = True
    claims.send_wait(event, claim)
    update_status(session, name)
    return True


def give_back(event: SignalEvent, named: list[str], *, is_unfinished: bool = False) -> None:
    """End the agent's claims on what it names, or all of them when it names nothing."""
    session, agent = event.session, event.agent
    given = {one for name in claims.named(named) for one in folder_names(name)}
    given_back: list[str] = []
    freed: list[str] = []
    copy = ""
    for claim in session.claims_of(agent):
        if named and given.isdisjoint([*claim.writes, *claim.reads, *claim.observes]):
            continue
        # What it reads without waiting, and an exclusive domain, end with the last it asked for.
        asked = [one for one in claim.wanted if one not in claim.domains]
        if claim.state is ClaimState.HELD:
            copy = claim.copy
            given_back += [one for one in claim.writes if not named or one in given]
        if named and not given.issuperset(asked or claim.observes):
            freed += claims.shrink(session, claim, given)
        else:
            freed += claims.drop(session, claim, agent)
    if is_unfinished and given_back:
        session.leftovers.leave(
            event.name, agent, given_back, session.clock_ms, UNFINISHED, copy=copy
        )
    else:
        session.leftovers.settle(given_back, copy)  # before the next agent is told
    if freed:
        claims.grant_next(event, freed, of=event.name)


def _excludes(
    agent: AgentRecord, holder: ClaimRecord, event: SignalEvent, mine: str, theirs: str
) -> bool:
    """Whether a held claim would exclude one that the emitter made now."""
    is_split = event.rules.worktrees is WorktreePolicy.SEPARATE
    asking = ClaimRecord(event.name, ClaimState.WAITING, [mine])
    asking.copy = agent.workspace if is_split else ""
    return not is_apart(asking, holder, mine, theirs)


def holds(session: SessionState, agent: AgentRecord, resource: str) -> bool:
    """Whether an agent holds a resource by just this name."""
    if not agent.claims:
        return False
    wanted = normalise(resource)
    return any(
        claim.state is ClaimState.HELD and wanted in claim.wanted
        for claim in session.claims_of(agent)
    )


def _check_limits(event: SignalEvent, ask: Ask) -> None:
    """Refuse a claim too many, and tell the emitter that it need not wait for an answer."""
    session, name = event.session, event.name
    reason = ""
    more = len(ask.writes) + len(ask.reads) + len(ask.observes)
    if len(session.claims) >= SESSION_CLAIMS_MAX:
        reason = f"session {session.name} has {SESSION_CLAIMS_MAX} claims, the most allowed"
    elif len(event.agent.claims) >= AGENT_WAITS_MAX:
        reason = f"{name} has {AGENT_WAITS_MAX} claims, the most allowed: release some"
    elif is_reserved(len(event.agent.claims) + 1, len(session.claims) + 1, SESSION_CLAIMS_MAX):
        reason = f"{name} would have {len(event.agent.claims) + 1} claims, and "
        reason += reserved(SESSION_CLAIMS_MAX)
    elif len(session.order) + more > SESSION_RESOURCES_MAX:
        reason = f"session {session.name} would have claims on over {SESSION_RESOURCES_MAX}"
        reason = f"{reason} resources, the most allowed"
    else:
        mine = sum(
            len(claim.writes) + len(claim.reads) + len(claim.observes)
            for claim in session.claims_of(event.agent)
        )
        if is_reserved(mine + more, len(session.order) + more, SESSION_RESOURCES_MAX):
            reason = f"{name} would have claims on {mine + more} resources, and "
            reason += reserved(SESSION_RESOURCES_MAX)
        elif mine + more > AGENT_RESOURCES_MAX:
            reason = f"{name} would have claims on {mine + more} resources"
            reason = f"{reason}; the limit is {AGENT_RESOURCES_MAX}: release some"
    if reason:
        told = Cancel(reason, "LIMIT", resources=[*ask.writes, *ask.reads])
        raise RefusedError("LIMIT", reason, told)


def _arbitrate(event: SignalEvent, concerned: list[ClaimRecord], contested: list[str]) -> None:
    """All pause, the holder too; the most urgent proceeds, the others hear their turn."""
    order = event.session.order
    unnamed = {holder.id: holder for claim in concerned for holder in order.blockers(claim)}
    involved = {claim.id: claim for claim in concerned} | unnamed
    touched = _touched(order, contested)
    for claim in involved.values():
        _pause(event, claim, touched)
    granted = claims.grant_next(event, contested, is_first=True)
    for claim_id, claim in involved.items():
        if claim.state is ClaimState.HELD and claim_id not in granted:
            claims.send_proceed(event, claim)
    for claim in concerned:
        if claim.state is ClaimState.WAITING:
            claims.send_wait(event, claim)


def _serialise(event: SignalEvent, claim: ClaimRecord) -> None:
    """Tell all in the conflict domain, once, that a new claim must wait."""
    session, order = event.session, event.session.order
    holders = list(order.blockers(claim))
    contested = [
        resource
        for resource in claim.wanted
        if any(
            _is_contested(session, resource, other, claim) for other in order.overlapping(resource)
        )
    ]
    claims_by_id = session.claims.records
    rivals = holders or [claims_by_id[place.id] for place in order.position(claim)[1]]
    domain = dict.fromkeys(rival.agent for rival in rivals)
    writes = bool(claim.writes) and any(rival.writes for rival in rivals)
    kind = WRITE_WRITE if writes else READ_WRITE
    found = ConflictDetected(contested, [*domain, claim.agent], kind)
    event.derive("", found)
    for coordinator in claims.coordinators(contested, event.rules):
        if coordinator not in found.agents:
            event.derive(coordinator, found)
    newly = [holder for holder in holders if not holder.contended]
    touched = _touched(order, contested)
    for holder in newly:
        _pause(event, holder, touched)
    _pause(event, claim, touched)
    for holder in newly:
        claims.send_proceed(event, holder)
    claims.send_wait(event, claim)
    update_status(session, claim.agent)


def _is_contested(session: SessionState, mine: str, resource: str, claim: ClaimRecord) -> bool:
    """Whether another agent, which excludes this one, holds a resource or waits for it."""
    order = session.order
    holders = (session.claims.records[holder] for holder in order.holders(resource))
    return any(order.excludes(claim, holder, mine, resource) for holder in holders) or any(
        order.excludes(claim, place, mine, resource) for place in order.queue(resource)
    )


def _touched(order: Order, contested: list[str]) -> set[str]:
    """Return the resources in use that overlap those that several want."""
    return {other for resource in contested for other in order.overlapping(resource)}


def _pause(event: Event, claim: ClaimRecord, touched: set[str]) -> None:
    """Tell an agent once per claim that others want the same."""
    if claim.contended:
        return
    claim.contended = True
    # The claim's own record is written with whatever else has changed in this event.
    event.session.claims.changed.add(claim.id)
    mine = (resource for resource in claim.wanted if resource in touched)
    event.direct(claim.agent, Pause("conflict", list(islice(mine, NAMES_SHOWN_MAX))))


def _in_domain(session: SessionState, ask: Ask) -> list[str]:
    """Name the agents that hold, want or have declared to write what a conflict is about."""
    order, known = session.order, session.claims.records
    found: set[str] = set()
    meter = Meter()
    meter.steps_max = SIGNAL_STEPS_MAX
    try:
        order.cost(ClaimRecord("", ClaimState.WAITING, ask.writes), 1, SIGNAL_STEPS_MAX)
        for mine in ask.writes:
            for other in order.overlapping(mine):
                found.update(place.agent for place in order.queue(other) if place.is_write)
                holders = map(known.__getitem__, order.holders(other))
                found.update(holder.agent for holder in holders if other in holder.writes)
        for name, agent in session.agents.records.items():
            if agent.status not in ENDED and any(
                overlap(mine, theirs, meter)
                for theirs in claims.named(agent.writes)
                for mine in ask.writes
            ):
                found.add(name)
    except CostlyError:
        raise claims.too_costly(ask.writes) from None
    return sorted(found)
