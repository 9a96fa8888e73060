"""Claims on resources: made, granted, given back, and taken back.

A claim is granted as a whole, under a fencing token that is larger than any before it in the
session. Whatever frees a resource goes through `grant_next`, which grants what has become free. A
claim is taken from its holder only where the rule file says so: at a checkpoint for a more urgent
agent (`preemption`), or after a longest time (`hold_ms_max`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from fabric.core import divergence
from fabric.core.agent_status import integration, resume, update_status
from fabric.core.copies import is_apart
from fabric.core.directive import Cancel, Pause, Proceed, Resume, Wait
from fabric.core.event import Event, RefusedError, SignalEvent
from fabric.core.limits import EVENT_GRANTS_MAX, LIST_ITEMS_MAX, NAMES_SHOWN_MAX, SIGNAL_STEPS_MAX
from fabric.core.policy import WorktreePolicy
from fabric.core.record import AgentRecord, AgentStatus, ClaimRecord, ClaimState
from fabric.core.resource import CostlyError, Meter, overlap, reading_steps
from fabric.core.resource_name import ManyNamesError, names_of, normalise
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import ConflictDetected

#: The timer by which a claim is taken back is `hold:<claim>`.
TIMER = "hold"

#: The timer by which the rest is granted of what very many claims waited for.
REST_TIMER = "grant"


#: Resources that one report of a stale read names: a writer may share a thousand with each reader.
STALE_READS_MAX = 100


class Ask(NamedTuple):
    """What an agent asks for: to write, to read in its turn, and to read without waiting."""

    writes: list[str]
    reads: list[str]
    observes: list[str]
    #: Of the writes, those that were added: the exclusive domains that it touches.
    domains: list[str]


def ask_of(writes: Iterable[str], reads: Iterable[str], rules: Rules) -> Ask:
    """Return what is asked for, normalised, with the exclusive domains that it touches.

    Raises RefusedError when it names too much, or its globs are too much work.
    """
    meter = Meter()
    meter.steps_max = SIGNAL_STEPS_MAX
    wanted = dict.fromkeys(named(writes))
    reads = named(reads)
    added: list[str] = []
    try:
        meter.spend(sum(map(reading_steps, (*wanted, *reads))))
        for domain in rules.domains:
            pattern = normalise(domain.pattern)
            if domain.exclusive and any(overlap(pattern, resource, meter) for resource in wanted):
                added += [pattern] if pattern not in wanted else []
                wanted[pattern] = None
    except CostlyError:
        raise too_costly([*wanted, *reads]) from None
    read = [resource for resource in reads if resource not in wanted]
    if rules.serialize_reads:
        return Ask(list(wanted), read, [], added)
    return Ask(list(wanted), [], read, added)


def named(texts: Iterable[str]) -> list[str]:
    """Return the resources that texts of a signal name. Raises RefusedError for too many."""
    given = list(texts)
    try:
        return names_of(given)
    except ManyNamesError:
        reason = f"its lists and braces name over {LIST_ITEMS_MAX} resources: name fewer, or a glob"
        raise RefusedError("LIMIT", reason, Cancel(reason, "LIMIT", resources=given)) from None


def too_costly(named: list[str]) -> RefusedError:
    """Return the refusal of a signal whose resources are too much work to compare."""
    reason = (
        f"comparing its {len(named)} resources with those in use takes over {SIGNAL_STEPS_MAX} "
        "steps: name fewer, or plain paths instead of globs"
    )
    return RefusedError("LIMIT", reason, Cancel(reason, "LIMIT", resources=named))


def check_cost(event: SignalEvent, asked: list[ClaimRecord]) -> None:
    """Take new claims, all for the same, back if it is too much work to decide on them.

    Raises RefusedError then; the claims leave no trace.
    """
    session = event.session
    try:
        event.spend(session.order.cost(asked[0], len(asked), SIGNAL_STEPS_MAX))
    except CostlyError:
        event.spend(SIGNAL_STEPS_MAX)
        for claim in asked:
            drop(session, claim, session.agents.records[claim.agent])
        raise too_costly([*asked[0].wanted, *asked[0].observes]) from None


def covering(session: SessionState, agent: AgentRecord, ask: Ask) -> ClaimRecord | None:
    """Return a claim of the agent that already is for all that it asks for; a held one first."""
    found = None
    # Few claims have this one: an agent may have a thousand, and ask a thousand times.
    first = next(iter((*ask.writes, *ask.reads, *ask.observes)))
    for claim in session.claims_of(agent):
        if first not in claim.writes and first not in claim.reads and first not in claim.observes:
            continue
        if (
            set(ask.writes) <= set(claim.writes)
            and set(ask.reads) <= {*claim.writes, *claim.reads}
            and set(ask.observes) <= {*claim.writes, *claim.reads, *claim.observes}
        ):
            if claim.state is ClaimState.HELD:
                return claim
            found = found or claim
    return found


def enqueue(event: Event, name: str, agent: AgentRecord, ask: Ask, place: int = 0) -> ClaimRecord:
    """Put a new claim into the queues of its resources."""
    session = event.session
    rank_ms = session.clock_ms - agent.priority * event.rules.ageing_ms
    claim = ClaimRecord(
        name, ClaimState.WAITING, *ask, session.clock_ms, rank_ms, asked=session.log, place=place
    )
    if event.rules.worktrees is WorktreePolicy.SEPARATE:
        claim.copy = agent.workspace
    session.claims.put(claim.id, claim)
    session.order.enqueue(claim)
    agent.claims = [*agent.claims, claim.id]
    session.agents.put(name, agent)
    return claim


def try_grant(event: Event, claim: ClaimRecord) -> bool:
    """Grant a new claim at once if it is free."""
    if is_kept_back(event.session, claim):
        return False
    if not event.session.order.is_free(claim):
        return False
    _grant(event, claim)
    _grant_all(event, _waiting_of(event.session, claim.agent), is_first=False)
    return True


def grant_next(event: Event, freed: list[str], *, of: str = "", is_first: bool = False) -> set[str]:
    """Grant every claim that has become free with these resources; return their ids.

    `of` is an agent that now asks for less. `is_first`: the claims were made in this event, so
    that nobody has waited yet.
    """
    session = event.session
    candidates = [*session.order.candidates(freed), *(_waiting_of(session, of) if of else ())]
    return _grant_all(event, candidates, is_first=is_first)


def drop(session: SessionState, claim: ClaimRecord, agent: AgentRecord) -> list[str]:
    """End a claim, held or waiting; return what may have become free."""
    claim_id = claim.id
    session.order.drop(claim)
    session.claims.drop(claim_id)
    agent.claims = [other for other in agent.claims if other != claim_id]
    session.agents.put(claim.agent, agent)
    return claim.wanted


def drop_all(event: Event, name: str, agent: AgentRecord) -> list[str]:
    """End every claim of an agent that has ended and grant what that frees.

    Returns what it had held.
    """
    held: list[str] = []
    written: list[str] = []
    freed: list[str] = []
    copy = ""
    for claim in event.session.claims_of(agent):
        copy = claim.copy
        if claim.state is ClaimState.HELD:
            held += claim.wanted
            written += claim.writes
        freed += drop(event.session, claim, agent)
    if written and agent.status is AgentStatus.COMPLETED:
        event.session.leftovers.settle(written, copy)
    elif written:
        event.session.leftovers.leave(name, agent, written, event.session.clock_ms, copy=copy)
    if freed:
        grant_next(event, freed)
    return held


def shrink(session: SessionState, claim: ClaimRecord, given: set[str]) -> list[str]:
    """Take some resources out of a claim; return what may have become free, itself included."""
    session.order.drop(claim)
    before = claim.wanted
    claim.writes = [resource for resource in claim.writes if resource not in given]
    claim.reads = [resource for resource in claim.reads if resource not in given]
    claim.observes = [resource for resource in claim.observes if resource not in given]
    session.order.add(claim)
    session.claims.put(claim.id, claim)
    return before


def yield_to_urgent(event: SignalEvent) -> None:
    """At a checkpoint, where the rules allow it: an agent that outranks the holder takes over."""
    session, name, agent = event.session, event.name, event.agent
    for claim in session.claims_of(agent):
        if claim.state is not ClaimState.HELD or not _is_outranked(session, claim):
            continue
        session.order.drop(claim)
        claim.state = ClaimState.WAITING
        claim.token = claim.granted_ms = claim.expires_ms = 0
        session.order.enqueue(claim)
        session.claims.put(claim.id, claim)
        taken = claim.wanted
        event.direct(name, Pause("preempted", taken[:NAMES_SHOWN_MAX]))
        grant_next(event, taken)
        if claim.id in agent.claims and not claim.token:
            send_wait(event, claim)
        update_status(session, name)


def move_expiries(event: Event, outage_ms: int) -> None:
    """Move the expiry of every held claim that has one by the length of an outage."""
    for claim in event.session.claims.records.values():
        if claim.expires_ms:
            claim.expires_ms += outage_ms
            event.session.claims.put(claim.id, claim)
            event.set_timer(f"{TIMER}:{claim.id}", claim.expires_ms)


def hold_expired(event: Event, claim_id: str) -> bool:
    """Take back what was held for longer than the rules allow; moot when it was given back."""
    session = event.session
    claim = session.claims.get(claim_id)
    if claim is None or not claim.expires_ms:
        return False
    if claim.expires_ms > session.clock_ms:  # an outage has moved it
        return event.postpone(f"{TIMER}:{claim_id}", claim.expires_ms)
    freed = drop(session, claim, session.agents.records[claim.agent])
    reason = f"held for over {event.rules.hold_ms_max} ms"
    event.direct(claim.agent, Pause(reason, freed[:NAMES_SHOWN_MAX]))
    grant_next(event, freed)
    return True


def grant_rest(event: Event, _: str = "") -> bool:
    """Grant what one event before this had freed and was too much for it; moot if there is none.

    The end of an integration frees all that had to wait for it.
    """
    waiting = (
        claim
        for claim in event.session.claims.records.values()
        if claim.state is ClaimState.WAITING
    )
    ranked = sorted(waiting, key=lambda claim: (claim.rank_ms, claim.asked, claim.place))
    return bool(_grant_all(event, [claim.id for claim in ranked], is_first=False))


def is_kept_back(session: SessionState, claim: ClaimRecord) -> bool:
    """Whether a claim must wait for the end of an integration, free or not."""
    known = session.barriers.records
    return bool(known) and integration(known)[1] not in ("", claim.agent)


def send_wait(event: Event, claim: ClaimRecord) -> None:
    """Send WAIT: the holder, the position, and the agents ahead."""
    session = event.session
    before, first = session.order.position(claim)
    holder = next(session.order.blockers(claim), None)
    ahead = list(dict.fromkeys(place.agent for place in first))
    has = holder.agent if holder is not None else ""
    barrier = None
    if holder is None and is_kept_back(session, claim):
        barrier, has = integration(session.barriers.records)
    event.direct(claim.agent, Wait(claim.wanted, before + 1, has, ahead, barrier))


def send_proceed(event: Event, claim: ClaimRecord) -> None:
    """Send PROCEED: the resources, the token, and how many agents wait."""
    granted = [*claim.writes, *claim.reads, *claim.observes]
    after = event.session.leftovers.near(claim.wanted, claim.copy)
    waiting = event.session.order.waiting(claim)
    event.direct(claim.agent, Proceed(granted, claim.token, waiting, after=after))


def coordinators(contested: list[str], rules: Rules) -> list[str]:
    """Name the agents that are told of conflicts over these resources."""
    found = {
        domain.coordinator: None
        for domain in rules.domains
        if domain.coordinator
        and any(overlap(normalise(domain.pattern), resource) for resource in contested)
    }
    return list(found)


def take_trial(event: SignalEvent, payload: ConflictDetected) -> bool:
    """Keep what git has made of two copies of the files; False if this conflict is another one."""
    is_trial = payload.kind == divergence.MERGE and bool(payload.copies)
    if is_trial:
        divergence.tried(event, payload, coordinators(payload.resources, event.rules))
    return is_trial


def _waiting_of(session: SessionState, name: str) -> list[str]:
    waiting = session.waiting_claims(session.agents.records[name])
    return [claim.id for claim in waiting]


def _grant_all(event: Event, candidates: list[str], *, is_first: bool) -> set[str]:
    """Grant those that are free, and what becomes free with that; the rest by a timer, if many."""
    session = event.session
    _, leader = integration(session.barriers.records)
    granted: set[str] = set()
    left = EVENT_GRANTS_MAX
    while candidates:
        following: list[str] = []
        for claim_id in candidates:
            claim = session.claims.records[claim_id]
            if claim.state is not ClaimState.WAITING:
                continue
            if left <= 0:
                event.set_timer(REST_TIMER, session.clock_ms)
                return granted
            if leader not in ("", claim.agent):
                continue
            if session.order.is_free(claim):
                agent = session.agents.records[claim.agent]
                _grant(event, claim, None if is_first else agent)
                granted.add(claim_id)
                left -= len(claim.wanted)
                # Readers may stand right behind; and an agent does not wait for what it has.
                following += session.order.candidates(claim.wanted)
                following += _waiting_of(session, claim.agent)
        candidates = following
    return granted


def _grant(event: Event, claim: ClaimRecord, waiter: AgentRecord | None = None) -> None:
    session = event.session
    session.token += 1
    claim.state = ClaimState.HELD
    claim.token = session.token
    claim.granted_ms = session.clock_ms
    session.order.hold(claim)
    session.claims.put(claim.id, claim)
    if waiter is not None:
        granted = [*claim.writes, *claim.reads, *claim.observes]
        resume(event, claim.agent, waiter, Resume("your turn", resources=granted))
    send_proceed(event, claim)
    if claim.copy:
        divergence.note(event, claim, coordinators(claim.writes, event.rules))
    if claim.observes or session.order.has_observers:
        _report_stale_reads(event, claim)
    if event.rules.hold_ms_max:
        claim.expires_ms = session.clock_ms + event.rules.hold_ms_max
        event.set_timer(f"{TIMER}:{claim.id}", claim.expires_ms)


def _report_stale_reads(event: Event, claim: ClaimRecord) -> None:
    """Report each agent that reads, without waiting, what another writes at the same time."""
    session = event.session
    #: Reader and writer → what they share.
    found: dict[tuple[str, str], dict[str, None]] = {}
    for resource in claim.observes:
        for other in session.order.overlapping(resource):
            for holder_id in session.order.holders(other):
                writer = session.claims.records[holder_id]
                if other in writer.writes and not is_apart(claim, writer, resource, other):
                    found.setdefault((claim.agent, writer.agent), {})[other] = None
    for resource in claim.writes:
        for reader_id in dict.fromkeys(session.order.observers(resource)):
            reader = session.claims.records[reader_id]
            if not is_apart(reader, claim, resource, resource):
                found.setdefault((reader.agent, claim.agent), {})[resource] = None
    for (reader_name, writer_name), shared in found.items():
        named = list(islice(shared, STALE_READS_MAX))
        told = ConflictDetected(named, [writer_name, reader_name], "read-write")
        event.derive(reader_name, told)


def _is_outranked(session: SessionState, claim: ClaimRecord) -> bool:
    """Whether an agent that waits only for this claim's holder comes before that holder.

    Nobody is served while the holder keeps the same by a claim of its own that comes first.
    """
    rank = (claim.rank_ms, claim.asked, claim.place)
    for resource in claim.wanted:
        for other in session.order.overlapping(resource):
            for place in session.order.queue(other):
                if place[:3] >= rank:
                    break
                if not session.order.excludes(claim, place, resource, other):
                    continue
                in_the_way = session.order.blockers(session.claims.records[place.id])
                if all(
                    held.agent == claim.agent and (held.rank_ms, held.asked, held.place) > place[:3]
                    for held in in_the_way
                ):
                    return True
    return False
