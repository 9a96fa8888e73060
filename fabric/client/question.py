"""Questions to a person or to another agent: ESCALATE, and the DECISION that answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fabric.client.grant import Grants
from fabric.client.message import Message, refusal
from fabric.client.request import Requests
from fabric.core.directive import DirectiveType
from fabric.core.signal import SignalType
from fabric.errors import WaitTimeoutError


class Questions:
    """All questions of one agent."""

    def __init__(self, requests: Requests, grants: Grants) -> None:
        self._requests = requests
        self._grants = grants
        self._count = 0

    async def ask(
        self,
        question: str,
        *,
        options: Sequence[str],
        context: Any,
        to: str | None,
        id_: str | None,
        timeout_s: float | None,
    ) -> str:
        """Ask, and return the decision; see Agent.escalate."""
        requests, grants = self._requests, self._grants
        self._count += 1
        known = id_ or f"{requests.name}-{requests.sender.incarnation}-{self._count}"
        given = {"options": list(options) or None, "context": context, "to": to}
        payload = {"question": question, "id": known}
        payload |= {name: value for name, value in given.items() if value is not None}

        def match(message: Message) -> str | None:
            if message.to_everyone or message.payload.get("escalation") != known:
                return None
            if message.type == DirectiveType.CANCEL:
                raise refusal(requests.name, message)
            is_answer = message.type == DirectiveType.DECISION
            return str(message.payload.get("decision") or "") if is_answer else None

        grants.in_use.add([known])
        try:
            async with asyncio.timeout(timeout_s), requests.opened(match) as request:
                await request.send(SignalType.ESCALATE, payload)
                answer: str = await request.answer()
                await grants.pauses.after_wait()
        except BaseException as error:
            grants.withdraw([known])
            if not isinstance(error, TimeoutError):
                raise
            raise WaitTimeoutError(
                f"{requests.name} waited {timeout_s:g} s for an answer to {known} ({question}): "
                + (await grants.pauses.describe() or _undecided(known, to))
            ) from None
        grants.in_use.remove([known])
        return answer


def _undecided(known: str, to: str | None) -> str:
    if to is not None:
        return f"{to} has not decided it"
    return f"nobody has decided it (`fabric decide {known} ANSWER`); it stays open"
