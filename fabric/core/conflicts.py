"""Who may write what, one after the other (seeds: Rule 3; design, section 6 "Conflicts").

An agent asks for all it needs in one INTENT and gets all of it, under a fencing token, or waits for
all of it. Whoever finds that two want the same (the fabric itself, from their intents, or an
outside detector with CONFLICT_DETECTED), the same follows: all in the conflict domain pause, the
most urgent proceeds, the others wait in order and go on one after the other.

    INTENT, nobody has it     PROCEED
    INTENT, somebody has it   CONFLICT_DETECTED; PAUSE both; PROCEED to the holder, WAIT
    CONFLICT_DETECTED         PAUSE all; PROCEED to the most urgent, WAIT to the others
    BLOCKED on a resource     NUDGE to the holder, WAIT
    RELEASE, or the end       RESUME and PROCEED to whoever is next
    DEPENDENCY_RESOLVED       the same, when its id is a resource that the speaker holds

Order and index are in `order.py`; how claims are granted and taken back, in `claims.py`.
"""

from __future__ import annotations

from fabric.core import barriers, claims, contradiction, deadlock
from fabric.core.agent_status import is_at_work, restate
from fabric.core.claims import Ask
from fabric.core.decision import ACCEPTED, ORCHESTRATOR, Decision, refuse
from fabric.core.directive import Cancel, DirectiveType, Nudge, Pause, Proceed
from fabric.core.limits import AGENT_WAITS_MAX, NAMES_SHOWN_MAX, SESSION_CLAIMS_MAX
from fabric.core.order import resources
from fabric.core.record import ENDED, AgentRecord, ClaimRecord, ClaimState
from fabric.core.resource import normalise, overlap
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import ConflictDetected, Intent, Signal, SignalType

WRITE_WRITE = "write-write"
READ_WRITE = "read-write"


