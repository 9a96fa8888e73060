"""Writing what nobody else writes: INTENT, the wait for the turn, the grant, RELEASE (Rule 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any

import msgspec

from fabric.backoff import retry
from fabric.client.holding import Holdings
from fabric.client.message import Message
from fabric.client.pause import Pauses
from fabric.client.request import Request, Requests, cancelled, strings
from fabric.client.session import Session
from fabric.client.voice import Voice
from fabric.core.directive import DirectiveType
from fabric.core.record import AgentRecord, ClaimState
from fabric.core.resource import normalise
from fabric.core.signal import SignalType
from fabric.errors import CallerError, FabricError, WaitTimeoutError
from fabric.store.port import ClientStore
from fabric.wire.stored import checked_reading

#: Starts something that goes on by itself, and is ended with the agent.
Background = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

#: Reason of the PAUSE that tells a holder that others want the same: it goes on.
CONFLICT = "conflict"


class Grant:
    """What an agent may write, until its block ends.

    Where the rules allow it, it can be taken away: to a more urgent agent at a checkpoint, or after
    the longest time that anything may be held. Then `lost` is set and `is_current` is False: stop
    writing. When it is the agent's turn again, both change back, under a new `token`.
    """

    def __init__(self, asked: frozenset[str], resources: Sequence[str], token: int) -> None:
        self._asked = asked
        #: All that was granted, in normal spelling: what was asked for, and exclusive domains.
        self.resources = tuple(resources)
        #: Fencing token: larger than any before it in the session. `fabric guard` checks it.
        self.token = token
        self.is_current = True
        self.lost = asyncio.Event()

    def _again(self, token: int) -> None:
        self.token, self.is_current = token, True
        self.lost.clear()

    def _lose(self) -> None:
        self.is_current = False
        self.lost.set()


class Grants:
    """All grants of one agent."""

    def __init__(
        self,
        store: ClientStore,
        session: Session,
        voice: Voice,
        requests: Requests,
        pauses: Pauses,
        holdings: Holdings,
        background: Background,
        name: str,
    ) -> None:
        self.name = name
        self.voice = voice
        self.requests = requests
        self.pauses = pauses
        self.holdings = holdings
        self.background = background
        self.live: list[Grant] = []
        self._store = store
        self._session = session

    def hear(self, message: Message, *, is_new: bool) -> None:
        """What is granted again, and what is taken away."""
        named = strings(message.payload.get("resources"))
        if not is_new or not named:
            return
        token = message.payload.get("token")
        if message.type == DirectiveType.PROCEED and isinstance(token, int):
            self.holdings.granted(token, named)
            for grant in self.live:
                if token > grant.token and grant._asked.issubset(named):
                    grant._again(token)
        elif message.type == DirectiveType.PAUSE and message.payload.get("reason") != CONFLICT:
            for grant in self.live:
                if not set(grant.resources).isdisjoint(named):
                    grant._lose()

    async def is_good(
        self, token: Callable[[], int], names: frozenset[str], request: Request
    ) -> bool:
        """Whether a grant is the answer to a request, not one that was given up before.

        `token` is read again: while it is looked up, the right one may take its place.
        """
        while self.holdings.is_doubtful(names):
            looked_up = token()
            if await retry(partial(self._stands, looked_up, request)):
                self.holdings.is_sure()
                return True
            if token() == looked_up:
                return False
        return True

    async def _stands(self, token: int, request: Request) -> bool:
        """Whether a grant outlived all that the agent said before it asked."""
        keys = self._session.keys
        (stored,) = await self._store.fields(keys.agents, [self.name])
        with checked_reading(keys.agents, "hash"):
            record = msgspec.json.decode(stored, type=AgentRecord) if stored else None
        if record is None or record.incarnation != self.voice.incarnation:
            return False
        if record.seq < request.number:
            return False
        claims = await self._session.claims()
        return any(
            claim.agent == self.name and claim.state is ClaimState.HELD and claim.token == token
            for claim in claims.values()
        )

    async def give_back(self, names: Sequence[str]) -> None:
        """Give names back that nothing of the agent needs any more."""
        chosen: list[str] = []

        def choose() -> list[str]:
            chosen.extend(self.holdings.give(names))
            return chosen

        try:
            await self.voice.give_back(choose)
        except FabricError:
            self.holdings.doubt(chosen)
            raise

    def withdraw(self, names: Sequence[str]) -> None:
        """Give names back by and by: who does it is on the way out with an error of its own."""
        self.holdings.doubt(names)
        self.background(self._attempt(names, []))

    async def release(self, names: Sequence[str]) -> list[FabricError]:
        """Give names back, also when the caller is cancelled meanwhile; return what went wrong."""
        failed: list[FabricError] = []
        await asyncio.shield(self.background(self._attempt(names, failed)))
        return failed

    async def _attempt(self, names: Sequence[str], failed: list[FabricError]) -> None:
        try:
            await self.give_back(names)
        except FabricError as error:
            failed.append(error)


class Writing(AbstractAsyncContextManager[Grant]):
    """One block of writing: enter it for the grant."""

    def __init__(
        self, grants: Grants, writes: Sequence[str], reads: Sequence[str], timeout_s: float | None
    ) -> None:
        if not writes:
            raise CallerError("nothing to write: name at least one path or resource")
        self._grants = grants
        self._payload = {"writes": list(writes), **({"reads": list(reads)} if reads else {})}
        self._timeout_s = timeout_s
        self._wanted = frozenset(map(normalise, writes))
        self._names = list(dict.fromkeys(map(normalise, [*writes, *reads])))
        self._wait: dict[str, Any] | None = None
        self._grant: Grant | None = None

    async def __aenter__(self) -> Grant:
        """Ask, wait for the turn, and return the grant.

        Raises WaitTimeoutError, saying who holds it; DeadlockError; NotAllowedError. Whatever ends
        the wait without a grant, also takes the claim back.
        """
        grants = self._grants
        grants.holdings.take(self._names)
        try:
            async with asyncio.timeout(self._timeout_s):
                grant = await self._granted()
                await grants.pauses.obey()
                return grant
        except BaseException as error:
            self._forget()
            grants.withdraw(self._names)
            if not isinstance(error, TimeoutError):
                raise
            raise WaitTimeoutError(await self._blame()) from None

    async def _granted(self) -> Grant:
        grants = self._grants
        async with grants.requests.asking(self._judge) as request:
            await request.send(SignalType.INTENT, self._payload)
            grant: Grant = await request.answer()
            while not await grants.is_good(partial(_token, grant), self._wanted, request):
                self._forget()
                grant = await request.answer()
        # What the rules added to it goes back with the rest.
        added = [name for name in grant.resources if name not in self._names]
        grants.holdings.take(added)
        self._names += added
        return grant

    def _judge(self, message: Message) -> Grant | None:
        named = strings(message.payload.get("resources"))
        if not self._wanted.issubset(named):
            return None
        if message.type == DirectiveType.WAIT:
            self._wait = message.payload
        elif message.type == DirectiveType.CANCEL:
            raise cancelled(self._grants.name, message)
        token = message.payload.get("token")
        if message.type != DirectiveType.PROCEED or not isinstance(token, int):
            return None
        if self._grants.holdings.is_over(token) or self._grant is not None:
            return None
        # Kept at once: what comes right behind may take it away again.
        self._grant = Grant(self._wanted, named, token)
        self._grants.live.append(self._grant)
        return self._grant

    def _forget(self) -> None:
        if self._grant in self._grants.live:
            self._grants.live.remove(self._grant)
        self._grant = None

    async def _blame(self) -> str:
        what = ", ".join(sorted(self._wanted))
        said = f"{self._grants.name} waited {self._timeout_s:g} s for {what}: "
        barrier = await self._grants.pauses.blame()
        if barrier is not None:
            return said + barrier
        if self._wait is None:
            return said + "no orchestrator has answered; is one running? (fabric status)"
        holder, position = self._wait.get("holder") or "nobody", self._wait.get("position")
        return f"{said}{holder} has it; {self._grants.name} was number {position} of those who wait"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give everything back. A cancellation does not keep that from being sent."""
        grant = self._grant
        self._forget()
        if grant is not None:
            grant._lose()
        failed = await self._grants.release(self._names)
        # What ended the block matters more than an error in giving back.
        if failed and error is None:
            raise failed[0]


def _token(grant: Grant) -> int:
    return grant.token
