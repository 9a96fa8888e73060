"""The tasks of the board that one agent takes, one after the other."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from fabric.client.message import Message, refusal
from fabric.client.request import Requests
from fabric.core.directive import DirectiveType
from fabric.core.signal import SignalType
from fabric.errors import HeldError, WaitTimeoutError


class Cancelled(Protocol):
    """Says why the agent is to stop, and for which task."""

    cancelled: str | None
    cancelled_task: str


class Taken:
    """What one incarnation has begun, and the answers to it."""

    def __init__(self, requests: Requests, notices: Cancelled, task: str | None) -> None:
        self._requests = requests
        self._notices = notices
        #: The task begun last; "" when it is done.
        self._task = task or ""

    async def begin(self, task: str, declared: dict[str, Any], timeout_s: float | None) -> int:
        """See Agent.begin."""
        requests = self._requests

        def match(message: Message) -> int | None:
            payload = message.payload
            if message.type == DirectiveType.CANCEL and payload.get("task") == task:
                if payload.get("code") == "TAKEN":
                    raise HeldError(str(payload.get("reason")))
                raise refusal(requests.name, message)
            number = str(payload.get("incarnation")).encode(), str(payload.get("seq")).encode()
            if not message.is_confirmation or number != request.label:
                return None
            token = payload.get("token")
            return token if isinstance(token, int) else 0

        try:
            async with asyncio.timeout(timeout_s), requests.opened(match) as request:
                await request.send(SignalType.STARTED, {**declared, "confirm": True})
                token: int = await request.answer()
        except TimeoutError:
            raise WaitTimeoutError(
                f"{requests.name} waited {timeout_s:g} s to begin {task}: no orchestrator has "
                "decided it; is one running? (fabric status)"
            ) from None
        finally:
            if self._notices.cancelled_task:  # it was about a task: the agent may take another
                self._notices.cancelled, self._notices.cancelled_task = None, ""
        self._task = task
        return token

    async def done(self, task: str | None) -> None:
        """See Agent.done."""
        named = task or self._task
        await self._requests.sender.send(SignalType.TASK_DONE, {"task": named})
        if named == self._task:
            self._task = ""
