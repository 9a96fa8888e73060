"""What agents have not read: all of it by age; and orders in force, against which they may write.

CANCEL without a name tells an agent to stop; PAUSE tells it to wait with something. A later message
may have ended a PAUSE, read or not. What the agent has read is known from its stored place
(`fabric inbox` and `messages()` store it); without one, nothing counts as read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fabric.client.message import Message, read, strings
from fabric.client.session import read_record
from fabric.core.directive import DirectiveType
from fabric.core.event import ORCHESTRATOR
from fabric.core.record import ENDED, AgentRecord, AgentStatus
from fabric.ops.script import Inbox
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore
from fabric.store.value import parse_cursor, parse_id, whole_number
from fabric.wire.stored import fields_of

#: Unread messages that are looked at, the oldest: the guard runs before each write.
MESSAGES_MAX = 5_000

#: Unread messages of an agent that are counted, of its own and of those to everyone.
COUNTED_MAX = 100

#: Inboxes that are read in one call.
_INBOXES = 100

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


@dataclass(frozen=True, slots=True)
class Unread:
    """An agent's unread messages: how many, the type of the oldest, and when that was sent, ms.

    `is_more`: there are more than were counted.
    """

    agent: str
    messages: int
    oldest: str
    since_ms: int
    is_more: bool = False

    @property
    def counted(self) -> str:
        """How many there are, for people."""
        return f"{self.messages} or more" if self.is_more else str(self.messages)


async def unread(
    store: ClientStore, keys: SessionKeys, agents: Mapping[str, AgentRecord]
) -> list[Unread]:
    """Return what the agents at work have not read, the oldest first. Raises ServerError.

    An agent of the library that takes no messages is left out: its library acts on them.
    """
    (stored,) = await store.hashes([keys.cursors])
    places = {
        name: parse_cursor(stored.get(name.encode()))
        for name, agent in agents.items()
        if agent.status not in ENDED and (name.encode() in stored or not agent.seq)
    }
    to_all: dict[bytes, list[Message]] = {}
    for _, place in places.values():
        if place not in to_all:
            page = await store.read_streams({keys.broadcast: place}, COUNTED_MAX, 0)
            to_all[place] = [read(one, to_everyone=True) for one in page.get(keys.broadcast, [])]
    found: list[Unread] = []
    for start in range(0, len(places), _INBOXES):
        names = list(places)[start : start + _INBOXES]
        after = {keys.inbox(name): places[name][0] for name in names}
        pages = await store.read_streams(after, COUNTED_MAX, 0)
        for name in names:
            mine = [read(one) for one in pages.get(keys.inbox(name), [])]
            messages = [
                one
                for one in (*mine, *to_all[places[name][1]])
                if not one.is_confirmation and one.sender != name
            ]
            if messages:
                oldest = min(messages, key=lambda one: parse_id(one.id.encode()))
                is_more = COUNTED_MAX in (len(mine), len(to_all[places[name][1]]))
                since_ms = await _sent_ms(store, keys, oldest)
                found.append(Unread(name, len(messages), oldest.type, since_ms, is_more))
    return sorted(found, key=lambda one: (one.since_ms, one.agent))


async def _sent_ms(store: ClientStore, keys: SessionKeys, message: Message) -> int:
    """Return when a message was sent: the log has it under the same id."""
    entry_id = message.id.encode()
    for _, flat in await store.entries(keys.log, entry_id, entry_id, 1):
        return whole_number(fields_of(flat).get(b"ms")) or 0
    return 0
