"""Questions to a person, or to another agent: ESCALATE, and the DECISION that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fabric.client.grant import Grants
from fabric.client.message import Message
from fabric.client.request import cancelled
from fabric.core.directive import DirectiveType
from fabric.core.signal import SignalType
from fabric.errors import WaitTimeoutError


class Enquiries:
    """All questions of one agent."""

    def __init__(self, grants: Grants, name: str) -> None:
        self._grants = grants
        self._name = name
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
        """See Agent.escalate."""
        grants = self._grants
        self._count += 1
        known = id_ or f"{self._name}-{grants.voice.incarnation}-{self._count}"
        given = {"options": list(options) or None, "context": context, "to": to}
        payload = {"question": question, "id": known}
        payload |= {name: value for name, value in given.items() if value is not None}

        def judge(message: Message) -> str | None:
            if message.to_everyone or message.payload.get("escalation") != known:
                return None
            if message.type == DirectiveType.CANCEL:
                raise cancelled(self._name, message)
            is_answer = message.type == DirectiveType.DECISION
            return str(message.payload.get("decision") or "") if is_answer else None

        grants.holdings.take([known])
        try:
            async with asyncio.timeout(timeout_s), grants.requests.asking(judge) as request:
                await request.send(SignalType.ESCALATE, payload)
                answer: str = await request.answer()
                await grants.pauses.obey()
        except BaseException as error:
            grants.withdraw([known])
            if not isinstance(error, TimeoutError):
                raise
            raise WaitTimeoutError(
                f"{self._name} waited {timeout_s:g} s for an answer to {known} ({question}): "
                + (await grants.pauses.blame() or _blame(known, to))
            ) from None
        grants.holdings.give([known])
        return answer


def _blame(known: str, to: str | None) -> str:
    if to is not None:
        return f"{to} has not decided it"
    return f"nobody has decided it (`fabric decide {known} ANSWER`); it stays open"
