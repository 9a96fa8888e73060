"""One event of a session while the rules decide it: what they read, and what follows from it.

An event is a signal or a timer that is due. Handlers, and the functions that they share, take the
event instead of its parts. They add what follows to its decision, which `step` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec
from msgspec import Struct

from fabric.core.decision import (
    ACCEPTED,
    ACCEPTED_TO_RESULTS,
    ORCHESTRATOR,
    Decision,
    Kind,
    Message,
    Outcome,
)
from fabric.core.directive import DIRECTIVES, Directive
from fabric.core.record import AgentRecord
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import PAYLOADS, Payload, Signal

_DIRECTIVE_TYPES = {payload: word.value for word, payload in DIRECTIVES.items()}
_SIGNAL_TYPES = {payload: word.value for word, payload in PAYLOADS.items()}

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
    """

    session: SessionState
    rules: Rules
    decision: Decision

    def direct(self, to: str, directive: Directive) -> None:
        """Send a directive to an agent or EVERYONE; one without a recipient is only logged."""
        word = _DIRECTIVE_TYPES[type(directive)]
        message = Message(Kind.DIRECTIVE, word, to, ORCHESTRATOR, "", _encode(directive))
        self._own().messages.append(message)

    def derive(
        self, to: str, payload: Payload, *, sender: str = ORCHESTRATOR, stream: str = ""
    ) -> None:
        """Add a signal that follows from this event; one without a recipient is only logged."""
        word = _SIGNAL_TYPES[type(payload)]
        message = Message(Kind.DERIVED, word, to, sender, stream, _encode(payload))
        self._own().messages.append(message)

    def set_timer(self, key: str, due_ms: int | None) -> None:
        """Set or replace a timer; None cancels it."""
        self._own().timers[key] = due_ms

    def postpone(self, key: str, due_ms: int) -> None:
        """Only set a timer again: the event is not recorded."""
        self.decision = Decision(Outcome.POSTPONED, timers={key: due_ms})

    def give_to_results(self, result: bytes = b"") -> None:
        """Pass the signal on to the synthesizer, or `result` in place of its payload."""
        if self.decision is ACCEPTED and not result:
            self.decision = ACCEPTED_TO_RESULTS
        else:
            decision = self._own()
            decision.to_results = True
            decision.result = result or decision.result

    def report_death(self, name: str) -> None:
        """Name an agent that is given up for dead: the synthesizer hears of it as of a failure."""
        self._own().fallen = name

    def _own(self) -> Decision:
        """Return a decision of this event's own, which may be changed."""
        if self.decision is ACCEPTED or self.decision is ACCEPTED_TO_RESULTS:
            self.decision = Decision(to_results=self.decision.to_results)
        return self.decision


class SignalEvent(Event, gc=False):
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
            signal.type.value,
            to,
            signal.emitter,
            signal.stream,
            signal.raw,
            forwarded=True,
            hops=signal.hops + 1,
        )
        self._own().messages.append(message)

    def refuse(self, code: str, reason: str) -> None:
        """Keep the signal out of the session, for a reason that a person reads."""
        decision = self._own()
        decision.outcome = Outcome.REFUSED
        decision.code = code
        decision.reason = reason
