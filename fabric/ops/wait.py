"""Waits of a script: for a dependency as an agent, or until agents have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from fabric.backoff import retry
from fabric.client.emitter import Emitter, prepare
from fabric.client.message import Message, read
from fabric.client.session import Session, last_id, pages, record
from fabric.client.synthesis import BLOCK_MS
from fabric.client.wait import Resolved, Wait
from fabric.core.decision import Kind
from fabric.core.directive import DirectiveType
from fabric.core.record import ENDED, AgentRecord
from fabric.core.signal import SignalType
from fabric.errors import (
    NotAllowedError,
    PeerError,
    ServerError,
    WaitTimeoutError,
)
from fabric.store.keys import ORCHESTRATORS, Partition, SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry
from fabric.store.value import parse_id
from fabric.wire.stored import fields_of

#: Entries read at a time.
COUNT = 256

#: How long a wait that is over is tried to be withdrawn, s: the shell wants to go on.
WITHDRAW_S = 2.0


class ScriptAgent:
    """One agent's waits. `note` is told what a person at the terminal should know meanwhile."""

    def __init__(
        self,
        store: ClientStore,
        partition: Partition,
        keys: SessionKeys,
        emitter: Emitter,
        *,
        agent: str,
        stream: str | None = None,
        heartbeat_ms: int,
        note: Callable[[str], None],
    ) -> None:
        self._store = store
        self._partition = partition
        self._keys = keys
        self._emitter = emitter
        self._who = {"session": keys.name, "emitter": agent, "stream": stream}
        self._agent = agent
        self._heartbeat_ms = heartbeat_ms
        self._note = note

    async def wait_for(
        self, dependency: str, *, reason: str | None = None, timeout_s: float | None = None
    ) -> Resolved:
        """Say BLOCKED, and wait until somebody resolves the dependency.

        Of a question it waits for the decision; of a resource that another agent holds, for its
        turn, and the agent has it then. Meanwhile it says that it is alive.

        Raises WaitTimeoutError, saying on whom it waited; DependencyFailedError when all who were
        to produce it have failed; DeadlockError, or NotAllowedError when the orchestrator refuses
        the wait; PeerError when the agent is told to stop. When it ends without an answer, or is
        cancelled, the wait is withdrawn.
        """
        wait = Wait(self._agent, dependency)
        blocked = {"type": SignalType.BLOCKED.value, "payload": {"on": dependency}}
        if reason is not None:
            blocked["payload"] = {"on": dependency, "reason": reason}
        entry = prepare(blocked, self._who)
        sent: bytes | None = None
        try:
            async with asyncio.timeout(timeout_s):
                # The answer comes after what is there now.
                after = {
                    key: await last_id(self._store, key)
                    for key in (self._keys.inbox(self._agent), self._partition.dead)
                }
                # Said twice, after a lost reply, it means the same as once.
                (sent,) = await self._emitter.send([entry])
                beating = asyncio.create_task(self._beat())
                try:
                    return await self._answer(after, sent, wait)
                finally:
                    beating.cancel()
                    await asyncio.gather(beating, return_exceptions=True)
        except TimeoutError:
            await self._withdraw(dependency)
            whom = await self._blame(dependency, sent, wait)
            raise WaitTimeoutError(
                f"{self._agent} waited {timeout_s:g} s for {dependency}: {whom}"
            ) from None
        except (PeerError, asyncio.CancelledError):
            await self._withdraw(dependency)
            raise

    async def _answer(self, after: dict[str, bytes], sent: bytes, wait: Wait) -> Resolved:
        inbox, dead = after
        while True:
            found = await retry(lambda: self._store.read_streams(after, COUNT, BLOCK_MS))
            for letter in found.get(dead, []):
                self._check_letter(letter, sent)
                after[dead] = letter[0]
            for entry in found.get(inbox, []):
                after[inbox] = entry[0]
                answer = self._judge(read(entry), wait)
                if answer is not None:
                    return answer

    def _check_letter(self, letter: Entry, sent: bytes) -> None:
        flat = letter[1]
        fields: dict[bytes, bytes] = fields_of(flat)
        if fields.get(b"id") == sent:
            reason = fields.get(b"reason", b"").decode("utf-8", "replace")
            raise NotAllowedError(f"{self._agent} may not wait: {reason}")

    def _judge(self, message: Message, wait: Wait) -> Resolved | None:
        payload = message.payload
        if message.type == SignalType.ESCALATE and isinstance(payload.get("question"), str):
            self._note(payload["question"])
        if message.type == DirectiveType.CANCEL and message.is_about_agent:
            raise PeerError(f"{self._agent} is to stop: {payload.get('reason')}")
        return wait.match(message)

    async def _beat(self) -> None:
        """Say that the agent is alive: nothing else speaks for it while its shell waits."""
        beat = prepare({"type": SignalType.HEARTBEAT.value}, self._who)
        while True:
            await asyncio.sleep(self._heartbeat_ms / 1000)
            with suppress(ServerError):
                await self._emitter.send([beat])

    async def _withdraw(self, dependency: str) -> None:
        released = {"type": SignalType.RELEASE.value, "payload": {"resources": [dependency]}}
        with suppress(ServerError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_S):
                await self._emitter.send([prepare(released, self._who)])

    async def _blame(self, dependency: str, sent: bytes | None, wait: Wait) -> str:
        """Say on whom a wait depended; or that nobody has even heard of it."""
        try:
            async with asyncio.timeout(WITHDRAW_S):
                lease = self._partition.lease(ORCHESTRATORS)
                (committed,) = await self._store.fields(lease, ["committed"])
                if sent is None or parse_id(committed or BEGINNING) < parse_id(sent):
                    return "no orchestrator has handled this wait; is one running? (fabric status)"
                if (holder := wait.describe_holder()) is not None:
                    return holder
                return await Session(self._store, self._keys).describe_producers(dependency)
        except (ServerError, TimeoutError):
            return "the server is not there to say on whom"