def intent(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Grant what the agent is about to write, or let it wait for its turn."""
    assert agent is not None
    assert isinstance(signal.payload, Intent)
    ask = claims.ask_of(signal.payload.writes, signal.payload.reads, rules)
    if not ask:
        return ACCEPTED
    decision, name = Decision(), signal.emitter
    known = claims.covering(session, agent, ask)
    if known is not None:
        _answer_again(session, *known, decision)
        return decision
    excess = over_limit(session, name, agent, ask)
    if excess is not None:
        return excess
    claim_id, claim = claims.make(session, name, agent, ask, rules)
    if not claims.try_grant(session, claim_id, claim, rules, decision):
        _serialise(session, claim_id, claim, rules, decision)
    return decision


def detected(
    session: SessionState, agent: AgentRecord | None, signal: Signal, rules: Rules
) -> Decision:
    """Serialise a conflict that an agent, or an outside detector, has found."""
    assert isinstance(signal.payload, ConflictDetected)
    payload = signal.payload
    if payload.kind == contradiction.FINDING:
        return contradiction.found(session, signal, rules)
    ask = claims.ask_of(payload.resources or [f"conflict-{session.log}"], [], rules)
    named = payload.agents or _in_domain(session, ask)
    domain = [name for name in dict.fromkeys(named) if is_at_work(session, name)]
    decision = Decision()
    _tell_coordinators(ask.writes, rules, decision, signal)
    if len(domain) < 2:
        return decision if decision.messages else ACCEPTED
    if len(session.claims) + len(domain) > SESSION_CLAIMS_MAX:
        return refuse(
            "LIMIT", f"session {session.name} would have over {SESSION_CLAIMS_MAX} claims"
        )
    concerned = []
    for place, name in enumerate(domain):
        member = session.agents.records[name]
        known = claims.covering(session, member, ask)
        concerned.append(known or claims.make(session, name, member, ask, rules, place))
    _arbitrate(session, concerned, ask.writes, rules, decision)
    for name in domain:
        restate(session, name, session.agents.records[name])
        barriers.rest(session, name, session.agents.records[name], decision)
    for name in domain:
        deadlock.look(session, name, rules, decision)
    return decision


def _arbitrate(
    session: SessionState,
    concerned: list[tuple[str, ClaimRecord]],
    contested: list[str],
    rules: Rules,
    decision: Decision,
) -> None:
    """All pause, the holder too; the most urgent proceeds, the others hear their turn."""
    holders = dict.fromkeys(holder for one in concerned for holder in session.order.blockers(*one))
    unnamed = [(holder, session.claims.records[holder]) for holder in holders]
    for _, claim in [*concerned, *unnamed]:
        _pause(session, claim, contested, decision)
    granted = claims.advance(session, contested, rules, decision, is_first=True)
    for claim_id, claim in dict([*concerned, *unnamed]).items():
        if claim.state is ClaimState.HELD and claim_id not in granted:
            _proceed(session, claim, decision)
    for claim_id, claim in concerned:
        if claim.state is ClaimState.WAITING:
            claims.tell_wait(session, claim_id, claim, decision)


def blocked_on(
    session: SessionState, name: str, agent: AgentRecord, on: str, rules: Rules
) -> Decision | None:
    """BLOCKED on a resource that somebody has: wait for it. None when nobody has it."""
    ask = claims.ask_of([on], [], rules)
    known = claims.covering(session, agent, ask)
    if known is not None and known[1].state is ClaimState.WAITING:
        decision = Decision()
        claims.tell_wait(session, *known, decision)
        return decision
    holders = [
        holder_id
        for resource in ask.writes
        for other in session.order.overlapping(resource)
        for holder_id in session.order.holders(other)
        if session.claims.records[holder_id].agent != name
    ]
    if not holders:
        return None
    excess = over_limit(session, name, agent, ask)
    if excess is not None:
        return excess
    decision = Decision()
    claim_id, claim = claims.make(session, name, agent, ask, rules)
    unaware: dict[str, None] = {}
    for holder_id in dict.fromkeys(holders):
        holder = session.claims.records[holder_id]
        if not holder.contended:
            holder.contended = True
            session.claims.put(holder_id, holder)
            unaware[holder.agent] = None
    for other in unaware:
        decision.direct(other, DirectiveType.NUDGE, Nudge(on, [name]))
    claim.contended = True
    claims.tell_wait(session, claim_id, claim, decision)
    restate(session, name, agent)
    return decision


def give_back(
    session: SessionState,
    name: str,
    agent: AgentRecord,
    named: list[str],
    rules: Rules,
    decision: Decision,
) -> None:
    """RELEASE: the agent's claims on what it names end, or all of them when it names nothing."""
    given = {normalise(resource) for resource in named}
    freed: list[str] = []
    for claim_id in list(agent.claims):
        claim = session.claims.records[claim_id]
        if named and given.isdisjoint([*claim.writes, *claim.reads, *claim.observes]):
            continue
        # What it reads without waiting, and an exclusive domain, end with the last it asked for.
        asked = [one for one in [*claim.writes, *claim.reads] if one not in claim.domains]
        if named and not given.issuperset(asked or claim.observes):
            freed += claims.shrink(session, claim_id, claim, given)
        else:
            freed += claims.drop(session, claim_id, claim, agent)
    if freed:
        claims.advance(session, freed, rules, decision, of=name)


def holds(session: SessionState, agent: AgentRecord, resource: str) -> bool:
    """Whether an agent holds a resource by just this name."""
    wanted = normalise(resource)
    return any(
        wanted in claim.writes or wanted in claim.reads
        for claim in (session.claims.records[c] for c in agent.claims)
        if claim.state is ClaimState.HELD
    )


def over_limit(session: SessionState, name: str, agent: AgentRecord, ask: Ask) -> Decision | None:
    """Refuse a claim too many, and tell who asked: it waits for an answer."""
    reason = ""
    if len(session.claims) >= SESSION_CLAIMS_MAX:
        reason = f"session {session.name} has {SESSION_CLAIMS_MAX} claims, the most allowed"
    elif len(agent.claims) >= AGENT_WAITS_MAX:
        reason = f"{name} has {AGENT_WAITS_MAX} claims, the most allowed: release some"
    if not reason:
        return None
    decision = refuse("LIMIT", reason)
    told = Cancel(reason, "LIMIT", resources=[*ask.writes, *ask.reads])
    decision.direct(name, DirectiveType.CANCEL, told)
    return decision


def _serialise(
    session: SessionState, claim_id: str, claim: ClaimRecord, rules: Rules, decision: Decision
) -> None:
    """A new claim must wait: say so to all in the conflict domain who have not heard of it yet."""
    order = session.order
    holders = list(order.blockers(claim_id, claim))
    contested = [
        resource
        for resource, _ in resources(claim)
        if any(_is_contested(session, other, claim) for other in order.overlapping(resource))
    ]
    ahead = holders or [place.id for place in order.position(claim_id, claim)[1]]
    rivals = [session.claims.records[rival] for rival in ahead]
    domain = dict.fromkeys(rival.agent for rival in rivals)
    writes = bool(claim.writes) and any(rival.writes for rival in rivals)
    found = ConflictDetected(
        contested, [*domain, claim.agent], WRITE_WRITE if writes else READ_WRITE
    )
    decision.derive("", SignalType.CONFLICT_DETECTED, ORCHESTRATOR, "", found)
    for coordinator in claims.coordinators(contested, rules):
        if coordinator not in found.agents:
            decision.derive(coordinator, SignalType.CONFLICT_DETECTED, ORCHESTRATOR, "", found)
    newly = [h for h in holders if not session.claims.records[h].contended]
    for holder_id in newly:
        _pause(session, session.claims.records[holder_id], contested, decision)
    _pause(session, claim, contested, decision)
    for holder_id in newly:
        _proceed(session, session.claims.records[holder_id], decision)
    claims.tell_wait(session, claim_id, claim, decision)
    restate(session, claim.agent, session.agents.records[claim.agent])


def _is_contested(session: SessionState, resource: str, claim: ClaimRecord) -> bool:
    """Whether another agent holds a resource, or waits for it."""
    holders = (session.claims.records[holder] for holder in session.order.holders(resource))
    return any(holder.agent != claim.agent for holder in holders) or any(
        place.agent != claim.agent for place in session.order.queue(resource)
    )


def _pause(
    session: SessionState, claim: ClaimRecord, contested: list[str], decision: Decision
) -> None:
    """Tell an agent once per claim that others want the same."""
    if claim.contended:
        return
    claim.contended = True
    # The claim's own record is written with whatever else has changed in this event.
    session.claims.changed.add(claims.id_of(claim))
    mine = [
        resource
        for resource, _ in resources(claim)
        if any(overlap(resource, other) for other in contested)
    ]
    pause = Pause("conflict", mine[:NAMES_SHOWN_MAX])
    decision.direct(claim.agent, DirectiveType.PAUSE, pause)


def _proceed(session: SessionState, claim: ClaimRecord, decision: Decision) -> None:
    waiting = session.order.waiting(claim)
    given = Proceed([*claim.writes, *claim.reads, *claim.observes], claim.token, waiting)
    decision.direct(claim.agent, DirectiveType.PROCEED, given)


def _answer_again(
    session: SessionState, claim_id: str, claim: ClaimRecord, decision: Decision
) -> None:
    """Who asks again for what it has, or waits for, hears how things stand."""
    if claim.state is ClaimState.HELD:
        _proceed(session, claim, decision)
    else:
        claims.tell_wait(session, claim_id, claim, decision)


def _in_domain(session: SessionState, ask: Ask) -> list[str]:
    """Name the agents that hold, want or have declared to write what a conflict is about."""
    found: set[str] = set()
    for claim in session.claims.records.values():
        if any(overlap(mine, theirs) for mine in ask.writes for theirs in claim.writes):
            found.add(claim.agent)
    for name, agent in session.agents.records.items():
        if agent.status not in ENDED and any(
            overlap(mine, normalise(theirs)) for mine in ask.writes for theirs in agent.writes
        ):
            found.add(name)
    return sorted(found)


def _tell_coordinators(
    contested: list[str], rules: Rules, decision: Decision, signal: Signal
) -> None:
    for name in claims.coordinators(contested, rules):
        decision.forward(name, signal)
