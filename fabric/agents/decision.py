"""What a client is told about an event: one pure function of the event and of what was found out.

    before a write    refused while another agent has the file, a barrier is in force, or the file
                      is no longer what this agent has read; else it may run. Where the client can
                      be resumed, its run ends instead of a refusal that only time will lift
    end of a turn     held, at most twice, while a barrier or a question to this agent is open
    anything else     goes on; where the client shows it to the model, with what has come meanwhile

All texts are facts: the model decides what follows from them. They are marked as the fabric's,
and what another agent has said stands in quotation marks behind its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fabric.agents.event import Answer, Event, Moment

#: A turn is held this often at most: Codex and Gemini would hold it forever.
HOLDS_MAX = 2

#: Moments at which a turn, of the agent or of a sub-agent, would end.
TURN_ENDS = frozenset({Moment.TURN_END, Moment.SUBAGENT_END})

#: Lines of a briefing or of messages at a time; the rest comes with the next event.
LINES_MAX = 20

_HEAD = (
    "Signal Fabric, session {session}; you are {agent}. These are facts from the service that "
    "coordinates the agents here, and words of other agents. They are not from your user."
)


@dataclass(frozen=True)
class Obstacle:
    """A file that another agent has."""

    path: str
    holder: str
    host: str = ""
    #: For how long it has been held; None if that is not known.
    held_s: float | None = None
    #: Claims that wait before this agent's own.
    ahead: int = 0


@dataclass(frozen=True)
class Facts:
    """What was found out about an event."""

    agent: str = ""
    session: str = ""
    #: Why nothing can be coordinated now; "" if it can.
    outage: str = ""
    #: Whether a write is refused in an outage.
    is_closed: bool = False
    #: The agent has been told of the outage.
    is_told: bool = False
    #: Why the agent was told to stop.
    stop: str = ""
    #: The barrier or quota for which the agent has to pause.
    pause: str = ""
    waited_s: float = 0.0
    #: The client is resumed when the wait is over.
    is_deferred: bool = False
    obstacles: tuple[Obstacle, ...] = ()
    #: Agents and resources that would wait for each other for ever.
    deadlock: str = ""
    #: Files that have changed since the agent read them, each with its writer, or "".
    changed: tuple[tuple[str, str], ...] = ()
    #: Sentences for the model, if the client shows them.
    news: tuple[str, ...] = ()
    #: Why the turn should not end yet.
    open: tuple[str, ...] = ()
    holds: int = 0


def decide(event: Event, facts: Facts) -> Answer:
    """Return the answer to an event."""
    if facts.is_deferred and event.is_write:
        return Answer(is_deferred=True)
    refusal = " ".join(_refusals(facts)) if event.is_write else ""
    hold = ""
    if event.moment in TURN_ENDS and facts.open and facts.holds < HOLDS_MAX and not event.error:
        hold = "\n".join([_head(facts), *map("- {}".format, facts.open)])
    lines = list(facts.news)
    if facts.outage and not facts.is_told and not refusal:
        lines.insert(0, _outage(facts))
    context = ""
    if lines and event.takes_context:
        context = "\n".join([_head(facts), *map("- {}".format, lines[:LINES_MAX])])
    variables = (("FABRIC_AGENT", facts.agent), ("FABRIC_SESSION", facts.session))
    shown = variables if facts.agent and facts.session else ()
    return Answer(refusal, "" if refusal else hold, context=context, variables=shown)


def wake(facts: Facts) -> str:
    """Return the line that wakes an idle client; "" if there is nothing to say."""
    return " ".join([_head(facts), *facts.news[:LINES_MAX]]) if facts.news else ""


def _head(facts: Facts) -> str:
    return _HEAD.format(session=facts.session, agent=facts.agent)


def _outage(facts: Facts) -> str:
    return (
        f"Nothing is coordinated now: {facts.outage} What you do is kept, and reported when that "
        "is over; other agents do not know of your writes until then."
    )


def _refusals(facts: Facts) -> Iterator[str]:
    """Yield the sentences of a refusal; none if the write may run."""
    if facts.outage:
        if facts.is_closed:
            yield f"Signal Fabric refused this write (--fail-closed): {facts.outage}"
        return
    if facts.stop:
        yield f"Signal Fabric refused this write: {facts.agent} was told to stop: {facts.stop}."
        return
    if facts.pause:
        yield (
            f"Signal Fabric refused this write: {facts.pause}. {facts.agent} waited "
            f"{_time(facts.waited_s)} and counts as arrived. Write nothing until it is over; then "
            "do the same again: it waits for the end by itself."
        )
        return
    if facts.deadlock:
        yield (
            f"Signal Fabric refused this write: {facts.deadlock}. The files that you held and did "
            "not write at this moment were released, so that the others can go on. Do the same "
            "again, or something else first."
        )
    for one in facts.obstacles:
        host = f" on {one.host}" if one.host else ""
        since = "" if one.held_s is None else f", for {_time(one.held_s)} now"
        place = "you are next" if not one.ahead else f"{one.ahead} agents are before you"
        yield (
            f"Signal Fabric refused this write: {one.path} is held by {one.holder}{host}{since}. "
            f"You waited {_time(facts.waited_s)}; {place}, and your place is kept until your turn "
            f"ends. Do something else first, or do the same again to wait on; `fabric why "
            f"{facts.agent} -s {facts.session}` explains it."
        )
    for path, writer in facts.changed:
        by = f" by {writer}" if writer else ""
        yield (
            f"Signal Fabric refused this write: {path} was changed{by} since you last read it, and "
            "this write would overwrite that. The file is yours now: read it again, then write."
        )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
