"""The tasks of the board that one agent takes, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fabric.client.message import Message, refusal
from fabric.client.request import Requests
from fabric.core.directive import DirectiveType
from fabric.core.event import ORCHESTRATOR
from fabric.core.signal import SignalType
from fabric.errors import HeldError, NotAllowedError, WaitTimeoutError


class Cancelled(Protocol):
    """Says why the agent is to stop, and for which task."""

    cancelled: str | None
    cancelled_task: str


@dataclass(frozen=True, slots=True)
class NextTask:
    """A task that the agent has asked for and begun: its id and fencing token.

    `from_stream` is the stream that it belongs to, and `reason` says why this agent gets it, if
    there is something to say.
    """

    id: str
    token: int
    from_stream: str
    reason: str


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

    async def next_task(
        self, begin: Callable[[str], Awaitable[int]], timeout_s: float | None
    ) -> NextTask:
        """See Agent.next_task."""
        requests = self._requests

        def match(message: Message) -> dict[str, Any] | None:
            is_offer = message.type == DirectiveType.ASSIGN and message.sender == ORCHESTRATOR
            return message.payload if is_offer and message.payload.get("task") else None

        try:
            async with asyncio.timeout(timeout_s), requests.opened(match) as request:
                while True:
                    await request.send(SignalType.EARLY_COMPLETION, {"capacity": 1})
                    offered = await request.answer()
                    task = str(offered["task"])
                    try:
                        token = await begin(task)
                    except (HeldError, NotAllowedError):
                        if requests.sender.over is not None:
                            raise
                        continue  # something has come before it: ask for the next one
                    stream, reason = offered.get("from_stream"), offered.get("reason")
                    return NextTask(task, token, str(stream or ""), str(reason or ""))
        except TimeoutError:
            await requests.sender.send(SignalType.EARLY_COMPLETION, {"capacity": 0})
            raise WaitTimeoutError(
                f"{requests.name} waited {timeout_s:g} s for a task: none is ready for it that "
                "nothing is in the way of (fabric tasks list)"
            ) from None

    async def done(self, task: str | None) -> None:
        """See Agent.done."""
        named = task or self._task
        await self._requests.sender.send(SignalType.TASK_DONE, {"task": named})
        if named == self._task:
            self._task = ""
