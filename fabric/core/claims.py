"""Claims on resources: made, granted, and given back (design, section 6 "Conflicts").

A claim is granted as a whole, under a fencing token that is larger than any before it in the
session. Whatever frees a resource goes through `advance`, which grants what has become free.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fabric.core.agent_status import restate, resume
from fabric.core.decision import ORCHESTRATOR, Decision
from fabric.core.directive import DirectiveType, Pause, Proceed, Resume, Wait
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.order import resources
from fabric.core.record import AgentRecord, ClaimRecord, ClaimState
from fabric.core.resource import normalise, overlap
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import ConflictDetected, SignalType

#: The timer by which a claim is taken back is `hold:<claim>`.
TIMER = "hold"


class Ask(NamedTuple):
    """What an agent asks for: to write, to read in its turn, and to read without waiting."""

    writes: list[str]
    reads: list[str]
    observes: list[str]
    #: Of the writes, those that were added: the exclusive domains that it touches.
    domains: list[str]

    def __bool__(self) -> bool:
        return bool(self.writes or self.reads or self.observes)


def ask_of(writes: Iterable[str], reads: Iterable[str], rules: Rules) -> Ask:
    """Return what is asked for, in normal spelling, with the exclusive domains that it touches."""
    wanted = dict.fromkeys(map(normalise, writes))
    added: list[str] = []
    for domain in rules.domains:
        pattern = normalise(domain.pattern)
        if domain.exclusive and any(overlap(pattern, resource) for resource in wanted):
            added += [pattern] if pattern not in wanted else []
            wanted[pattern] = None
    read = [resource for resource in dict.fromkeys(map(normalise, reads)) if resource not in wanted]
    if rules.serialize_reads:
        return Ask(list(wanted), read, [], added)
    return Ask(list(wanted), [], read, added)


def id_of(claim: ClaimRecord) -> str:
    """Return the name under which a claim is kept."""
    return f"{claim.asked}:{claim.agent}"


def covering(session: SessionState, agent: AgentRecord, ask: Ask) -> tuple[str, ClaimRecord] | None:
    """Return a claim of the agent that already is for all that it asks for; a held one first."""
    found = None
    for claim_id in agent.claims:
        claim = session.claims.records[claim_id]
        if (
            set(ask.writes) <= set(claim.writes)
            and set(ask.reads) <= {*claim.writes, *claim.reads}
            and set(ask.observes) <= {*claim.writes, *claim.reads, *claim.observes}
        ):
            if claim.state is ClaimState.HELD:
                return claim_id, claim
            found = found or (claim_id, claim)
    return found


def make(
    session: SessionState, name: str, agent: AgentRecord, ask: Ask, rules: Rules, place: int = 0
) -> tuple[str, ClaimRecord]:
    """Put a new claim into the queues of its resources."""
    claim = ClaimRecord(
        name,
        ClaimState.WAITING,
        ask.writes,
        ask.reads,
        ask.observes,
        ask.domains,
        asked_ms=session.clock_ms,
        rank_ms=session.clock_ms - agent.priority * rules.ageing_ms,
        asked=session.log,
        place=place,
    )
    claim_id = id_of(claim)
    session.claims.put(claim_id, claim)
    session.order.enqueue(claim_id, claim)
    agent.claims = [*agent.claims, claim_id]
    session.agents.put(name, agent)
    return claim_id, claim


def try_grant(
    session: SessionState, claim_id: str, claim: ClaimRecord, rules: Rules, decision: Decision
) -> bool:
    """Grant a new claim at once if it is free."""
    if not session.order.is_free(claim_id, claim):
        return False
    _grant(session, claim_id, claim, rules, decision)
    _grant_all(session, _waiting_of(session, claim.agent), rules, decision, is_first=False)
    return True


def advance(
    session: SessionState,
    freed: list[str],
    rules: Rules,
    decision: Decision,
    *,
    of: str = "",
    is_first: bool = False,
) -> set[str]:
    """Grant every claim that has become free with these resources; return which.

    `of` is an agent that now asks for less. `is_first`: the claims were made in this event, so
    that nobody has waited yet.
    """
    candidates = [*session.order.next_up(freed), *(_waiting_of(session, of) if of else ())]
    return _grant_all(session, candidates, rules, decision, is_first=is_first)


def _grant_all(
    session: SessionState,
    candidates: list[str],
    rules: Rules,
    decision: Decision,
    *,
    is_first: bool,
) -> set[str]:
    """Grant those that are free, and what becomes free with that."""
    granted: set[str] = set()
    while candidates:
        following: list[str] = []
        for claim_id in candidates:
            claim = session.claims.records[claim_id]
            if claim.state is not ClaimState.WAITING:
                continue
            if session.order.is_free(claim_id, claim):
                agent = session.agents.records[claim.agent]
                _grant(session, claim_id, claim, rules, decision, None if is_first else agent)
                granted.add(claim_id)
                # Readers may stand right behind; and nobody waits for what it has already.
                following += session.order.next_up([one for one, _ in resources(claim)])
                following += _waiting_of(session, claim.agent)
        candidates = following
    return granted


def _waiting_of(session: SessionState, name: str) -> list[str]:
    claims = session.claims.records
    own = session.agents.records[name].claims
    return [claim_id for claim_id in own if claims[claim_id].state is ClaimState.WAITING]


def drop(session: SessionState, claim_id: str, claim: ClaimRecord, agent: AgentRecord) -> list[str]:
    """End a claim, held or waiting; return what may have become free."""
    session.order.drop(claim_id, claim)
    session.claims.drop(claim_id)
    agent.claims = [other for other in agent.claims if other != claim_id]
    session.agents.put(claim.agent, agent)
    return [resource for resource, _ in resources(claim)]


def drop_all(
    session: SessionState, agent: AgentRecord, rules: Rules, decision: Decision
) -> list[str]:
    """End every claim of an agent and grant what that frees; return what it had held."""
    held: list[str] = []
    freed: list[str] = []
    for claim_id in agent.claims:
        claim = session.claims.records[claim_id]
        if claim.state is ClaimState.HELD:
            held += [*claim.writes, *claim.reads]
        freed += drop(session, claim_id, claim, agent)
    if freed:
        advance(session, freed, rules, decision)
    return held


def shrink(session: SessionState, claim_id: str, claim: ClaimRecord, given: set[str]) -> list[str]:
    """Take some resources out of a claim; return what may have become free, itself included."""
    session.order.drop(claim_id, claim)
    before = [resource for resource, _ in resources(claim)]
    claim.writes = [resource for resource in claim.writes if resource not in given]
    claim.reads = [resource for resource in claim.reads if resource not in given]
    claim.observes = [resource for resource in claim.observes if resource not in given]
    if claim.state is ClaimState.HELD:
        session.order.hold(claim_id, claim)
    else:
        session.order.enqueue(claim_id, claim)
    session.claims.put(claim_id, claim)
    return before


def tell_wait(session: SessionState, claim_id: str, claim: ClaimRecord, decision: Decision) -> None:
    """Tell who waits how things stand: who has it, how many are before it, who they are."""
    before, first = session.order.position(claim_id, claim)
    holder = next(session.order.blockers(claim_id, claim), None)
    ahead = list(dict.fromkeys(place.agent for place in first))
    has = session.claims.records[holder].agent if holder is not None else ""
    told = Wait([*claim.writes, *claim.reads], before + 1, has, ahead)
    decision.direct(claim.agent, DirectiveType.WAIT, told)


def coordinators(contested: list[str], rules: Rules) -> list[str]:
    """Name who is told of conflicts over these resources."""
    found = {
        domain.coordinator: None
        for domain in rules.domains
        if domain.coordinator
        and any(overlap(normalise(domain.pattern), resource) for resource in contested)
    }
    return list(found)


def report_stale_reads(session: SessionState, claim: ClaimRecord, decision: Decision) -> None:
    """Say who reads what another writes at the same time (seeds: "Read-Write Conflict")."""
    for resource in claim.observes:
        for other in session.order.overlapping(resource):
            for holder_id in session.order.holders(other):
                writer = session.claims.records[holder_id]
                if writer.agent != claim.agent and other in writer.writes:
                    _tell_reader(decision, claim.agent, writer.agent, other)
    for resource in claim.writes:
        for reader_id in dict.fromkeys(session.order.observers(resource)):
            reader = session.claims.records[reader_id]
            if reader.agent != claim.agent:
                _tell_reader(decision, reader.agent, claim.agent, resource)


def _tell_reader(decision: Decision, reader: str, writer: str, resource: str) -> None:
    found = ConflictDetected([resource], [writer, reader], "read-write")
    decision.derive(reader, SignalType.CONFLICT_DETECTED, ORCHESTRATOR, "", found)


def _grant(
    session: SessionState,
    claim_id: str,
    claim: ClaimRecord,
    rules: Rules,
    decision: Decision,
    waiter: AgentRecord | None = None,
) -> None:
    session.token += 1
    claim.state = ClaimState.HELD
    claim.token = session.token
    claim.granted_ms = session.clock_ms
    session.order.hold(claim_id, claim)
    session.claims.put(claim_id, claim)
    granted = [*claim.writes, *claim.reads, *claim.observes]
    if waiter is not None:
        resume(session, claim.agent, waiter, decision, Resume("your turn", resources=granted))
    proceed = Proceed(granted, claim.token, session.order.waiting(claim))
    decision.direct(claim.agent, DirectiveType.PROCEED, proceed)
    if claim.observes or session.order.has_observers:
        report_stale_reads(session, claim, decision)
    if rules.hold_ms_max:
        claim.expires_ms = session.clock_ms + rules.hold_ms_max
        decision.timers[f"{TIMER}:{claim_id}"] = claim.expires_ms


def yield_to_urgent(
    session: SessionState, name: str, agent: AgentRecord, rules: Rules, decision: Decision
) -> None:
    """At a checkpoint, where the rules allow it: who outranks the holder takes over."""
    for claim_id in list(agent.claims):
        claim = session.claims.records[claim_id]
        if claim.state is not ClaimState.HELD or not _is_outranked(session, claim):
            continue
        session.order.drop(claim_id, claim)
        claim.state = ClaimState.WAITING
        claim.token = claim.granted_ms = claim.expires_ms = 0
        session.order.enqueue(claim_id, claim)
        session.claims.put(claim_id, claim)
        taken = [resource for resource, _ in resources(claim)]
        decision.direct(name, DirectiveType.PAUSE, Pause("preempted", taken[:NAMES_SHOWN_MAX]))
        advance(session, taken, rules, decision)
        if claim_id in agent.claims and not claim.token:
            tell_wait(session, claim_id, claim, decision)
        restate(session, name, agent)


def hold_over(session: SessionState, claim_id: str, rules: Rules) -> Decision | None:
    """Take back what was held for longer than the rules allow; None when it was given back."""
    claim = session.claims.get(claim_id)
    if claim is None or not 0 < claim.expires_ms <= session.clock_ms:
        return None
    decision = Decision()
    agent = session.agents.records[claim.agent]
    freed = drop(session, claim_id, claim, agent)
    told = Pause(f"held for over {rules.hold_ms_max} ms", freed[:NAMES_SHOWN_MAX])
    decision.direct(claim.agent, DirectiveType.PAUSE, told)
    advance(session, freed, rules, decision)
    return decision


def _is_outranked(session: SessionState, claim: ClaimRecord) -> bool:
    """Whether somebody who waits for it, and for nothing that others hold, comes before its holder.

    Nobody is served while the holder keeps the same by a claim of its own that comes first.
    """
    rank = (claim.rank_ms, claim.asked, claim.place)
    for resource, _ in resources(claim):
        for other in session.order.overlapping(resource):
            for place in session.order.queue(other):
                if place[:3] >= rank:
                    break
                if place.agent == claim.agent:
                    continue
                rival = session.claims.records[place.id]
                in_the_way = [
                    session.claims.records[holder]
                    for holder in session.order.blockers(place.id, rival)
                ]
                if all(
                    held.agent == claim.agent and (held.rank_ms, held.asked, held.place) > place[:3]
                    for held in in_the_way
                ):
                    return True
    return False
