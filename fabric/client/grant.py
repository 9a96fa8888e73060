"""Writing what nobody else writes: INTENT, the wait for the turn, the grant, RELEASE.

A RELEASE gives names, and ends every claim and wait of the agent for them. So a name that two
blocks of one agent share is released with the second; and fencing tokens tell an answer to an
earlier block, which comes late, from a new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any

from fabric.backoff import retry
from fabric.client.barrier import UNHANDLED, Pauses, Why
from fabric.client.message import Message, given, is_grant, place_in_line, refusal, strings
from fabric.client.request import Request, Requests
from fabric.client.session import read_record
from fabric.core.directive import DirectiveType
from fabric.core.limits import LIST_ITEMS_MAX, NAMES_SHOWN_MAX
from fabric.core.record import AgentRecord, ClaimState
from fabric.core.resource_name import ManyNamesError, folder_names, names_of
from fabric.core.signal import SignalType
from fabric.devserver.path import files_here
from fabric.errors import CallerError, FabricError

logger = logging.getLogger("fabric.agent")

#: Names that an agent remembers to have given back.
GIVEN_BACK_MAX = 10_000

#: After the server went back, how long an agent waits for the decision on what it sent again, s;
#: and how often it looks.
COMPARE_S = 60.0
COMPARE_PAUSE_S = 0.5

#: Reason of the PAUSE that tells a holder that others want the same; the holder goes on.
CONFLICT = "conflict"


class Grant:
    """What an agent may write, until its block ends.

    It is taken away when the agent is declared dead, and the rules may allow more: by a more urgent
    agent at a checkpoint, or after the longest time that anything may be held. Then `lost` is set
    and `is_current` is False: stop writing. When it is the agent's turn again, both change back,
    with a new `token`. A task can wait for `lost`; synchronous code looks at `is_current`.
    """

    def __init__(
        self,
        asked: frozenset[str],
        resources: Sequence[str],
        token: int,
        after: Sequence[dict[str, Any]] = (),
    ) -> None:
        self._asked = asked
        #: Which of the resources may be half written: `resource`, the `agent` that left it, `how`
        #: (failed, dead or replaced) and `since_ms`.
        self.after = tuple(after)
        #: All resources granted, in normal form: the ones asked for, and exclusive domains.
        self.resources = tuple(resources)
        #: Fencing token: larger than any before it in the session. `fabric guard` checks it.
        self.token = token
        self.is_current = True
        self.lost = asyncio.Event()

    def __repr__(self) -> str:
        state = "current" if self.is_current else "lost"
        return f"<Grant {', '.join(self.resources)}: {state}, token {self.token}>"

    def _renew(self, token: int) -> None:
        self.token, self.is_current = token, True
        self.lost.clear()

    def _lose(self) -> None:
        self.is_current = False
        self.lost.set()


class NamesInUse:
    """Names that the agent waits for or has, and the tokens under which they were granted."""

    def __init__(self, *, is_successor: bool) -> None:
        """`is_successor`: a grant to the incarnation before this one may be under way."""
        self._uses: Counter[str] = Counter()
        self._tokens: dict[int, set[str]] = {}
        #: Tokens grow, and most are over soon after they were given.
        self._over: set[int] = set()
        self._abandoned: set[str] = set()
        #: Names that were given back last, and not asked for since.
        self._given_back: dict[str, None] = {}
        #: Until a grant is in force: then none to the incarnation before is under way.
        self.is_successor = is_successor

    def add(self, names: Iterable[str]) -> None:
        """Count one more use of each name."""
        self._uses.update(one for name in names for one in names_of([name]))

    def remove(self, names: Iterable[str]) -> list[str]:
        """Count one use less of each name; return the names that are not used any more."""
        unused = []
        for name in names:
            known_as = names_of([name])
            for known in known_as:
                self._uses[known] -= 1
                if self._uses[known] <= 0:
                    del self._uses[known]
                    # An output's name must be given as it is; a list's items may be used elsewhere.
                    unused.append(name if len(known_as) == 1 else known)
        return unused

    def granted(self, token: int, names: Iterable[str]) -> None:
        """Note that names were granted under a token."""
        if token not in self._over:
            self._tokens[token] = set(names)
            self._asked(names)

    def is_over(self, token: int) -> bool:
        """Return whether everything granted under a token has been released."""
        return token in self._over

    def sent(self, kind: SignalType, payload: dict[str, Any]) -> None:
        """Note what a signal of the agent releases; there are several that do."""
        if kind is SignalType.INTENT:
            asked = (name for field in ("writes", "reads") for name in strings(payload.get(field)))
            with suppress(ManyNamesError):  # the fabric refuses it
                self._asked(names_of(list(asked)))
        elif kind is SignalType.RELEASE:
            self._end(strings(payload.get("resources")))
        elif kind is SignalType.DEPENDENCY_RESOLVED:
            # An agent that resolves a resource it holds releases it.
            self._end([str(payload.get("dependency_id"))])

    def _end(self, names: list[str]) -> None:
        try:
            released = {one for name in names_of(names) for one in folder_names(name)}
        except ManyNamesError:  # the fabric refuses it
            return
        given_back = released if names else {one for kept in self._tokens.values() for one in kept}
        for name in sorted(given_back):
            self._given_back.pop(name, None)
            self._given_back[name] = None
        while len(self._given_back) > GIVEN_BACK_MAX:
            del self._given_back[next(iter(self._given_back))]
        for token, kept in list(self._tokens.items()):
            kept -= released if names else set(kept)
            if not kept:
                del self._tokens[token]
                self._over.add(token)

    def _asked(self, names: Iterable[str]) -> None:
        for name in names:
            self._given_back.pop(name, None)

    def is_given_back(self, name: str) -> bool:
        """Return whether a name was given back, and nothing of the agent uses it."""
        return name in self._given_back and self._uses[name] <= 0

    def abandon(self, names: Iterable[str]) -> None:
        """Note that a claim was given up before its answer came: a grant may be under way."""
        self._abandoned.update(names_of(names))

    def may_be_abandoned(self, names: Iterable[str]) -> bool:
        """Return whether a grant of these names may answer a claim that was given up."""
        return self.is_successor or not self._abandoned.isdisjoint(names)


class Grants:
    """All grants of one agent."""

    def __init__(self, requests: Requests, pauses: Pauses, *, is_successor: bool) -> None:
        self.requests = requests
        self.pauses = pauses
        self.in_use = NamesInUse(is_successor=is_successor)
        self.live: list[Grant] = []
        self._comparing: asyncio.Task[FabricError | None] | None = None
        requests.sender.on_sent = self.in_use.sent

    def on_message(self, message: Message, *, is_new: bool) -> None:
        """Note what is granted again, and what is taken away."""
        named = strings(message.payload.get("resources"))
        if not is_new or not named:
            return
        if is_grant(message):
            token = message.payload["token"]
            self.in_use.granted(token, named)
            for grant in self.live:
                if token > grant.token and grant._asked.issubset(named):
                    grant._renew(token)
        elif message.type == DirectiveType.PAUSE and message.payload.get("reason") != CONFLICT:
            for grant in self.live:
                if not set(grant.resources).isdisjoint(named):
                    grant._lose()

    def compare_soon(self) -> None:
        """Compare with the server's records in the background: it went back to an earlier moment.

        Until it has decided what was sent again, its records tell nothing.
        """
        if self._comparing is None or self._comparing.done():
            self._comparing = self.requests.attempt(self._compare)

    async def _compare(self) -> None:
        """Take note of what is granted otherwise or not at all; give back what was given back."""
        requests = self.requests
        if not await self._is_decided(requests.sender.seq):
            return
        live = list(self.live)
        claims = await retry(requests.session.claims)
        own = [claim for claim in claims.values() if claim.agent == requests.name]
        held = [claim for claim in own if claim.state is ClaimState.HELD]
        for grant in live:
            if any(claim.token == grant.token for claim in held):
                continue
            again = [one.token for one in held if grant._asked <= {*one.writes, *one.reads}]
            if again:
                grant._renew(max(again))
            else:
                grant._lose()
        unknown = [
            name for claim in own for name in claim.wanted if self.in_use.is_given_back(name)
        ]
        if unknown:
            logger.warning(
                "%s: the server went back: giving back again %s",
                requests.name, ", ".join(unknown[:NAMES_SHOWN_MAX]),
            )  # fmt: skip
            await requests.sender.release(
                lambda: [name for name in unknown if self.in_use.is_given_back(name)]
            )

    async def _is_decided(self, number: int) -> bool:
        """Wait until the server has decided the agent's signals up to a number; False if never."""
        requests, time = self.requests, asyncio.get_running_loop().time
        key, limit_s = requests.session.keys.agents, time() + COMPARE_S
        read = partial(read_record, requests.store, key, requests.name, AgentRecord)
        while time() < limit_s:
            agent = await retry(read)
            if agent is not None and agent.incarnation >= requests.sender.incarnation:
                if agent.incarnation > requests.sender.incarnation:
                    return False
                if agent.seq >= number:
                    return True
            await asyncio.sleep(COMPARE_PAUSE_S)
        return False

    def lose_all(self) -> None:
        """Take note that the agent holds nothing any more."""
        for grant in self.live:
            grant._lose()

    async def is_answer(
        self, token: Callable[[], int], names: frozenset[str], request: Request
    ) -> bool:
        """Return whether a grant answers this request, and not one that was given up before.

        After a time in which the server was out of reach, also whether it is still in force. Raises
        UnavailableError when too few replicas have it (`wait_replicas`): another server may have
        taken over, and not know of it.

        `token` is called again after each look at the store: the right grant may have come since.
        """
        await self._confirm()
        while self.requests.was_away or self.in_use.may_be_abandoned(names):
            self.requests.was_away = False
            looked_up = token()
            if await retry(partial(self._is_in_force, looked_up, request)):
                self.in_use.is_successor = False
                return True
            if token() == looked_up:
                return False
        return True

    async def _confirm(self) -> None:
        requests, tries = self.requests, 0

        async def ask() -> None:
            nonlocal tries
            tries += 1
            await requests.store.confirm(requests.session.keys.lease)

        await requests.sender.emitter.retry(ask)
        if tries > 1:
            requests.was_away = True

    async def _is_in_force(self, token: int, request: Request) -> bool:
        """Return whether a grant survived everything that the agent sent before the request."""
        requests, keys = self.requests, self.requests.session.keys
        agent = await read_record(requests.store, keys.agents, requests.name, AgentRecord)
        if agent is None or agent.incarnation != requests.sender.incarnation:
            return False
        if agent.seq < request.number:
            return False
        claims = await requests.session.claims()
        return any(
            claim.agent == requests.name and claim.state is ClaimState.HELD and claim.token == token
            for claim in claims.values()
        )

    async def release(self, names: Sequence[str], *, is_unfinished: bool = False) -> None:
        """Release the names that nothing else of the agent uses."""
        unused: list[str] = []

        def choose() -> list[str]:
            unused.extend(self.in_use.remove(names))
            return unused

        try:
            await self.requests.sender.release(choose, is_unfinished=is_unfinished)
        except FabricError:
            self.in_use.abandon(unused)
            raise

    def waiting(
        self, names: Sequence[str], timeout_s: float | None, what: str, why: Why
    ) -> AbstractAsyncContextManager[None]:
        """Use names that the block waits for; on any error, release them again.

        See Pauses.waiting. They are released in the background: the caller gets the error.
        """

        def withdraw(error: BaseException) -> None:
            self.in_use.abandon(names)
            self.requests.attempt(partial(self.release, names))

        self.in_use.add(names)
        return self.pauses.waiting(timeout_s, what, why, withdraw)


