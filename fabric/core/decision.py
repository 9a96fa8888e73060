"""What `step` returns: the effects of one signal, as data, in the order in which they are written.

Nothing here acts. The worker turns a decision into stream entries and commits them together with
the session's changed records and the acknowledgement of the signal; either all of it takes
effect, or none.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

#: Recipient of a message to all agents of the session: written once, to the broadcast stream.
EVERYONE = "*"

#: Sender of directives.
ORCHESTRATOR = "ORCHESTRATOR"


class Kind(StrEnum):
    """What a log entry records."""

    SIGNAL = "signal"
    DERIVED = "derived"
    DIRECTIVE = "directive"
    REFUSED = "refused"


class Outcome(StrEnum):
    """What became of a signal."""

    ACCEPTED = "accepted"
    #: A retry of what was seen before, by (agent, incarnation, sequence): dropped, nothing written.
    REPEATED = "repeated"
    #: Against the rules: kept in the dead-letter stream with the reason.
    REFUSED = "refused"
    #: A timer that only sets itself again: not an event, nothing is logged.
    POSTPONED = "postponed"


class Message(Struct, frozen=True, gc=False):
    """A log entry that follows from the signal, and a copy of it to whom it concerns.

    `to` is an agent's name, EVERYONE, or "" for what is only logged. A forwarded signal repeats its
    payload to the recipient, not in the log: its cause holds it. `hops` counts the messages that
    led to it, each in answer to the one before.
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
    """The effects of one signal.

    `to_results`: the signal also goes to the results stream, for the synthesizer; with `result`
    that in place of its payload. `fallen` names an agent that was given up for dead in this event:
    the synthesizer hears of that as of a failure.
    `timers`: key → due time in ms, None to cancel; kept in the partition's deadlines.
    `code` and `reason` say why a signal was refused.
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
