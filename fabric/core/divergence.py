"""Tells the agents that have written one path in several copies that it will have to be merged."""

from __future__ import annotations

from fabric.core.agent_status import is_at_work
from fabric.core.copies import is_in_copy
from fabric.core.directive import Notice
from fabric.core.event import Event, SignalEvent
from fabric.core.limits import LIST_ITEMS_MAX
from fabric.core.record import ClaimRecord, ClaimState, WrittenRecord
from fabric.core.signal import ConflictDetected

#: Kind of the conflict.
MERGE = "merge"

#: Paths that a session keeps as written: as many as a session's claims may name. Above that, new
#: ones are not kept, and their agent is told.
WRITTEN_MAX = 200_000


def note(event: Event, claim: ClaimRecord, told: list[str]) -> None:
    """Note what a granted claim may write in its copy; report what others wrote in theirs.

    `told`: the coordinators of what it names.
    """
    session, table = event.session, event.session.written
    #: The agents that wrote the same in other copies → the paths.
    found: dict[tuple[str, ...], list[str]] = {}
    new = [one for one in claim.writes if is_in_copy(one) and one not in claim.domains]
    for resource in new:
        record = table.get(resource)
        is_first = record is None or claim.copy not in record.copies
        if is_first and (others := session.copies.others(resource, claim.copy)):
            rivals = tuple(sorted({*others} - {claim.agent}))
            found.setdefault(rivals, []).append(resource)
        if record is None and len(table) >= WRITTEN_MAX:
            reason = f"over {WRITTEN_MAX} paths were written: no conflict over {resource} is found"
            event.direct(claim.agent, Notice("LIMIT", reason))
            break
        if record is None or record.copies.get(claim.copy) != claim.agent:
            copies = {**(record.copies if record is not None else {}), claim.copy: claim.agent}
            table.put(resource, WrittenRecord(copies, session.clock_ms))
            session.copies.add(resource)
    for rivals, resources in found.items():
        agents = [claim.agent, *rivals]
        conflict = ConflictDetected(resources[:LIST_ITEMS_MAX], agents, MERGE)
        for name in dict.fromkeys([*agents, *told]):
            if name in told or is_at_work(session, name):
                event.derive(name, conflict)


def settle(event: SignalEvent) -> None:
    """Forget what was to be merged, after an integration; what is held now may be written still."""
    session = event.session
    for resource in list(session.written.records):
        session.written.drop(resource)
        session.copies.remove(resource)
    for claim in session.claims.records.values():
        if claim.copy and claim.state is ClaimState.HELD:
            for resource in filter(is_in_copy, claim.writes):
                record = session.written.get(resource)
                copies = record.copies if record is not None else {}
                kept = WrittenRecord({**copies, claim.copy: claim.agent}, session.clock_ms)
                session.written.put(resource, kept)
                session.copies.add(resource)
