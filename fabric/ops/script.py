"""An agent without a process of its own: a script reads its inbox, or sends a signal and waits.

`fabric inbox`, `fabric wait` and `fabric decide` do so, one command at a time. A running agent uses
`fabric.client` instead; both store the same place in the inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import msgspec

from fabric.backoff import retry
from fabric.client.emitter import prepare
from fabric.client.history import ReadHistory
from fabric.client.mailbox import COUNT, merge
from fabric.client.message import Message, read
from fabric.client.sent_signal import EXPLAIN_S, LOOK_MS, PAGE, SentSignal
from fabric.client.session import BLOCK_MS, Session, last_id, read_record, still_open
from fabric.client.wait import Resolved, Wait
from fabric.core.directive import DirectiveType
from fabric.core.event import Kind
from fabric.core.limits import SETTLE_MS, listed
from fabric.core.record import (
    ENDED,
    AgentRecord,
    AgentStatus,
    ClaimRecord,
    ClaimState,
    ExpectedRecord,
)
from fabric.core.resource_name import names_of
from fabric.core.signal import SignalType
from fabric.errors import (
    CallerError,
    FabricError,
    NotAllowedError,
    NotFoundError,
    PeerError,
    ReconnectedError,
    ServerError,
    WaitTimeoutError,
)
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import parse_cursor, parse_id, whole_number
from fabric.wire.stored import checked_reading, fields_of

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
        #: The agent, once it was found to have ended: nothing comes before it starts again.
        self.ended: AgentRecord | None = None
        self._histories = (ReadHistory(), ReadHistory())

    async def place(self) -> Place:
        """Return the stored place: later messages are unread."""
        (stored,) = await self._store.fields(self._keys.cursors, [self._agent])
        place = parse_cursor(stored)
        for number, stream in enumerate(self._streams):
            if parse_id(await last_id(self._store, stream)) < parse_id(place[number]):
                place[number] = BEGINNING  # what was read is gone: all of it is new
        return place

    async def remember(self, place: Place) -> None:
        """Store a place."""
        await self._store.set_cursor(self._keys.cursors, self._agent, b" ".join(place))

    async def pages(
        self, place: Place, *, follow: bool = False, limit: int | None = None
    ) -> AsyncIterator[tuple[list[Message], Place]]:
        """Yield pages of messages after a place, each with the place at its end.

        With `follow`, wait for more, through outages, until the agent has ended: see `ended`.
        `limit` bounds the messages. Raises NotFoundError if the session is gone meanwhile.
        """
        left, still = limit, partial(still_open, self._store, self._keys)
        opened = await retry(partial(still, None)) if follow else None
        while left is None or left > 0:
            wanted = min(COUNT, left or COUNT)
            messages, place = await self._page(place, wanted, follow=follow and not self.ended)
            if messages:
                yield messages, place
                if left is not None:
                    left -= len(messages)
            elif not follow or self.ended:
                return
            else:
                opened = await retry(partial(still, opened))
                agent = await retry(partial(_agent, self._store, self._keys, self._agent))
                # Read once more: its last messages came with its end.
                self.ended = agent if agent is not None and agent.status in ENDED else None

    async def _page(self, place: Place, count: int, *, follow: bool) -> tuple[list[Message], Place]:
        after = dict(zip(self._streams, place, strict=True))
        if follow:
            found = await retry(lambda: self._store.read_streams(after, COUNT, BLOCK_MS))
        else:
            read_once = partial(self._store.read_streams, after, COUNT, 0)
            try:
                found = await read_once()
            except ReconnectedError:  # between two pages a server may close what is idle
                found = await read_once()
        merged, _ = merge([found.get(stream, []) for stream in self._streams], COUNT)
        reached, messages = list(place), []
        if follow and not merged:
            for number, stream in enumerate(self._streams):
                history = self._histories[number]
                last_kept = await retry(partial(history.last_kept, self._store, stream))
                reached[number] = last_kept or reached[number]
        for number, entry in merged[:count]:
            reached[number] = entry[0]
            self._histories[number].note(entry)
            messages.append(read(entry, to_everyone=number == 1))
        return messages, reached


@dataclass(slots=True)
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
    #: The incarnation that waits, 0 as long as it is not known.
    incarnation: int = 0
    _opened: bytes | None = None
    _is_handled: bool = False

    async def wait_for(
        self, dependency: str, *, reason: str | None = None, timeout_s: float | None = None
    ) -> Resolved:
        """Send BLOCKED, and wait until the dependency is resolved.

        For a question it waits for the decision; for a resource that another agent holds, for the
        agent's turn, after which the agent holds it. It sends heartbeats meanwhile.

        Raises WaitTimeoutError, naming whom it waited for; DependencyFailedError when all producers
        have failed, or the wait was given up; DeadlockError, or NotAllowedError when the
        orchestrator refuses the wait; PeerError when the agent is told to stop. Raises
        NotAllowedError too when no answer can come any more, because the agent has ended, has
        started again, or no longer waits; NotFoundError when the session is gone. However it ends
        without an answer, a wait that still lasts is withdrawn.
        """
        wait = Wait(self.name, dependency)
        payload = {"on": dependency} | ({} if reason is None else {"reason": reason})
        entry = self._entry(SignalType.BLOCKED, payload=payload)
        emitter, known = self.sent.emitter, (self.sent.store, self.session.keys)
        self._opened = await emitter.retry(partial(still_open, *known, None))
        agent = await emitter.retry(partial(_agent, *known, self.name))
        if agent is not None and agent.status not in ENDED:
            self.incarnation = agent.incarnation
        # Sent twice it means the same as once. It ends before the wait is withdrawn.
        sending = asyncio.create_task(self.sent.send(entry))
        beating = asyncio.create_task(self._beat())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(sending)
                return await self._answer(wait, dependency)
        except CallerError:  # there is no wait, or none any more
            raise
        except TimeoutError:
            await self.withdraw(dependency, sending)

            async def awaited() -> str:
                holder = wait.describe_holder()
                return holder or await self.session.describe_producers(dependency)

            idle = "no orchestrator has handled this wait; is one running? (fabric status)"
            why = await self.sent.explain(awaited, idle)
            raise WaitTimeoutError(
                f"{self.name} waited {timeout_s:g} s for {dependency}: {why}"
            ) from None
        except BaseException:
            await self.withdraw(dependency, sending)
            raise
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def _entry(self, kind: SignalType, **fields: Any) -> list[bytes]:
        sender = {"session": self.session.name, "emitter": self.name, "stream": self.stream}
        return prepare({"type": kind.value, **fields}, sender)

    async def _answer(self, wait: Wait, dependency: str) -> Resolved:
        over: FabricError | None = None
        block_ms = LOOK_MS
        while True:
            entries = await self.sent.read(0 if over else block_ms)
            block_ms = min(2 * block_ms, BLOCK_MS)
            if self.sent.refusal is not None:
                raise NotAllowedError(f"{self.name} may not wait: {self.sent.refusal.reason}")
            for message in map(read, entries):
                payload = message.payload
                if message.type == SignalType.ESCALATE and isinstance(payload.get("question"), str):
                    self.note(payload["question"])
                # Whether its death ends this wait is in its record: it may have started again.
                is_stop = message.type == DirectiveType.CANCEL and payload.get("code") != "DEAD"
                if is_stop and message.is_about_agent:
                    raise PeerError(f"{self.name} is to stop: {payload.get('reason')}")
                if (answer := wait.match(message)) is not None:
                    return answer
            if self.sent.is_at_end:
                if over is not None:
                    raise over
                # An answer that came with the end of the wait is in the inbox by now.
                over = await retry(partial(self._why_over, dependency))

    async def _why_over(self, dependency: str) -> FabricError | None:
        """Say why the wait is over, with an answer or without; None while it lasts."""
        store, keys = self.sent.store, self.session.keys
        self._opened = await still_open(store, keys, self._opened)
        self._is_handled = self._is_handled or await self.sent.is_over()
        if not self._is_handled:
            return None
        agent = await _agent(store, keys, self.name)
        if agent is None:
            return NotFoundError(f"nothing is known of {self.name} in {self.session.name} any more")
        if await self._is_waiting(agent, dependency):
            self.incarnation = agent.incarnation
            return None
        if agent.status in ENDED:
            why = describe_end(self.name, agent)
        elif self.incarnation and agent.incarnation > self.incarnation:
            why = f"{self.name} has started again, as incarnation {agent.incarnation}"
        else:
            why = f"it was withdrawn (RELEASE, or a new start of {self.name})"
        return NotAllowedError(f"the wait of {self.name} for {dependency} is over: {why}")

    async def _is_waiting(self, agent: AgentRecord, dependency: str) -> bool:
        if agent.status in ENDED or dependency in (*agent.waits_for, *agent.asks):
            return agent.status not in ENDED
        store, key = self.sent.store, self.session.keys.claims
        stored = await store.fields(key, agent.claims) if agent.claims else []
        with checked_reading(key, "hash"):
            claims = [msgspec.json.decode(one, type=ClaimRecord) for one in stored if one]
        resources = set(names_of([dependency]))
        return any(c.state is ClaimState.WAITING and resources <= set(c.wanted) for c in claims)

    async def _beat(self) -> None:
        """Send heartbeats: nothing else speaks for the agent while its script waits."""
        beat = self._entry(SignalType.HEARTBEAT)
        while True:
            await asyncio.sleep(self.heartbeat_ms / 1000)
            with suppress(ServerError):
                await self.sent.emitter.send([beat])

    async def withdraw(self, dependency: str, sending: asyncio.Task[None] | None = None) -> None:
        """Release what was waited for, within a time limit; being cancelled does not stop it.

        `sending` sends the wait: RELEASE must not overtake it.
        """
        more = {"incarnation": self.incarnation} if self.incarnation else {}
        payload = {"resources": [dependency]}
        released = self._entry(SignalType.RELEASE, payload=payload, **more)

        async def send() -> None:
            async with asyncio.timeout(EXPLAIN_S):
                if sending is not None:
                    await asyncio.wait([sending])
                await self.sent.emitter.send([released])

        withdrawing = asyncio.create_task(send())
        while not withdrawing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([withdrawing])
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if not withdrawing.cancelled() and withdrawing.exception() is not None:
            with suppress(OSError):  # the terminal may be gone
                self.note(
                    f"the wait for {dependency} could not be withdrawn: it lasts until {self.name} "
                    f"sends RELEASE({dependency}), or ends"
                )


def describe_end(name: str, agent: AgentRecord) -> str:
    """Say in a phrase how an agent has ended."""
    if agent.status is AgentStatus.COMPLETED:
        return f"{name} has completed"
    how = "was declared dead" if agent.status is AgentStatus.DEAD else "has failed"
    return f"{name} {how}: {agent.error or 'no reason given'}"


class Ended(NamedTuple):
    """The agents that were waited for, and the expected ones that have not come in time."""

    agents: dict[str, AgentRecord]
    absent: dict[str, ExpectedRecord]


async def until_ended(
    store: ClientStore,
    keys: SessionKeys,
    name: str | None = None,
    *,
    timeout_s: float | None = None,
    note: Callable[[str], None],
) -> Ended:
    """Wait until an agent, or every agent of the session, has completed or failed; return them.

    All have ended when those that the run expects have come and ended, or are absent; without a
    roster, when the last one ended `runs.settle_ms` ago. An agent or a session that is still
    unknown may come later: `note` is told. Raises WaitTimeoutError, naming the agents that have not
    come or ended; NotFoundError when the session is gone.
    """
    running: dict[str, AgentRecord] | None = None
    awaited: list[str] = []
    opened: bytes | None = None
    try:
        async with asyncio.timeout(timeout_s):
            place = await retry(partial(last_id, store, keys.log))
            while True:
                opened = await retry(partial(still_open, store, keys, opened))
                # First the roster: an agent that comes meanwhile must not be missed.
                roster = await _roster(store, keys, name)
                agents = await _agents(store, keys, name)
                if not agents and running is None:
                    note(f"nothing heard of {name or keys.name} yet; waiting")
                running = {who: a for who, a in agents.items() if a.status not in ENDED}
                away = {who: one for who, one in roster.items() if who not in agents}
                awaited = [who for who, one in away.items() if one.is_awaited]
                left_ms = BLOCK_MS
                if (agents or away) and not running and not awaited:
                    if name is None and not roster:
                        left_ms = await retry(partial(_settles_in_ms, store, keys, agents))
                    if name is not None or roster or left_ms <= 0:
                        return Ended(agents, away)
                # After a pause in the log look all the same: the session may be gone.
                page: list[Entry] | None = None
                while page is None or (page and not any(map(_may_end, page))):
                    block_ms = min(left_ms, BLOCK_MS)
                    reading = partial(store.read_streams, {keys.log: place}, PAGE, block_ms)
                    page = (await retry(reading)).get(keys.log, [])
                    place = page[-1][0] if page else place
    except TimeoutError:
        parts = [f"{who} is {a.status.value}" for who, a in (running or {}).items()]
        parts += [f"{listed(awaited)} expected, and not heard of yet"] if awaited else []
        left = ", ".join(parts) or f"nothing was heard of {name or keys.name}"
        raise WaitTimeoutError(f"waited {timeout_s:g} s in {keys.name}: {left}") from None


async def _agents(
    store: ClientStore, keys: SessionKeys, name: str | None
) -> dict[str, AgentRecord]:
    if name is None:
        return await retry(Session(store, keys).agents)
    found = await retry(partial(_agent, store, keys, name))
    return {} if found is None else {name: found}


async def _roster(
    store: ClientStore, keys: SessionKeys, name: str | None
) -> dict[str, ExpectedRecord]:
    """Return the expected agents, or one of them."""
    found = await retry(Session(store, keys).roster)
    return found if name is None else {who: one for who, one in found.items() if who == name}


async def _settles_in_ms(
    store: ClientStore, keys: SessionKeys, agents: dict[str, AgentRecord]
) -> int:
    """Return in how many ms the run is over if no other agent starts; 0 or less: it is."""
    closed, stored = await store.fields(keys.meta, ["closed_ms", "settle_ms"])
    settle_ms = SETTLE_MS if stored is None else whole_number(stored)
    if closed is not None or not settle_ms:
        return 0
    last_ms = max(agent.seen_ms for agent in agents.values())
    return last_ms + settle_ms - await store.now_ms(keys.log)


async def _agent(store: ClientStore, keys: SessionKeys, name: str) -> AgentRecord | None:
    return await read_record(store, keys.agents, name, AgentRecord)


def _may_end(entry: Entry) -> bool:
    """Whether an agent may have ended by a log entry: by its own signal, or by a timer."""
    fields = fields_of(entry[1])
    return fields.get(b"type") in _ENDINGS or fields.get(b"kind") == Kind.DERIVED.value.encode()
