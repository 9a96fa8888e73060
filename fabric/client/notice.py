"""What the orchestrator tells an agent about itself: that it is to stop, or where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from fabric.client.message import Message, strings
from fabric.core.directive import DirectiveType
from fabric.core.event import ORCHESTRATOR
from fabric.core.identity import NAME_TAKEN
from fabric.core.signal import SignalType

logger = logging.getLogger("fabric.agent")

#: Codes that say, of an incarnation, that it is over: CANCEL has the first two, NOTICE the others.
_OVER = frozenset({"CLOSED", "DEAD", "REPLACED", "ENDED", "STALE_INCARNATION", NAME_TAKEN})

#: Code of the NOTICE that the fabric has heard a number without those before it.
SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an incarnation was when it was cut off.

    What it `held` and what it `waited` for is released: ask for it again.
    """

    task: str
    checkpoint: str
    percent: float | None
    held: tuple[str, ...]
    waited: tuple[str, ...]


class Notices:
    """What the orchestrator has told one incarnation about itself."""

    def __init__(
        self,
        name: str,
        incarnation: int,
        on_over: Callable[[str], None],
        on_skipped: Callable[[int, int], None],
    ) -> None:
        """`on_over` is called with the reason when the incarnation is over.

        `on_skipped` is called with a number that was heard, and with the last one before it.
        """
        self.cancelled: str | None = None
        #: The task that the agent is to stop, or cannot have; "" if it is to stop altogether.
        self.cancelled_task = ""
        self.resumed: ResumePoint | None = None
        self._name = name
        self._incarnation = incarnation
        self._on_over = on_over
        self._on_skipped = on_skipped

    def on_message(self, message: Message, *, is_new: bool) -> None:
        """Note what concerns the agent itself; log refusals, and questions addressed to it."""
        payload = message.payload
        if not is_new or message.to_everyone or message.sender != ORCHESTRATOR:
            return
        reason = str(payload.get("reason") or "no reason given")
        if message.type == SignalType.ESCALATE:
            logger.warning("%s: %s", self._name, payload.get("question"))
        elif not message.is_about_agent:
            return
        elif payload.get("code") in _OVER and payload.get("incarnation") == self._incarnation:
            self.cancelled = reason
            self._on_over(reason)
        elif message.type == DirectiveType.CANCEL:
            if self.cancelled is None or self.cancelled_task:
                self.cancelled, self.cancelled_task = reason, str(payload.get("task") or "")
        elif payload.get("code") == SKIPPED and not payload.get("refused"):
            seq, after = payload.get("seq", 0), payload.get("after", 0)
            is_own = payload.get("incarnation") == self._incarnation
            if is_own and isinstance(seq, int) and isinstance(after, int):
                self._on_skipped(seq, after)
        elif message.type == DirectiveType.NOTICE and payload.get("refused"):
            logger.warning("%s: %s was refused: %s", self._name, payload["refused"], reason)
        elif message.type == DirectiveType.RESUME:
            percent = payload.get("percent")
            self.resumed = ResumePoint(
                str(payload.get("task") or ""),
                str(payload.get("checkpoint") or ""),
                percent if isinstance(percent, int | float) else None,
                tuple(strings(payload.get("held"))),
                tuple(strings(payload.get("waited"))),
            )
