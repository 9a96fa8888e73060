"""Leading an integration: INTEGRATION_REQUIRED, all arrive, INTEGRATED (seeds: Rule 4).

What becomes of a barrier whose leader does not finish:

    the block raises              it stays in force: entering it again goes on where it was; when
                                  the agent ends, the fabric ends the barrier and says why
    the wait is given up          INTEGRATED with `ok` false is said: it is called off
    it is called off              BarrierError; the others have been told to go on
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any

from fabric.client.grant import Grants
from fabric.client.message import Message
from fabric.client.request import Request, cancelled
from fabric.client.session import Session
from fabric.core.directive import DirectiveType
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.record import IN_FORCE
from fabric.core.signal import SignalType
from fabric.errors import BarrierError, DeadlockError, FabricError, ServerError, WaitTimeoutError


class Integrations:
    """The barriers that one agent leads."""

    def __init__(self, session: Session, grants: Grants, name: str) -> None:
        self.name = name
        self.grants = grants
        self.session = session
        #: Those called and not over.
        self.called: set[str] = set()
        #: Those that have opened for this agent.
        self.opened: set[str] = set()

    def hear(self, message: Message, *, is_new: bool) -> None:
        """A barrier opens, or is over."""
        barrier = message.payload.get("barrier")
        if not is_new or not isinstance(barrier, str):
            return
        if message.type == DirectiveType.RESUME or (
            message.type == DirectiveType.CANCEL and not message.to_everyone
        ):
            self.forget(barrier)
        elif message.type == DirectiveType.PROCEED:
            self.opened.add(barrier)

    def forget(self, barrier: str) -> None:
        """It is over."""
        self.called.discard(barrier)
        self.opened.discard(barrier)

    async def call_off(self, barrier: str) -> None:
        """Let all go on without an integration."""
        # The agent may have ended, and the barrier with it; or the server has gone.
        with suppress(FabricError):
            await self.grants.voice.say(SignalType.INTEGRATED, {"name": barrier, "ok": False})


class Integrating(AbstractAsyncContextManager[None]):
    """One block in which everybody else is at a safe place."""

    def __init__(
        self,
        integrations: Integrations,
        barrier: str,
        *,
        deadline_ms: int | None,
        level: int,
        timeout_s: float | None,
    ) -> None:
        self._all = integrations
        self._barrier = barrier
        self._payload: dict[str, Any] = {"name": barrier, "level": level}
        if deadline_ms is not None:
            self._payload["deadline_ms"] = deadline_ms
        self._timeout_s = timeout_s

    async def __aenter__(self) -> None:
        """Call the barrier and wait until all have arrived; enter at once what is open already.

        Raises WaitTimeoutError naming the missing, BarrierError when it is called off or cannot be
        called, DeadlockError, NotAllowedError.
        """
        known, barrier = self._all, self._barrier
        try:
            async with asyncio.timeout(self._timeout_s):
                if barrier not in known.opened:
                    async with known.grants.requests.asking(self._judge) as request:
                        await self._opened(request)
                await known.grants.pauses.obey()
        except BaseException as error:
            if isinstance(error, TimeoutError | asyncio.CancelledError):
                self._give_up()
            if not isinstance(error, TimeoutError):
                raise
            raise WaitTimeoutError(
                f"{known.name} waited {self._timeout_s:g} s for all to arrive at {barrier}: "
                + await self._missing()
            ) from None

    async def _opened(self, request: Request) -> None:
        known, barrier = self._all, self._barrier
        is_called_anew = barrier not in known.called
        if is_called_anew:
            known.called.add(barrier)
        try:
            if is_called_anew:
                await request.send(SignalType.INTEGRATION_REQUIRED, self._payload)
            await request.answer()
        except FabricError:
            if is_called_anew:
                known.forget(barrier)
            raise

    def _judge(self, message: Message) -> bool | None:
        if message.payload.get("barrier") != self._barrier:
            return None
        if message.type == DirectiveType.CANCEL and not message.to_everyone:
            error = cancelled(self._all.name, message)
            if isinstance(error, DeadlockError):
                raise error
            raise BarrierError(f"{self._barrier}: {message.payload.get('reason')}")
        return True if message.type == DirectiveType.PROCEED else None

    def _give_up(self) -> None:
        known, barrier = self._all, self._barrier
        if barrier in known.called:
            known.forget(barrier)
            known.grants.background(known.call_off(barrier))

    async def _missing(self) -> str:
        """Say who has not arrived."""
        try:
            record = (await self._all.session.barriers()).get(self._barrier)
        except ServerError as error:
            return f"who is missing is not known ({error})"
        if record is None:
            return "no orchestrator has handled it; is one running? (fabric status)"
        if record.state not in IN_FORCE:
            return "another integration comes first"
        missing = [name for name in record.members if name not in record.arrived]
        return f"{', '.join(missing[:NAMES_SHOWN_MAX]) or 'nobody'} is missing"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let all go on, when the block has ended well."""
        if error is not None:
            return
        known = self._all
        known.forget(self._barrier)
        await known.grants.voice.say(SignalType.INTEGRATED, {"name": self._barrier})
