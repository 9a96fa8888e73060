"""Waiting for what others produce, hold or decide: BLOCKED and ESCALATE, and what ends the wait."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from fabric.client.grant import Grants
from fabric.client.message import Message, given, is_grant, place_in_line, refusal, strings
from fabric.client.request import Requests
from fabric.core.directive import DirectiveType
from fabric.core.quota import PREFIX as QUOTA
from fabric.core.resource_name import names_of
from fabric.core.signal import SignalType
from fabric.errors import DependencyFailedError, ServerError


class Resolved(NamedTuple):
    """The answer to a wait.

    For a dependency: who resolved it, and its location. For a resource: the token under which the
    agent holds it now. For a question: the decision, and who made it.
    """

    by: str
    location: str | None = None
    token: int | None = None
    decision: str | None = None


class Wait:
    """One thing that an agent has sent BLOCKED for."""

    def __init__(self, agent: str, on: str) -> None:
        self._agent = agent
        self._on = on
        self._resources = frozenset(names_of([on]))
        self._wait: dict[str, Any] | None = None

    def match(self, message: Message) -> Resolved | None:
        """Return the answer in a message, if it holds one.

        Raises DependencyFailedError if all producers have failed, DeadlockError or NotAllowedError
        if the wait is refused.
        """
        if message.to_everyone:
            return None
        payload = message.payload
        if payload.get("dependency_id") == self._on:
            return self._produced(message)
        if message.type == DirectiveType.DECISION and payload.get("escalation") == self._on:
            decision = str(payload.get("decision") or "")
            return Resolved(str(payload.get("by") or message.sender), decision=decision)
        if message.type == DirectiveType.RESUME and self._is_quota(payload):
            return Resolved(message.sender)
        named = strings(payload.get("resources"))
        if message.type == DirectiveType.CANCEL and (
            self._on in (payload.get("dependency"), payload.get("escalation"))
            or self._resources.issubset(named)
        ):
            raise refusal(self._agent, message)
        if not self._resources.issubset(named):
            return None
        if message.type == DirectiveType.WAIT:
            self._wait = payload
        return Resolved(message.sender, token=payload["token"]) if is_grant(message) else None

    def _is_quota(self, payload: dict[str, Any]) -> bool:
        """Whether a RESUME says that the quota waited for is available: no agent resolves it."""
        return self._on.startswith(QUOTA) and payload.get("dependency") == self._on

    def _produced(self, message: Message) -> Resolved | None:
        if message.type == SignalType.FAILED:
            reason = message.payload.get("error") or "no reason given"
            raise DependencyFailedError(f"{message.sender} failed to produce {self._on}: {reason}")
        if message.type != SignalType.DEPENDENCY_RESOLVED:
            return None
        location = message.payload.get("output_location")
        return Resolved(message.sender, location if isinstance(location, str) else None)

    def describe_holder(self) -> str | None:
        """Name the holder, or return None if no WAIT has named one."""
        return None if self._wait is None else place_in_line(self._agent, self._wait)


class Waits:
    """All waits of one agent, and its questions to a person or to another agent."""

    def __init__(self, requests: Requests, grants: Grants) -> None:
        #: Location of every dependency of which this agent heard that it is resolved.
        self._locations: dict[str, str | None] = {}
        self._requests = requests
        self._grants = grants
        self._questions = 0

    def on_message(self, message: Message, *, is_new: bool) -> None:
        """Note where a dependency is; once resolved, it stays so."""
        dependency = message.payload.get("dependency_id")
        is_mine = not message.to_everyone and isinstance(dependency, str)
        if is_mine and str(dependency).startswith(QUOTA):
            return  # it may be used up again
        if is_mine and message.type == SignalType.DEPENDENCY_RESOLVED:
            self._locations[str(dependency)] = message.payload.get("output_location")

    async def wait_for(
        self, on: str, reason: str | None, timeout_s: float | None, for_ms: int | None = None
    ) -> str | None:
        """Wait; see Agent.wait_for."""
        grants, wait = self._grants, Wait(self._requests.name, on)
        names = [] if on in self._locations else [on]
        why = partial(self._describe, on, wait)
        async with grants.waiting(names, timeout_s, f"for {on}", why):
            answer = (
                await self._answer(on, reason, for_ms, wait)
                if names
                else Resolved("", self._locations[on])
            )
        if answer.token is None:
            # The fabric has ended this wait too: there is nothing to release.
            grants.in_use.remove(names)
        return answer.decision if answer.decision is not None else answer.location

    async def _answer(
        self, on: str, reason: str | None, for_ms: int | None, wait: Wait
    ) -> Resolved:
        grants = self._grants
        resource = frozenset(names_of([on]))

        def match(message: Message) -> Resolved | None:
            answer = wait.match(message)
            is_over = answer is not None and grants.in_use.is_over(answer.token or 0)
            return None if is_over else answer

        async with self._requests.opened(match) as request:
            if on in self._locations:  # it has come meanwhile
                return Resolved("", self._locations[on])
            await request.send(SignalType.BLOCKED, given(on=on, reason=reason, for_ms=for_ms))
            while True:
                answer: Resolved = await request.answer()
                token = answer.token
                if token is None or await grants.is_answer(partial(int, token), resource, request):
                    return answer

    async def _describe(self, on: str, wait: Wait) -> str:
        """Say whom the wait is for."""
        try:
            holder = wait.describe_holder()
            return holder or await self._requests.session.describe_producers(on)
        except ServerError as error:
            return f"who is to produce it is not known ({error})"

    async def ask(self, payload: dict[str, Any], timeout_s: float | None) -> str:
        """Ask, and return the decision; see Agent.escalate. An `id` of None is replaced."""
        requests, grants = self._requests, self._grants
        self._questions += 1
        if payload["id"] is None:
            payload["id"] = f"{requests.name}-{requests.sender.incarnation}-{self._questions}"
        known, to = payload["id"], payload.get("to")

        def match(message: Message) -> str | None:
            if message.to_everyone or message.payload.get("escalation") != known:
                return None
            if message.type == DirectiveType.CANCEL:
                raise refusal(requests.name, message)
            is_answer = message.type == DirectiveType.DECISION
            return str(message.payload.get("decision") or "") if is_answer else None

        async def why() -> str:
            if to is not None:
                return f"{to} has not decided it"
            return f"nobody has decided it (`fabric decide {known} ANSWER`); it stays open"

        what = f"for an answer to {known} ({payload['question']})"
        async with grants.waiting([known], timeout_s, what, why), requests.opened(match) as request:
            await request.send(SignalType.ESCALATE, payload)
            answer: str = await request.answer()
        grants.in_use.remove([known])
        return answer
