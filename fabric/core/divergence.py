"""Tells the agents that have written one path in several copies that it will have to be merged."""

from __future__ import annotations

from msgspec.structs import replace

from fabric.core.agent_status import is_at_work
from fabric.core.copies import is_in_copy, to_merge
from fabric.core.directive import Notice
from fabric.core.event import Event, RefusedError, SignalEvent
from fabric.core.limits import LIST_ITEMS_MAX
from fabric.core.record import ClaimRecord, ClaimState, TriedRecord, WrittenRecord
from fabric.core.signal import ConflictDetected

#: Kind of the conflict.
MERGE = "merge"

#: Paths that a session keeps as written: as many as a session's claims may name. Above that, new
#: ones are not kept, and their agent is told.
WRITTEN_MAX = 200_000

#: Pairs of copies of which a path's record keeps what git has found, the last ones: a record is
#: written as a whole.
TRIED_MAX = 200


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
        copies = {**(record.copies if record is not None else {}), claim.copy: claim.agent}
        tried = record.tried if record is not None else []
        table.put(resource, WrittenRecord(copies, session.clock_ms, session.log, tried))
        if record is None:
            session.copies.add(resource)
    for rivals, resources in found.items():
        agents = [claim.agent, *rivals]
        _tell(event, ConflictDetected(resources[:LIST_ITEMS_MAX], agents, MERGE), told)


def _tell(event: Event, conflict: ConflictDetected, told: list[str]) -> None:
    for name in dict.fromkeys([*conflict.agents, *told]):
        if name in told or is_at_work(event.session, name):
            event.derive(name, conflict)


def tried(event: SignalEvent, payload: ConflictDetected, told: list[str]) -> None:
    """Keep what git has made of two copies, and tell their agents of what it cannot merge.

    What is still being written there is left out: whoever gives it back looks again. Raises
    RefusedError unless there are two copies.
    """
    session, table = event.session, event.session.written
    if len({*payload.copies}) != 2:
        raise RefusedError("COPIES", f"{len(payload.copies)} `copies` in place of two")
    pair, seen = sorted(payload.copies), min(payload.seen, session.log)
    agents: dict[str, None] = {}
    new: list[str] = []
    verdicts = {**dict.fromkeys(payload.clean, False), **dict.fromkeys(payload.resources, True)}
    for resource, conflicts in verdicts.items():
        record = table.get(resource)
        known = to_merge(table.records, session.copies, resource).get(resource) if record else None
        if record is None or known is None or not known.copies.keys() >= {*pair}:
            continue
        before = next((one for one in record.tried if one.copies == pair), TriedRecord(pair, 0))
        if seen < max(known.log, before.log) or _is_being_written(event, resource, pair):
            continue
        others = [one for one in record.tried if one.copies != pair]
        others.append(TriedRecord(pair, seen, conflicts))
        table.put(resource, replace(record, tried=others[-TRIED_MAX:]))
        if conflicts and not before.conflicts:
            new.append(resource)
            agents.update(dict.fromkeys(known.copies[one] for one in pair))
    if new:
        found = ConflictDetected(new, [*agents], MERGE, copies=pair, seen=seen)
        _tell(event, found, told)


def _is_being_written(event: Event, resource: str, pair: list[str]) -> bool:
    order, known = event.session.order, event.session.claims.records
    return any(
        known[holder].copy in pair and other in known[holder].writes
        for other in order.overlapping(resource)
        for holder in order.holders(other)
    )


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
                copies = {**copies, claim.copy: claim.agent}
                kept = WrittenRecord(copies, session.clock_ms, session.log)
                session.written.put(resource, kept)
                session.copies.add(resource)
