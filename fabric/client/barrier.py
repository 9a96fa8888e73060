"""Integration barriers, from both sides: pausing for one at a checkpoint, and leading one.

A barrier holds an agent that passes a checkpoint, waits for something or starts late, until the
RESUME that names the barrier. An agent judges its own pauses by the messages alone, in the order of
the log; it looks nothing up while no barrier concerns it.

What happens to a barrier whose leader does not finish:

    its block raises           the barrier stays in force: entering the block again continues it;
                               when the agent ends, the fabric ends the barrier and says why
    its wait is given up       the agent sends INTEGRATED with `ok` false, which cancels the barrier
    somebody cancels it        the leader gets BarrierError; the others are told to go on
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fabric import errors
from fabric.backoff import retry
from fabric.client.message import Message, given, refusal, strings
from fabric.client.request import Request, Requests
from fabric.client.session import read_record
from fabric.core.directive import DirectiveType
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.quota import PREFIX as QUOTA
from fabric.core.record import IN_FORCE, BarrierRecord
from fabric.core.signal import SignalType
from fabric.errors import FabricError, NotAllowedError, ServerError
from fabric.wire.stored import fields_of

#: Why nothing came of a signal for which no message and no record is found.
UNHANDLED = "no orchestrator has handled it; is one running? (fabric status)"

#: Says why a wait has not ended.
Why = Callable[[], Awaitable[str]]


@dataclass(eq=False)
class _Hold:
    """One barrier, as it concerns one agent; `holds`: it has arrived, or must not start yet."""

    barrier: str
    generation: int | None
    holds: bool
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Pauses:
    """The barriers that are in force for one agent, and its checkpoints, where it pauses."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._name = requests.name
        self._holds: dict[str, _Hold] = {}

    def on_message(self, message: Message, *, is_new: bool) -> None:
        """Note a PAUSE for a barrier, and a barrier's end."""
        barrier = message.payload.get("barrier")
        if not isinstance(barrier, str):
            quota = message.payload.get("dependency")
            if isinstance(quota, str) and quota.startswith(QUOTA):
                self._note_quota(quota, message)
            return
        if message.type == DirectiveType.PAUSE:
            if not message.to_everyone or self._name in strings(message.payload.get("members")):
                self._end(barrier)
                generation = message.payload.get("generation")
                known = generation if isinstance(generation, int) else None
                self._holds[barrier] = _Hold(barrier, known, holds=not message.to_everyone)
        elif message.type == DirectiveType.RESUME or (
            # The barrier gives way. Any other CANCEL answers this agent's own call of a barrier.
            message.type == DirectiveType.CANCEL and message.payload.get("code") == "DEADLOCK"
        ):
            self._end(barrier)

    def _note_quota(self, quota: str, message: Message) -> None:
        """Hold the agent at its next checkpoint while a quota that it shares is used up."""
        self._end(quota)
        if message.type == DirectiveType.PAUSE:
            self._holds[quota] = _Hold(quota, None, holds=True)

    def _end(self, barrier: str) -> None:
        if hold := self._holds.pop(barrier, None):
            hold.over.set()

    def end_all(self) -> None:
        """Take note that no barrier holds the agent any more: its incarnation is over."""
        for barrier in list(self._holds):
            self._end(barrier)

    @property
    def in_force(self) -> str | None:
        """The first barrier or quota that is in force for the agent; None without one."""
        return next(iter(self._holds), None)

    def _held(self) -> list[_Hold]:
        """Return the barriers that keep the agent from going on."""
        return [hold for hold in self._holds.values() if hold.holds]

    async def _until_free(self) -> None:
        while held := self._held():
            await held[0].over.wait()
        if over := self._requests.sender.over:
            raise over

    @asynccontextmanager
    async def bounded(self, timeout_s: float | None, what: str, why: Why) -> AsyncIterator[None]:
        """Bound the time of a wait. Raises WaitTimeoutError, which says what for, and why so long.

        `what` follows "waited 5 s"; `why` is asked if no barrier holds the agent.
        """
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError:
            reason = await self.describe() or await why()
            waited = f"{self._name} waited {timeout_s:g} s {what}"
            raise errors.WaitTimeoutError(f"{waited}: {reason}") from None

    @asynccontextmanager
    async def waiting(
        self, timeout_s: float | None, what: str, why: Why, give_up: Callable[[BaseException], None]
    ) -> AsyncIterator[None]:
        """Bound a wait for others, and pause at its end if a barrier counts the agent as arrived.

        That holds for an answer, and for an error that another agent caused. A cancelled caller, a
        timeout and a server's failure end the wait at once. `give_up` takes every error first.
        """
        async with self.bounded(timeout_s, what, why):
            try:
                yield
                await self.after_wait()
            except BaseException as error:
                give_up(error)
                if isinstance(error, errors.PeerError | NotAllowedError):
                    await self.after_wait()
                raise

    async def after_wait(self) -> None:
        """Pause while a barrier that counts the agent as arrived, or a quota, holds it."""
        for hold in list(self._holds.values()):
            if not hold.holds:
                hold.holds = await retry(partial(self._has_arrived, hold))
        await self._until_free()

    async def _has_arrived(self, hold: _Hold) -> bool:
        barrier = await self._look_up(hold.barrier)
        return (
            barrier is not None
            and barrier.state in IN_FORCE
            and hold.generation in (None, barrier.generation)
            and (self._name in barrier.arrived or self._name in barrier.held)
        )

    async def _look_up(self, name: str) -> BarrierRecord | None:
        keys = self._requests.session.keys
        return await read_record(self._requests.store, keys.barriers, name, BarrierRecord)

    async def describe(self) -> str | None:
        """Say which barrier holds the agent, who leads it and who is missing; None if none does."""
        if not (held := self._held()):
            return None
        name, barrier = held[0].barrier, None
        if name.startswith(QUOTA):
            return f"{name} is used up"
        with suppress(ServerError):
            barrier = await self._look_up(name)
        who = f": {barrier.leader or 'nobody'} leads, {_missing(barrier)}" if barrier else ""
        return f"the barrier {name} holds it{who}"

    async def reach(self, checkpoint: str | None, timeout_s: float | None) -> None:
        """Send CHECKPOINT_REACHED; return if no barrier is in force, or when the barrier is over.

        Raises WaitTimeoutError, or NotAllowedError if the signal is refused.
        """
        at = f"at {checkpoint}" if checkpoint else "to be ready"

        async def why() -> str:
            return UNHANDLED

        async with self.bounded(timeout_s, at, why):
            await self._reach(checkpoint)

    async def _reach(self, checkpoint: str | None) -> None:
        while True:
            # A held agent must not pass another checkpoint before it is free.
            await self._until_free()
            known = next(iter(self._holds.values()), None)
            try:
                concerned = await self._send(checkpoint, known)
                break
            except NotAllowedError:
                # Refused because a barrier held it already; the agent has only now heard of that.
                if not self._held():
                    raise
        for hold in concerned:
            # A barrier that began since then meets the agent at its next checkpoint.
            if hold.holds or known is None or hold is known:
                hold.holds = True
        await self._until_free()

    async def _send(self, checkpoint: str | None, known: _Hold | None) -> list[_Hold]:
        """Send it; return the barriers that were in force when it took its place in the log."""
        barrier, generation = (known.barrier, known.generation) if known else (None, None)
        payload = given(checkpoint=checkpoint, barrier=barrier, generation=generation)

        def match(message: Message) -> tuple[str, list[_Hold]] | None:
            is_echo = (
                message.to_everyone
                and message.type == SignalType.CHECKPOINT_REACHED
                and message.sender == self._name
                and message.payload == payload
            )
            return (message.cause, list(self._holds.values())) if is_echo else None

        async with self._requests.opened(match) as request:
            await request.send(SignalType.CHECKPOINT_REACHED, payload)
            while True:
                cause, concerned = await request.answer()
                if await retry(partial(self._is_mine, cause, request)):
                    return [hold for hold in concerned if not hold.over.is_set()]

    async def _is_mine(self, cause: str, request: Request) -> bool:
        """Return whether a log entry is the signal sent: an earlier one may look the same."""
        place, log = cause.encode(), self._requests.session.keys.log
        for _, flat in await self._requests.store.entries(log, place, place, 1):
            known = fields_of(flat)
            return (known.get(b"incarnation"), known.get(b"seq")) == request.label
        return True


