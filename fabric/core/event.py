"""One event of a session while the rules decide it: what they read, and what follows from it.

An event is a signal or a timer that is due. Handlers, and the functions that they share, take the
event instead of its parts. They add what follows to its decision, which `step` returns: effects, as
data, in the order in which they are written. The worker commits them together with the session's
changed records and the acknowledgement of the signal: all of it takes effect, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, cast
from unicodedata import normalize

import msgspec
from msgspec import Struct

from fabric.core.directive import DIRECTIVES, Directive
from fabric.core.limits import STEPS_PER_SIGNAL
from fabric.core.record import AgentRecord, OrderRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import PAYLOADS, Payload, Signal

#: Recipient of a message to all agents of the session: written once, to the broadcast stream.
EVERYONE = "*"

#: Sender of directives.
ORCHESTRATOR = "ORCHESTRATOR"

#: The synthesizer's name as a sender.
SYNTHESIZER = "SYNTHESIZER"

#: Names that no agent may have, as `is_reserved` compares them.
_RESERVED = frozenset(name.casefold() for name in (EVERYONE, ORCHESTRATOR, SYNTHESIZER))


def is_reserved(name: str) -> bool:
    """Whether no agent may have a name: it reads as one of the fabric's own, or is a sub-agent's.

    What agents receive from the fabric itself carries these names.
    """
    first = name.partition("/")[0].partition("#")[0]
    return normalize("NFKC", first).strip().casefold() in _RESERVED


#: The timer that looks at the silence of an agent is `silence:<agent>`.
SILENCE_TIMER = "silence"


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
    #: Refused like others of its sender in this second: only the dead-letter stream has it.
    DROPPED = "dropped"
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
    replaces its payload there. `fallen` names an agent that was declared dead in this event: the
    synthesizer treats it as failed, and so are those `dismissed`, which made room. `roster` tells
    it which agents are expected (`roster.RosterResult`). `timers`: key →
    due time in ms, None to cancel; the partition's deadlines keep them. `code` and `reason` say why
    a signal was refused.
    """

    outcome: Outcome = Outcome.ACCEPTED
    messages: list[Message] = []
    to_results: bool = False
    timers: dict[str, int | None] = {}
    code: str = ""
    reason: str = ""
    result: bytes = b""
    fallen: str = ""
    roster: bytes = b""
    dismissed: dict[str, AgentRecord] = {}


#: Shared by all signals that have no effect beyond the log and the state. Never changed.
ACCEPTED = Decision()
ACCEPTED_TO_RESULTS = Decision(to_results=True)
REPEATED = Decision(Outcome.REPEATED)

_WORDS = {payload: word.value for word, payload in [*DIRECTIVES.items(), *PAYLOADS.items()]}

_encode = msgspec.json.Encoder().encode


