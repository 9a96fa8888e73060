"""Pauses for an integration: where the agent stands with them, and the checkpoint that obeys them.

A barrier takes hold of an agent at a checkpoint, while it waits for something, or when it starts
late; and lets it go with the RESUME that names the barrier. What was told is taken as it was told:
messages come in the order of the log, and nothing is looked up while nobody is paused.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import msgspec

from fabric.backoff import retry
from fabric.client.message import Message
from fabric.client.request import Request, Requests, strings
from fabric.client.session import Session
from fabric.core.directive import DirectiveType
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.record import IN_FORCE, BarrierRecord
from fabric.core.signal import SignalType
from fabric.errors import NotAllowedError, ServerError, WaitTimeoutError
from fabric.store.port import ClientStore
from fabric.wire.stored import checked_reading, fields_of

logger = logging.getLogger("fabric.agent")


class Hold:
    """One barrier, as it concerns one agent; `holds`: it has arrived, or must not begin yet."""

    def __init__(self, barrier: str, generation: int | None, *, holds: bool) -> None:
        self.barrier = barrier
        self.generation = generation
        self.holds = holds
        self.over = asyncio.Event()


class Pauses:
    """The barriers that are in force for one agent."""

    def __init__(self, store: ClientStore, session: Session, name: str) -> None:
        self._store = store
        self._session = session
        self._name = name
        self._holds: dict[str, Hold] = {}

    def hear(self, message: Message, *, is_new: bool) -> None:
        """PAUSE for a barrier, and its end."""
        barrier = message.payload.get("barrier")
        if not isinstance(barrier, str):
            return
        if message.type == DirectiveType.PAUSE:
            self._pause(barrier, message)
        elif message.type == DirectiveType.RESUME or (
            # It gives way. Any other CANCEL is the answer to a call of its own.
            message.type == DirectiveType.CANCEL and message.payload.get("code") == "DEADLOCK"
        ):
            self._end(barrier)

    def _pause(self, barrier: str, message: Message) -> None:
        is_member = self._name in strings(message.payload.get("members"))
        if message.to_everyone and not is_member:
            return
        self._end(barrier)
        generation = message.payload.get("generation")
        self._holds[barrier] = Hold(
            barrier,
            generation if isinstance(generation, int) else None,
            holds=not message.to_everyone,
        )

    def _end(self, barrier: str) -> None:
        hold = self._holds.pop(barrier, None)
        if hold is not None:
            hold.over.set()

    def in_force(self) -> list[Hold]:
        """Return the barriers that are to meet this agent, or have."""
        return list(self._holds.values())

    def held(self) -> list[Hold]:
        """Return those that keep it from going on."""
        return [hold for hold in self._holds.values() if hold.holds]

    async def let_go(self) -> None:
        """Wait until no barrier keeps the agent from going on."""
        while held := self.held():
            await held[0].over.wait()

    async def obey(self) -> None:
        """A wait of the agent is over: go on only when no barrier has counted it as arrived."""
        for hold in self.in_force():
            if not hold.holds:
                hold.holds = await retry(partial(self._has_arrived, hold))
        await self.let_go()

    async def _has_arrived(self, hold: Hold) -> bool:
        barrier = await self._look_up(hold.barrier)
        if barrier is None or barrier.state not in IN_FORCE:
            return False
        if hold.generation not in (None, barrier.generation):
            return False
        return self._name in barrier.arrived or self._name in barrier.held

    async def _look_up(self, name: str) -> BarrierRecord | None:
        key = self._session.keys.barriers
        (stored,) = await self._store.fields(key, [name])
        if stored is None:
            return None
        with checked_reading(key, "hash"):
            return msgspec.json.decode(stored, type=BarrierRecord)

    async def blame(self) -> str | None:
        """Say which barrier keeps the agent, who leads and who is missing; None when none does."""
        for hold in self.held():
            try:
                barrier = await self._look_up(hold.barrier)
            except ServerError:
                barrier = None
            if barrier is None:
                return f"the barrier {hold.barrier} holds it"
            missing = [name for name in barrier.members if name not in barrier.arrived]
            shown = ", ".join(missing[:NAMES_SHOWN_MAX]) or "nobody"
            leader = barrier.leader or "nobody"
            return f"the barrier {hold.barrier} holds it: {leader} leads, {shown} is missing"
        return None


class Checkpoints:
    """One agent's passing of checkpoints."""

    def __init__(
        self, store: ClientStore, session: Session, requests: Requests, pauses: Pauses, name: str
    ) -> None:
        self._store = store
        self._session = session
        self._requests = requests
        self._pauses = pauses
        self._name = name

    async def reach(self, checkpoint: str | None, timeout_s: float | None) -> None:
        """Say CHECKPOINT_REACHED; return when no pause is in force, or the one that was is over.

        Raises WaitTimeoutError, NotAllowedError when it is refused.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._reach(checkpoint)
        except TimeoutError:
            at = f"at {checkpoint}" if checkpoint else "to be ready"
            why = await self._pauses.blame() or (
                "no orchestrator has handled it; is one running? (fabric status)"
            )
            raise WaitTimeoutError(f"{self._name} waited {timeout_s:g} s {at}: {why}") from None

    async def _reach(self, checkpoint: str | None) -> None:
        while True:
            # What is held already must not pass another checkpoint before it is let go.
            await self._pauses.let_go()
            known = next(iter(self._pauses.in_force()), None)
            try:
                concerned = await self._say(checkpoint, known)
                break
            except NotAllowedError:
                # Refused because it was to wait already, which it has heard of only now.
                if not self._pauses.held():
                    raise
        for hold in concerned:
            # One that has begun since is met at the next checkpoint.
            if hold.holds or known is None or hold is known:
                hold.holds = True
        await self._pauses.let_go()

    async def _say(self, checkpoint: str | None, known: Hold | None) -> list[Hold]:
        """Send it, and return what was in force when it took its place in the log."""
        payload: dict[str, Any] = {} if checkpoint is None else {"checkpoint": checkpoint}
        if known is not None:
            payload["barrier"] = known.barrier
            if known.generation is not None:
                payload["generation"] = known.generation

        def judge(message: Message) -> tuple[str, list[Hold]] | None:
            is_echo = (
                message.to_everyone
                and message.type == SignalType.CHECKPOINT_REACHED
                and message.sender == self._name
                and message.payload == payload
            )
            return (message.cause, self._pauses.in_force()) if is_echo else None

        async with self._requests.asking(judge) as request:
            await request.send(SignalType.CHECKPOINT_REACHED, payload)
            while True:
                cause, concerned = await request.answer()
                if await retry(partial(self._is_mine, cause, request)):
                    return [hold for hold in concerned if not hold.over.is_set()]

    async def _is_mine(self, cause: str, request: Request) -> bool:
        """Whether a log entry is what was sent: an earlier signal may look the same."""
        place = cause.encode()
        entries = await self._store.entries(self._session.keys.log, place, place, 1)
        if not entries:
            return True
        flat = entries[0][1]
        known = fields_of(flat)
        return (known.get(b"incarnation"), known.get(b"seq")) == request.label
