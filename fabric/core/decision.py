"""What `step` returns: the effects of one event, as data, in the order in which they are written.

Nothing here acts. The worker turns a decision into stream entries and commits them together with
the session's changed records and the acknowledgement of the signal: all of it takes effect, or
none.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

#: Recipient of a message to all agents of the session: written once, to the broadcast stream.
EVERYONE = "*"

#: Sender of directives.
ORCHESTRATOR = "ORCHESTRATOR"


class Kind(StrEnum):
    """The kind of a log entry."""

    SIGNAL = "signal"
    DERIVED = "derived"
    DIRECTIVE = "directive"
    REFUSED = "refused"


class Outcome(StrEnum):
    """What became of a signal."""

    ACCEPTED = "accepted"
    #: A retry, known by (agent, incarnation, sequence): dropped, nothing is written.
    REPEATED = "repeated"
    #: Against the rules: it goes to the dead-letter stream with the reason.
    REFUSED = "refused"
    #: A timer that only sets itself again: not an event, nothing is logged.
    POSTPONED = "postponed"


class Message(Struct, frozen=True, gc=False):
    """A log entry that follows from the event, and its copy for the recipient.

    `to` is an agent's name, EVERYONE, or "" for an entry that is only logged. The payload of a
    forwarded signal goes to the recipient but not into the log again: its cause has it there.
    `hops` counts the messages in the chain of replies that led to it.
    """

    kind: Kind
    type: str
    to: str
    sender: str
    stream: str
    payload: bytes
    forwarded: bool = False
    hops: int = 0


class Decision(Struct, gc=False):
    """The effects of one event.

    `to_results`: the signal also goes to the results stream, for the synthesizer; `result`, if any,
    replaces its payload there. `fallen` names an agent that was given up for dead in this event:
    the synthesizer treats it as failed. `timers`: key → due time in ms, None to cancel; the
    partition's deadlines keep them. `code` and `reason` say why a signal was refused.
    """

    outcome: Outcome = Outcome.ACCEPTED
    messages: list[Message] = []
    to_results: bool = False
    timers: dict[str, int | None] = {}
    code: str = ""
    reason: str = ""
    result: bytes = b""
    fallen: str = ""


#: Shared by all signals that have no effect beyond the log and the state. Never changed.
ACCEPTED = Decision()
ACCEPTED_TO_RESULTS = Decision(to_results=True)
REPEATED = Decision(Outcome.REPEATED)
