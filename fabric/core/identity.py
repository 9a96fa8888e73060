"""One name, one agent: which living process a name belongs to, and which agents are its parents.

A signal may say which living process sends it (its `instance`). While an agent's incarnation is at
work, its name belongs to the instance that began it:

    STARTED of another instance          NAME_TAKEN: refused, with the holder and since when
    the same, with `takes_over`          a new incarnation: the holder hears REPLACED
    any other signal of that instance    NAME_TAKEN
    the holder has ended, or is dead     STARTED of any instance begins the next incarnation

An instance that restarts knows whether the process before it is gone, if both are on one host; the
library then says `takes_over` with that instance's id. On another host nobody can tell a crash from
a second process: there the name is free when the silent agent is declared dead, or by an explicit
take-over, `*`. Agents without an instance are as before: the latest one counts.

`W/reviewer` is a sub-agent of `W`: an agent of its own, whose claims do not exclude those of `W`.
"""

from __future__ import annotations

from fabric.core.directive import Cancel, Notice
from fabric.core.event import Event, SignalEvent
from fabric.core.policy import ChildPolicy, NamePolicy
from fabric.core.record import ENDED, AgentRecord
from fabric.core.signal import Started

#: Code of the refusal of a second process under one name.
NAME_TAKEN = "NAME_TAKEN"

#: Stands for whichever instance has the name.
ANY_INSTANCE = "*"

#: Code of the NOTICE that declarations have replaced those that were made a moment ago, and how
#: long a moment is, ms: a person does not start an agent twice in that time.
NAME_SHARED, MOMENT_MS = "NAME_SHARED", 60_000

#: Code of the CANCEL to the sub-agents of an agent that has ended.
PARENT_ENDED = "PARENT_ENDED"


def is_taken(event: SignalEvent, agent: AgentRecord) -> bool:
    """Whether an agent's name belongs to another living instance than the signal's sender."""
    signal, payload = event.signal, event.signal.payload
    if agent.status in ENDED:
        return False
    if isinstance(payload, Started):
        # One without an instance and with a higher incarnation is of a program that knows of none.
        return signal.instance != "" and payload.takes_over not in (ANY_INSTANCE, agent.instance)
    return True


def refusal(event: SignalEvent, agent: AgentRecord) -> Notice:
    """Return what the second instance under a name is told: who has it, since when, what to do."""
    signal, name = event.signal, event.name
    age_s = (event.session.clock_ms - agent.started_ms) // 1000
    heard_s = (event.session.clock_ms - agent.seen_ms) // 1000
    reason = (
        f"{name} is the agent of {agent.instance}, at work for {age_s} s and heard {heard_s} s "
        "ago: end that one, or take the name over (takes_over), or use another name"
    )
    free = ""
    if event.rules.name_taken is NamePolicy.SUFFIX:
        free = _free_name(event, name)
        reason += f": {free} is free"
    return Notice(
        NAME_TAKEN,
        reason,
        signal.type.value,
        signal.seq,
        signal.incarnation,
        instance=agent.instance,
        since_ms=agent.started_ms,
        name=free,
    )


def note_shared(event: SignalEvent, payload: Started) -> None:
    """Tell an agent without an instance that its STARTED replaces what was declared just now."""
    agent, session = event.agent, event.session
    if event.is_beginning or agent.instance or event.signal.seq:
        return
    before = [agent.reads, agent.writes, agent.produces]
    declared = [payload.reads, payload.writes, list(dict.fromkeys(payload.produces))]
    age_ms = session.clock_ms - agent.started_ms
    if before == declared or not any(before) or age_ms > MOMENT_MS:
        return
    reason = (
        f"this STARTED replaces what {event.name} declared {age_ms // 1000} s ago: if that was "
        "another process, give each a name of its own, or an instance (FABRIC_INSTANCE)"
    )
    event.direct(event.name, Notice(NAME_SHARED, reason))


def end_children(event: Event, name: str) -> None:
    """Tell the sub-agents of an agent that has ended to stop, where the rules say so."""
    if event.rules.children is not ChildPolicy.CANCEL:
        return
    front = f"{name}/"
    for other, agent in sorted(event.session.agents.records.items()):
        if other.startswith(front) and agent.status not in ENDED and not agent.cancelled:
            agent.cancelled = True
            event.session.agents.put(other, agent)
            event.direct(other, Cancel(f"{name}, its parent, has ended", PARENT_ENDED))


def _free_name(event: SignalEvent, name: str) -> str:
    """Return the first of `W#2`, `W#3` and so on that no agent at work has."""
    known = event.session.agents.records
    number = 2
    while (agent := known.get(f"{name}#{number}")) is not None and agent.status not in ENDED:
        number += 1
    return f"{name}#{number}"
