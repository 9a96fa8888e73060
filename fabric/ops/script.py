"""An agent without a process of its own: a script reads its inbox, or sends a signal and waits.

`fabric inbox`, `fabric wait` and `fabric decide` do so, one command at a time. A running agent uses
`fabric.client` instead; both store the same place in the inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fabric.backoff import retry
from fabric.client.emitter import prepare
from fabric.client.mailbox import COUNT, merge, parse_cursor
from fabric.client.message import Message, read
from fabric.client.session import BLOCK_MS, Session, last_id, pages, read_record
from fabric.client.wait import Resolved, Wait
from fabric.core.directive import DirectiveType
from fabric.core.event import Kind
from fabric.core.record import ENDED, AgentRecord
from fabric.core.signal import SignalType
from fabric.errors import NotAllowedError, PeerError, ServerError, WaitTimeoutError
from fabric.ops.sent_signal import EXPLAIN_S, SentSignal
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore, Entry
from fabric.wire.stored import fields_of

#: A place in the messages: the last id read in the inbox, and in the broadcast stream.
Place = list[bytes]

#: Signals that may mean that an agent has ended.
_ENDINGS = frozenset({SignalType.COMPLETED.value.encode(), SignalType.FAILED.value.encode()})


class Inbox:
    """The messages to one agent and to everyone, in the order of the log."""

    def __init__(self, store: ClientStore, keys: SessionKeys, agent: str) -> None:
        self._store = store
        self._keys = keys
        self._agent = agent
        self._streams = (keys.inbox(agent), keys.broadcast)

    async def place(self) -> Place:
        """Return the stored place: later messages are unread."""
        (stored,) = await self._store.fields(self._keys.cursors, [self._agent])
        return parse_cursor(stored)

    async def remember(self, place: Place) -> None:
        """Store a place."""
        await self._store.set_cursor(self._keys.cursors, self._agent, b" ".join(place))

    async def pages(
        self, place: Place, *, follow: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[list[Message], Place]]:
        """Yield pages of messages after a place, each with the place at its end.

        With `follow`, wait for more, for ever and through outages. `limit` bounds the messages.
        """
        left = limit
        while left is None or left > 0:
            wanted = min(COUNT, left or COUNT)
            messages, place = await self._page(place, wanted, follow=follow)
            if messages:
                yield messages, place
                if left is not None:
                    left -= len(messages)
            elif not follow:
                return

    async def _page(self, place: Place, count: int, *, follow: bool) -> tuple[list[Message], Place]:
        after = dict(zip(self._streams, place, strict=True))
        if follow:
            found = await retry(lambda: self._store.read_streams(after, COUNT, BLOCK_MS))
        else:
            found = await self._store.read_streams(after, COUNT, 0)
        merged, _ = merge([found.get(stream, []) for stream in self._streams], COUNT)
        reached, messages = list(place), []
        for number, entry in merged[:count]:
            reached[number] = entry[0]
            messages.append(read(entry, to_everyone=number == 1))
        return messages, reached


@dataclass(frozen=True, slots=True)
class ScriptAgent:
    """An agent without a process of its own: a shell script that waits, one command at a time.

    It sends neither sequence numbers nor an incarnation: its signals count for the agent's present
    one. `note` gets what a person at the terminal should know while it waits.
    """

    session: Session
    #: Reads the agent's inbox.
    sent: SentSignal
    name: str
    stream: str | None
    heartbeat_ms: int
    note: Callable[[str], None]

    async def wait_for(
        self, dependency: str, *, reason: str | None = None, timeout_s: float | None = None
    ) -> Resolved:
        """Send BLOCKED, and wait until the dependency is resolved.

        For a question it waits for the decision; for a resource that another agent holds, for the
        agent's turn, after which the agent holds it. It sends heartbeats meanwhile.

        Raises WaitTimeoutError, naming whom it waited for; DependencyFailedError when all producers
        have failed; DeadlockError, or NotAllowedError when the orchestrator refuses the wait;
        PeerError when the agent is told to stop. Without an answer, the wait is withdrawn.
        """
        wait = Wait(self.name, dependency)
        payload = {"on": dependency} | ({} if reason is None else {"reason": reason})
        entry = self._entry(SignalType.BLOCKED, payload=payload)
        try:
            async with asyncio.timeout(timeout_s):
                # Sent twice it means the same as once.
                await self.sent.send(entry)
                beating = asyncio.create_task(self._beat())
                try:
                    return await self._answer(wait)
                finally:
                    beating.cancel()
                    await asyncio.gather(beating, return_exceptions=True)
        except TimeoutError:
            await self._withdraw(dependency)

            async def awaited() -> str:
                holder = wait.describe_holder()
                return holder or await self.session.describe_producers(dependency)

            idle = "no orchestrator has handled this wait; is one running? (fabric status)"
            reason = await self.sent.explain(awaited, idle)
            raise WaitTimeoutError(
                f"{self.name} waited {timeout_s:g} s for {dependency}: {reason}"
            ) from None
        except (PeerError, asyncio.CancelledError):
            await self._withdraw(dependency)
            raise

    def _entry(self, kind: SignalType, **fields: Any) -> list[bytes]:
        sender = {"session": self.session.name, "emitter": self.name, "stream": self.stream}
        return prepare({"type": kind.value, **fields}, sender)

    async def _answer(self, wait: Wait) -> Resolved:
        while True:
            entries = await self.sent.read()
            if self.sent.refusal is not None:
                raise NotAllowedError(f"{self.name} may not wait: {self.sent.refusal.reason}")
            for message in map(read, entries):
                payload = message.payload
                if message.type == SignalType.ESCALATE and isinstance(payload.get("question"), str):
                    self.note(payload["question"])
                if message.type == DirectiveType.CANCEL and message.is_about_agent:
                    raise PeerError(f"{self.name} is to stop: {payload.get('reason')}")
                if (answer := wait.match(message)) is not None:
                    return answer

    async def _beat(self) -> None:
        """Send heartbeats: nothing else speaks for the agent while its script waits."""
        beat = self._entry(SignalType.HEARTBEAT)
        while True:
            await asyncio.sleep(self.heartbeat_ms / 1000)
            with suppress(ServerError):
                await self.sent.emitter.send([beat])

    async def _withdraw(self, dependency: str) -> None:
        released = self._entry(SignalType.RELEASE, payload={"resources": [dependency]})
        with suppress(ServerError, TimeoutError):
            async with asyncio.timeout(EXPLAIN_S):
                await self.sent.emitter.send([released])


async def until_ended(
    store: ClientStore,
    keys: SessionKeys,
    name: str | None = None,
    *,
    timeout_s: float | None = None,
    note: Callable[[str], None],
) -> dict[str, AgentRecord]:
    """Wait until an agent, or every agent of the session, has completed or failed; return them.

    An agent or a session that is still unknown may come later: `note` is told. Raises
    WaitTimeoutError, naming the agents that have not ended.
    """
    running: dict[str, AgentRecord] | None = None
    try:
        async with asyncio.timeout(timeout_s):
            place = await last_id(store, keys.log)
            log = pages(store, keys.log, place, follow=True)
            while True:
                agents = await _agents(store, keys, name)
                if not agents and running is None:
                    note(f"nothing heard of {name or keys.name} yet; waiting")
                running = {who: a for who, a in agents.items() if a.status not in ENDED}
                if agents and not running:
                    return agents
                async for page in log:
                    if any(map(_may_end, page)):
                        break
    except TimeoutError:
        left = ", ".join(f"{who} is {a.status.value}" for who, a in (running or {}).items())
        left = left or f"nothing was heard of {name or keys.name}"
        raise WaitTimeoutError(f"waited {timeout_s:g} s in {keys.name}: {left}") from None


async def _agents(
    store: ClientStore, keys: SessionKeys, name: str | None
) -> dict[str, AgentRecord]:
    if name is None:
        return await retry(Session(store, keys).agents)
    found = await retry(lambda: read_record(store, keys.agents, name, AgentRecord))
    return {} if found is None else {name: found}


def _may_end(entry: Entry) -> bool:
    """Whether an agent may have ended by a log entry: by its own signal, or by a timer."""
    fields = fields_of(entry[1])
    return fields.get(b"type") in _ENDINGS or fields.get(b"kind") == Kind.DERIVED.value.encode()