#: Signals by which an agent's end can have come nearer.
_ENDINGS = frozenset({SignalType.COMPLETED.value.encode(), SignalType.FAILED.value.encode()})


async def until_ended(
    store: ClientStore,
    keys: SessionKeys,
    name: str | None = None,
    *,
    timeout_s: float | None = None,
    note: Callable[[str], None],
) -> dict[str, AgentRecord]:
    """Wait until an agent has completed or failed, or every agent of the session; return them.

    An agent, or a session, that nobody has heard of yet may still come: `note` is told. Raises
    WaitTimeoutError, saying who has not ended.
    """
    running: dict[str, AgentRecord] | None = None
    try:
        async with asyncio.timeout(timeout_s):
            after = await last_id(store, keys.log)
            while True:
                agents = await _agents(store, keys, name)
                if not agents and running is None:
                    note(f"nothing heard of {name or keys.name} yet; waiting")
                running = {who: a for who, a in agents.items() if a.status not in ENDED}
                if agents and not running:
                    return agents
                after = await _until_something_ends(store, keys, after)
    except TimeoutError:
        if not running:
            left = f"nothing was heard of {name or keys.name}"
        else:
            left = ", ".join(f"{who} is {agent.status.value}" for who, agent in running.items())
        raise WaitTimeoutError(f"waited {timeout_s:g} s in {keys.name}: {left}") from None


async def _agents(
    store: ClientStore, keys: SessionKeys, name: str | None
) -> dict[str, AgentRecord]:
    if name is None:
        return await retry(Session(store, keys).agents)
    found = await retry(lambda: record(store, keys.agents, name, AgentRecord))
    return {} if found is None else {name: found}


async def _until_something_ends(store: ClientStore, keys: SessionKeys, after: bytes) -> bytes:
    """Read the log on until an agent may have ended; return the place reached."""
    async for page in pages(store, keys.log, after, follow=True):
        after = page[-1][0]
        if any(_may_end(flat) for _, flat in page):
            break
    return after


def _may_end(flat: list[bytes]) -> bool:
    fields = fields_of(flat)
    # Besides what agents say themselves, what follows from a timer can end one.
    return fields.get(b"type") in _ENDINGS or fields.get(b"kind") == Kind.DERIVED.value.encode()
