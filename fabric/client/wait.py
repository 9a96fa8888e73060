"""Waiting for what others make, have or decide: BLOCKED, and what ends it (Rule 2)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fabric.client.awaited import Awaited, Resolved
from fabric.client.grant import Grants
from fabric.client.message import Message
from fabric.client.session import Session
from fabric.core.resource import normalise
from fabric.core.signal import SignalType
from fabric.errors import ServerError, WaitTimeoutError


class Waits:
    """All waits of one agent."""

    def __init__(self, session: Session, grants: Grants, name: str) -> None:
        #: Dependency → location, of all that this agent was told to be resolved.
        self.locations: dict[str, str | None] = {}
        self._session = session
        self._grants = grants
        self._name = name

    def hear(self, message: Message, *, is_new: bool) -> None:
        """Keep where things are: what has been resolved stays so."""
        dependency = message.payload.get("dependency_id")
        is_mine = not message.to_everyone and isinstance(dependency, str)
        if is_mine and message.type == SignalType.DEPENDENCY_RESOLVED:
            self.locations[str(dependency)] = message.payload.get("output_location")

    async def wait_for(self, on: str, reason: str | None, timeout_s: float | None) -> str | None:
        """See Agent.wait_for."""
        grants, awaited = self._grants, Awaited(self._name, on)
        is_there = on in self.locations
        if not is_there:
            grants.holdings.take([on])
        try:
            async with asyncio.timeout(timeout_s):
                answer = (
                    Resolved("", self.locations[on])
                    if is_there
                    else await self._answer(on, reason, awaited)
                )
                await grants.pauses.obey()
        except BaseException as error:
            if not is_there:
                grants.withdraw([on])
            if not isinstance(error, TimeoutError):
                raise
            whom = await self._blame(on, awaited)
            raise WaitTimeoutError(
                f"{self._name} waited {timeout_s:g} s for {on}: {whom}"
            ) from None
        if not is_there and answer.token is None:
            # The wait is over for the fabric too: nothing is to be given back.
            grants.holdings.give([on])
        return answer.decision if answer.decision is not None else answer.location

    async def _answer(self, on: str, reason: str | None, awaited: Awaited) -> Resolved:
        grants = self._grants
        resource = frozenset([normalise(on)])

        def judge(message: Message) -> Resolved | None:
            answer = awaited.judge(message)
            is_over = answer is not None and grants.holdings.is_over(answer.token or 0)
            return None if is_over else answer

        payload: dict[str, Any] = {"on": on} if reason is None else {"on": on, "reason": reason}
        async with grants.requests.asking(judge) as request:
            if on in self.locations:  # it has come meanwhile
                return Resolved("", self.locations[on])
            await request.send(SignalType.BLOCKED, payload)
            while True:
                answer: Resolved = await request.answer()
                token = answer.token
                if token is None or await grants.is_good(partial(int, token), resource, request):
                    return answer

    async def _blame(self, on: str, awaited: Awaited) -> str:
        try:
            barrier = await self._grants.pauses.blame()
            return barrier or awaited.holder() or await self._session.blame(on)
        except ServerError as error:
            return f"on whom is not known ({error})"
