"""Orders in force that an agent has not read: it may go on writing against them.

CANCEL without a name tells an agent to stop; PAUSE tells it to wait with something. A later message
may have ended a PAUSE, read or not. What the agent has read is known from its stored place
(`fabric inbox` and `messages()` store it); without one, nothing counts as read.
"""

from __future__ import annotations

from dataclasses import dataclass

from fabric.client.message import Message, strings
from fabric.client.session import read_record
from fabric.core.directive import DirectiveType
from fabric.core.event import ORCHESTRATOR
from fabric.core.record import AgentRecord, AgentStatus
from fabric.ops.script import Inbox
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore

#: Unread messages that are looked at, the oldest: the guard runs before each write.
MESSAGES_MAX = 5_000

#: Codes of a CANCEL to the whole agent.
_DEAD, _STOPS = "DEAD", ("FAIL_FAST", "PARENT_ENDED")


@dataclass(frozen=True, slots=True)
class Order:
    """An unread CANCEL to stop, or an unread PAUSE; `id` is that of the message."""

    id: str
    type: str
    reason: str

    @property
    def is_stop(self) -> bool:
        """Whether the agent is to write nothing any more."""
        return self.type == DirectiveType.CANCEL

    def __str__(self) -> str:
        what = "to stop" if self.is_stop else "to pause"
        return f"unread message {self.id} tells you {what} ({self.type}): {self.reason}"


async def orders(store: ClientStore, keys: SessionKeys, agent: str) -> list[Order]:
    """Return the unread orders to an agent that are in force, oldest first. Raises ServerError."""
    record = await read_record(store, keys.agents, agent, AgentRecord)
    if record is None:
        return []
    inbox = Inbox(store, keys, agent)
    found: list[Message] = []
    async for page, _ in inbox.pages(await inbox.place(), limit=MESSAGES_MAX):
        for message in page:
            if message.sender != ORCHESTRATOR:
                continue
            if message.type in (DirectiveType.PROCEED, DirectiveType.RESUME):
                found = [one for one in found if not _ends(message, one)]
            elif message.type == DirectiveType.PAUSE or _is_stop(message, record):
                found.append(message)
    reasons = ((one, one.payload.get("reason")) for one in found)
    return [Order(one.id, one.type, str(reason or one.type)) for one, reason in reasons]


def _is_stop(message: Message, record: AgentRecord) -> bool:
    """Whether a message tells the agent's present incarnation to stop."""
    if message.type != DirectiveType.CANCEL:
        return False
    if message.payload.get("code") == _DEAD:
        is_present = message.payload.get("incarnation") == record.incarnation
        return is_present and record.status is AgentStatus.DEAD
    is_named = message.payload.get("task") or not message.is_about_agent
    return not is_named and message.payload.get("code") in _STOPS and record.cancelled


def _ends(message: Message, pause: Message) -> bool:
    """Whether a PROCEED or a RESUME ends a PAUSE."""
    if pause.type != DirectiveType.PAUSE:
        return False
    for subject in ("barrier", "dependency"):
        if pause.payload.get(subject):
            return bool(message.payload.get(subject) == pause.payload[subject])
    paused = strings(pause.payload.get("resources"))
    return not set(paused).isdisjoint(strings(message.payload.get("resources")))
