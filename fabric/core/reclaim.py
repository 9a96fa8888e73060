"""Claims taken back, where the rule file says so: a holder is not robbed otherwise (design, 6)."""

from __future__ import annotations

from fabric.core.claims import advance, drop, tell_wait
from fabric.core.decision import Decision
from fabric.core.directive import DirectiveType, Pause
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.order import resources
from fabric.core.record import Agent, Claim, ClaimState
from fabric.core.rules import Rules
from fabric.core.session import Session
from fabric.core.standing import restate


def yield_to_urgent(
    session: Session, name: str, agent: Agent, rules: Rules, decision: Decision
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


def hold_over(session: Session, claim_id: str, rules: Rules) -> Decision | None:
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


def _is_outranked(session: Session, claim: Claim) -> bool:
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
