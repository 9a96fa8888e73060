"""Which agents a run expects: it is not over before they have come and ended.

Theory of operation. RUN_OPENED and AGENTS_EXPECTED name agents. An agent that is named and has not
come is *awaited*: barriers that begin meanwhile count it as a member, `fabric wait --all` waits for
it, and the synthesis is not final. At the deadline those that have not come are named to everyone
as absent, and nobody waits for them any longer. An agent may still come after that.

    named, not heard of      awaited
    its first signal         it has come: from here on only its end counts
    the deadline, the end    absent: named, taken out of the barrier in force
    named again              awaited anew, until the new deadline

Without a roster nobody knows who is still to start: then a run is over when all agents have ended
for `runs.settle_ms`. The synthesizer hears of the roster by results of the fabric's own.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from msgspec import Struct

from fabric.core import barriers
from fabric.core.directive import Notice
from fabric.core.event import EVERYONE, Event, RefusedError, SignalEvent, is_reserved
from fabric.core.limits import listed
from fabric.core.record import ExpectedRecord
from fabric.core.signal import AgentsExpected

#: The timer's key is `expected:<deadline in ms>`.
TIMER = "expected"

#: Code of the NOTICE that names the agents that have not come.
ABSENT = "ABSENT"

_encode = msgspec.json.Encoder().encode


class RosterResult(Struct, omit_defaults=True):
    """What the synthesizer is told: these agents are expected, or expected no longer."""

    agents: list[str] = []
    is_absent: bool = False


def expected(event: SignalEvent, payload: AgentsExpected) -> None:
    """AGENTS_EXPECTED: the run waits for these agents too."""
    check(event, payload.agents, event.session.roster.records)
    expect(event, payload.agents, payload.deadline_ms)


def check(event: Event, names: list[str], known: Collection[str] = ()) -> None:
    """Refuse names that no agent can have, and more than a session may hold."""
    session, limit = event.session, event.rules.agents_max
    if reserved := sorted(filter(is_reserved, names)):
        raise RefusedError("NAME", f"{listed(reserved)} cannot be an agent, so it cannot come")
    total = len({*known, *names})
    if total > limit:
        reason = f"session {session.name} would expect {total} agents; the limit is {limit}"
        raise RefusedError("LIMIT", reason)


def expect(event: Event, names: list[str], deadline_ms: int | None) -> None:
    """Wait for these agents, for `deadline_ms` at most; without it, or with 0, until they come."""
    session = event.session
    until_ms = session.clock_ms + deadline_ms if deadline_ms else 0
    for name in names:
        agent = session.agents.get(name)
        came_ms = agent.started_ms if agent is not None else 0
        session.roster.put(name, ExpectedRecord(until_ms, came_ms))
    if until_ms:
        event.set_timer(f"{TIMER}:{until_ms}", until_ms)
    event.tell_roster(_encode(RosterResult(list(names))))


def come(event: SignalEvent) -> None:
    """An agent has begun: it is not awaited any more, and joins the barrier in force."""
    session = event.session
    known = session.roster.get(event.name)
    if known is not None and not known.came_ms:
        known.came_ms = session.clock_ms
        session.roster.put(event.name, known)
    barriers.join(event, event.name)


def deadline_passed(event: Event, subject: str) -> bool:
    """Name the agents that have not come by now; moot if there are none."""
    session = event.session
    now_ms, records = session.clock_ms, session.roster.records
    late = [name for name in session.awaited() if 0 < records[name].until_ms <= now_ms]
    if not late:
        return False
    verb = "was" if len(late) == 1 else "were"
    reason = f"{listed(late)} {verb} expected by now and not heard of: nobody waits any longer"
    event.direct(EVERYONE, Notice(ABSENT, reason))
    _give_up(event, late)
    return True


def end(event: Event) -> None:
    """Expect nobody any longer: the run is closed."""
    _give_up(event, event.session.awaited())


def _give_up(event: Event, names: list[str]) -> None:
    session = event.session
    for name in names:
        one = session.roster.records[name]
        one.absent_ms = session.clock_ms
        session.roster.put(name, one)
        barriers.leave(event, name, is_failure=False)
    event.tell_roster(_encode(RosterResult(names, is_absent=True)))


def move_deadlines(event: Event, outage_ms: int, since_ms: int) -> None:
    """Move the deadlines that had not passed when an outage began, at `since_ms`, by its length."""
    session = event.session
    for name in session.awaited():
        one = session.roster.records[name]
        if one.until_ms > since_ms:
            one.until_ms += outage_ms
            session.roster.put(name, one)
            event.set_timer(f"{TIMER}:{one.until_ms}", one.until_ms)
