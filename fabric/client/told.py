"""What an agent is told about itself: that it is to stop, or where its last incarnation was."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fabric.client.message import Message
from fabric.client.request import strings
from fabric.core.decision import ORCHESTRATOR
from fabric.core.directive import DirectiveType
from fabric.core.signal import SignalType

logger = logging.getLogger("fabric.agent")

#: Fields by which a directive names what it is about; without one it is about the agent.
SUBJECTS = ("dependency", "resources", "barrier", "escalation")


@dataclass(frozen=True, slots=True)
class Past:
    """Where an incarnation was when it was cut off; what it `held` and `waited` for is given up."""

    task: str
    checkpoint: str
    percent: float | None
    held: tuple[str, ...]
    waited: tuple[str, ...]


class Told:
    """What one agent has been told about itself, in this incarnation."""

    def __init__(self, name: str) -> None:
        self.cancelled: str | None = None
        self.resumed: Past | None = None
        self._name = name

    def hear(self, message: Message, *, is_new: bool) -> None:
        """CANCEL and RESUME that name nothing else; and questions that name this agent."""
        payload = message.payload
        if not is_new or message.to_everyone or message.sender != ORCHESTRATOR:
            return
        if message.type == SignalType.ESCALATE:
            logger.warning("%s: %s", self._name, payload.get("question"))
        elif any(payload.get(subject) for subject in SUBJECTS):
            return
        elif message.type == DirectiveType.CANCEL:
            self.cancelled = str(payload.get("reason") or "no reason given")
        elif message.type == DirectiveType.RESUME:
            percent = payload.get("percent")
            self.resumed = Past(
                str(payload.get("task") or ""),
                str(payload.get("checkpoint") or ""),
                percent if isinstance(percent, int | float) else None,
                tuple(strings(payload.get("held"))),
                tuple(strings(payload.get("waited"))),
            )
