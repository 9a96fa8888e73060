"""What ends a wait: the thing is made, it is the waiter's turn, it is decided; or it fails."""

from __future__ import annotations

from typing import Any, NamedTuple

from fabric.client.message import Message
from fabric.client.request import cancelled, strings
from fabric.core.directive import DirectiveType
from fabric.core.resource import normalise
from fabric.core.signal import SignalType
from fabric.errors import DependencyFailedError


class Resolved(NamedTuple):
    """The answer to a wait: of a dependency who resolved it and where it is; of a resource the
    token under which the waiter has it now; of a question the decision, and who made it.
    """

    by: str
    location: str | None = None
    token: int | None = None
    decision: str | None = None


class Awaited:
    """One thing that an agent has said BLOCKED on."""

    def __init__(self, agent: str, on: str) -> None:
        self._agent = agent
        self._on = on
        self._resource = normalise(on)
        self._wait: dict[str, Any] | None = None

    def judge(self, message: Message) -> Resolved | None:
        """Return the answer that a message is, if it is one.

        Raises DependencyFailedError when all who were to produce it have failed, DeadlockError or
        NotAllowedError when the wait is refused.
        """
        if message.to_everyone:
            return None
        payload = message.payload
        if payload.get("dependency_id") == self._on:
            return self._produced(message)
        if message.type == DirectiveType.DECISION and payload.get("escalation") == self._on:
            decision = str(payload.get("decision") or "")
            return Resolved(str(payload.get("by") or message.sender), decision=decision)
        named = strings(payload.get("resources"))
        if message.type == DirectiveType.CANCEL and (
            self._on in (payload.get("dependency"), payload.get("escalation"))
            or self._resource in named
        ):
            raise cancelled(self._agent, message)
        if self._resource not in named:
            return None
        if message.type == DirectiveType.WAIT:
            self._wait = payload
        token = payload.get("token")
        if message.type == DirectiveType.PROCEED and isinstance(token, int):
            return Resolved(message.sender, token=token)
        return None

    def _produced(self, message: Message) -> Resolved | None:
        if message.type == SignalType.FAILED:
            reason = message.payload.get("error") or "no reason given"
            raise DependencyFailedError(f"{message.sender} failed to produce {self._on}: {reason}")
        if message.type != SignalType.DEPENDENCY_RESOLVED:
            return None
        location = message.payload.get("output_location")
        return Resolved(message.sender, location if isinstance(location, str) else None)

    def holder(self) -> str | None:
        """Say who has it, as far as that was told; None when nobody was said to."""
        if self._wait is None:
            return None
        holder = self._wait.get("holder") or "nobody"
        return f"{holder} has it; {self._agent} was number {self._wait.get('position')} in line"