@dataclass(eq=False)
class Integrations:
    """The barriers that one agent leads."""

    _requests: Requests
    _pauses: Pauses
    #: Barriers that this agent has called and that are not over.
    _called: set[str] = field(default_factory=set)
    #: Barriers that have opened for this agent: all agents have arrived.
    _opened: set[str] = field(default_factory=set)

    def on_message(self, message: Message, *, is_new: bool) -> None:
        """Note that a barrier opens, or is over."""
        barrier = message.payload.get("barrier")
        if not is_new or not isinstance(barrier, str):
            return
        if message.type == DirectiveType.RESUME or (
            message.type == DirectiveType.CANCEL and not message.to_everyone
        ):
            self._forget(barrier)
        elif message.type == DirectiveType.PROCEED:
            self._opened.add(barrier)

    def _forget(self, barrier: str) -> None:
        self._called.discard(barrier)
        self._opened.discard(barrier)

    @asynccontextmanager
    async def integrating(
        self, payload: dict[str, Any], timeout_s: float | None
    ) -> AsyncIterator[None]:
        """Call a barrier and wait until all have arrived; enter at once if it is open already.

        Without an error, the end of the block lets all agents go on. Raises WaitTimeoutError, which
        names the missing agents; BarrierError if the barrier is cancelled or cannot be called;
        DeadlockError, NotAllowedError.
        """
        barrier: str = payload["name"]
        what, why = f"for all to arrive at {barrier}", partial(self._describe, barrier)
        give_up = partial(self._give_up, barrier)
        async with self._pauses.waiting(timeout_s, what, why, give_up):
            if barrier not in self._opened:
                await self._until_open(barrier, payload)
        yield
        self._forget(barrier)
        await self._requests.sender.send(SignalType.INTEGRATED, {"name": barrier})

    async def _until_open(self, barrier: str, payload: dict[str, Any]) -> None:
        async with self._requests.opened(partial(self._match, barrier)) as request:
            is_called_anew = barrier not in self._called
            try:
                if is_called_anew:
                    self._called.add(barrier)
                    await request.send(SignalType.INTEGRATION_REQUIRED, payload)
                await request.answer()
            except FabricError:
                if is_called_anew:
                    self._forget(barrier)
                raise

    def _match(self, barrier: str, message: Message) -> bool | None:
        if message.payload.get("barrier") != barrier:
            return None
        if message.type == DirectiveType.CANCEL and not message.to_everyone:
            error = refusal(self._requests.name, message)
            if isinstance(error, errors.DeadlockError):
                raise error
            raise errors.BarrierError(f"{barrier}: {message.payload.get('reason')}")
        return True if message.type == DirectiveType.PROCEED else None

    def _give_up(self, barrier: str, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError) and barrier in self._called:
            self._forget(barrier)
            payload = {"name": barrier, "ok": False}
            send = partial(self._requests.sender.send, SignalType.INTEGRATED, payload)
            # It may fail: the agent has ended, and the barrier with it; or the server is gone.
            self._requests.attempt(send)

    async def _describe(self, name: str) -> str:
        """Say why the barrier has not opened."""
        try:
            barrier = (await self._requests.session.barriers()).get(name)
        except ServerError as error:
            return f"who is missing is not known ({error})"
        if barrier is None:
            return UNHANDLED
        if barrier.state not in IN_FORCE:
            return "another integration comes first"
        return _missing(barrier)


def _missing(barrier: BarrierRecord) -> str:
    missing = [name for name in barrier.members if name not in barrier.arrived]
    return f"{', '.join(missing[:NAMES_SHOWN_MAX]) or 'nobody'} is missing"