class Writing(AbstractAsyncContextManager[Grant]):
    """One block of writing: entering it gives the grant."""

    def __init__(
        self, grants: Grants, writes: Sequence[str], reads: Sequence[str], timeout_s: float | None
    ) -> None:
        if not writes:
            raise CallerError("nothing to write: name at least one path or resource")
        self._grants = grants
        self._agent = grants.requests.name
        self._payload = given(writes=list(writes), reads=list(reads) or None)
        self._timeout_s = timeout_s
        try:
            self._wanted = frozenset(files_here().names(writes))
            self._names = files_here().names([*writes, *reads])
        except ManyNamesError:
            raise CallerError(f"these name over {LIST_ITEMS_MAX} resources: name fewer") from None
        self._wait: dict[str, Any] | None = None
        self._grant: Grant | None = None

    @property
    def place(self) -> dict[str, Any] | None:
        """The payload of the last WAIT (holder, position, agents ahead); None before one."""
        return self._wait

    async def __aenter__(self) -> Grant:
        """Ask, wait for the turn, and return the grant.

        Raises WaitTimeoutError, which names the holder; DeadlockError; NotAllowedError. If the wait
        ends without a grant, for any reason, the claim is withdrawn.
        """
        what = "for " + ", ".join(sorted(self._wanted))
        try:
            async with self._grants.waiting(self._names, self._timeout_s, what, self._describe):
                while True:
                    grant = await self._granted()
                    await self._grants.pauses.after_wait()
                    if grant.is_current:
                        return grant
                    # A barrier held the agent for longer than its turn lasted: ask again.
                    self._forget()
        except BaseException:
            self._forget()
            raise

    async def _granted(self) -> Grant:
        grants = self._grants
        async with grants.requests.opened(self._match) as request:
            await request.send(SignalType.INTENT, self._payload)
            grant: Grant = await request.answer()
            while not grant.is_current or not await grants.is_answer(
                partial(getattr, grant, "token"), self._wanted, request
            ):
                self._forget()
                grant = await request.answer()
        # What the rules added is released with the rest.
        added = [name for name in grant.resources if name not in self._names]
        grants.in_use.add(added)
        self._names += added
        return grant

    def _match(self, message: Message) -> Grant | None:
        named = strings(message.payload.get("resources"))
        if not self._wanted.issubset(named):
            return None
        if message.type == DirectiveType.WAIT:
            self._wait = message.payload
        elif message.type == DirectiveType.CANCEL:
            raise refusal(self._agent, message)
        if not is_grant(message) or self._grant is not None:
            return None
        token = message.payload["token"]
        if self._grants.in_use.is_over(token):
            return None
        # Keep it now: the next message may take it away again.
        after = message.payload.get("after")
        self._grant = Grant(self._wanted, named, token, after if isinstance(after, list) else ())
        self._grants.live.append(self._grant)
        return self._grant

    def _forget(self) -> None:
        if self._grant in self._grants.live:
            self._grants.live.remove(self._grant)
        self._grant = None

    async def _describe(self) -> str:
        """Say why there is no grant."""
        return UNHANDLED if self._wait is None else place_in_line(self._agent, self._wait)

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Release everything. A cancellation does not keep RELEASE from being sent.

        After an error the next agent is told that the files may be half written.
        """
        grant = self._grant
        self._forget()
        if grant is not None:
            grant._lose()
        is_unfinished = error is not None
        release = partial(self._grants.release, self._names, is_unfinished=is_unfinished)
        failed = await asyncio.shield(self._grants.requests.attempt(release))
        # An error that ended the block matters more than one in releasing.
        if failed and error is None:
            raise failed