class RefusedError(Exception):
    """A rule refuses the signal. A handler raises it before it changes anything.

    The emitter is sent `directive`, or without one a NOTICE with the code and the reason.
    """

    def __init__(self, code: str, reason: str, directive: Directive | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.directive = directive


class Event(Struct, gc=False):
    """The session, the rules, and the decision so far.

    The decision is one that all events share until something is added: most signals cause nothing.
    `searched` counts the steps of its searches for deadlocks.
    """

    session: SessionState
    rules: Rules
    decision: Decision
    searched: int = 0

    def direct(self, to: str, directive: Directive) -> None:
        """Send a directive to an agent or EVERYONE; one without a recipient is only logged."""
        word = _WORDS[type(directive)]
        message = Message(Kind.DIRECTIVE, word, to, ORCHESTRATOR, "", _encode(directive))
        self._own().messages.append(message)

    def derive(
        self, to: str, payload: Payload, *, sender: str = ORCHESTRATOR, stream: str = ""
    ) -> None:
        """Add a signal that follows from this event; one without a recipient is only logged."""
        word = _WORDS[type(payload)]
        message = Message(Kind.DERIVED, word, to, sender, stream, _encode(payload))
        self._own().messages.append(message)

    def set_timer(self, key: str, due_ms: int | None) -> None:
        """Set or replace a timer; None cancels it."""
        self._own().timers[key] = due_ms

    def postpone(self, key: str, due_ms: int) -> bool:
        """Only set a timer again, and return False: the event is not recorded."""
        self.decision = Decision(Outcome.POSTPONED, timers={key: due_ms})
        return False

    def give_to_results(self, result: bytes = b"") -> None:
        """Pass the signal on to the synthesizer, or `result` in place of its payload."""
        if self.decision is ACCEPTED and not result:
            self.decision = ACCEPTED_TO_RESULTS
        else:
            decision = self._own()
            decision.to_results = True
            decision.result = result or decision.result

    def report_death(self, name: str) -> None:
        """Name an agent that is declared dead: the synthesizer hears of it as of a failure."""
        self._own().fallen = name

    def tell_roster(self, result: bytes) -> None:
        """Tell the synthesizer which agents the run expects, or no longer expects."""
        self._own().roster = result

    def dismiss(self, name: str, agent: AgentRecord) -> None:
        """Name an agent that is no longer kept, with its last record."""
        self._own().dismissed[name] = agent

    def _own(self) -> Decision:
        """Return a decision of this event's own, which may be changed."""
        if self.decision is ACCEPTED or self.decision is ACCEPTED_TO_RESULTS:
            self.decision = Decision(to_results=self.decision.to_results)
        return self.decision


class Peers(NamedTuple):
    """What is known, when a timer is due, of the agents in the partition's other sessions.

    How many of them fell silent at about the same time, and how many were heard meanwhile. The
    worker counts them; the timer's log entry has the numbers, so that replay decides by the same.
    """

    silent: int = 0
    heard: int = 0


#: Nothing is known of other sessions, or there are none.
NO_PEERS = Peers()


class Reading(NamedTuple):
    """How far an agent has read, when a timer about that is due: log ids, as two numbers each.

    Like `Peers` the worker finds it out, and the timer's log entry has it.
    """

    inbox: tuple[int, int] = (0, 0)
    broadcast: tuple[int, int] = (0, 0)

    def has(self, order: OrderRecord) -> bool:
        """Whether an order was read."""
        place = self.broadcast if order.to_all else self.inbox
        return (order.log, order.number) <= place


#: Nothing was read, or it does not matter.
NOTHING_READ = Reading()


class TimerEvent(Event, gc=False, kw_only=True):
    """A timer that is due."""

    peers: Peers = NO_PEERS
    reading: Reading = NOTHING_READ


class SignalEvent(Event, gc=False, kw_only=True):
    """A signal: `name` is its emitter, and `agent` is that agent's record.

    An outsider is a person or a detector that is no agent of the session: `agent` is not set then.
    `is_beginning`: an incarnation begins with this signal. `waiting` names the agents, besides the
    emitter, that have to wait because of it: `step` looks for deadlocks among them.
    """

    signal: Signal
    name: str
    agent: AgentRecord = cast("AgentRecord", None)
    is_outsider: bool = False
    is_beginning: bool = False
    waiting: Sequence[str] = ()

    def forward(self, to: str) -> None:
        """Pass the signal on as it came, to an agent or EVERYONE."""
        signal = self.signal
        message = Message(
            Kind.DIRECTIVE,
            str(signal.type),
            to,
            signal.emitter,
            signal.stream,
            signal.raw,
            forwarded=True,
            hops=signal.hops + 1,
        )
        self._own().messages.append(message)

    def spend(self, steps: int) -> None:
        """Count work on this signal in its sender's rate, beyond what any signal takes."""
        if not self.is_outsider:
            self.agent.second_signals += steps // STEPS_PER_SIGNAL

    def refuse(self, code: str, reason: str) -> None:
        """Keep the signal out of the session, for a reason that a person reads."""
        decision = self._own()
        decision.outcome = Outcome.REFUSED
        decision.code = code
        decision.reason = reason
