"""The files that one agent of a client holds, and those that it waits for.

A claim is made before a write and kept until the end of the turn, so that edits that belong
together are not mixed with those of others. It is released earlier when no tool is writing it and

- the agent has to wait for another file, and somebody wants this one: nobody holds and waits, so
  agents that want each other's files all go on;
- somebody wants it, and it was not used for `WANTED_S`; or nobody does, and not for `IDLE_S`.

Nothing is lost by that: a whole file is not written over what its agent has not seen
(`member.py`).
A wait that the hook gives up goes on in its place in the queue: the same write finds it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from fabric.client.agent import Agent
from fabric.client.grant import Grant, Writing
from fabric.client.session import read_record
from fabric.core.record import ENDED, AgentRecord, ClaimRecord
from fabric.errors import DeadlockError, EndedError, FabricError, ServerError
from fabric.store.port import ClientStore

#: A claim that was not used for so long is released: the agent does something else.
IDLE_S = 600.0
WANTED_S = 10.0

#: Seconds between two looks, during a wait, whether others want what the agent holds.
LOOK_S = 0.25

#: An orchestrator answers in milliseconds: without an answer in this time, none is running.
ANSWER_S = 5.0

#: A tool that has not reported its end for so long has failed: clients do not say so.
TOOL_S = 120.0


class Claim:
    """Files that were asked for together: granted, waited for, or refused."""

    def __init__(self, agent: Agent, names: frozenset[str]) -> None:
        self.names = names
        self.grant: Grant | None = None
        self.error: FabricError | None = None
        self.asked_at = self.used_at = time.monotonic()
        writing = agent.writing(*sorted(names))
        assert isinstance(writing, Writing)
        self._writing = writing
        self._settled, self._over = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        try:
            async with self._writing as self.grant:
                self.used_at = time.monotonic()
                self._settled.set()
                await self._over.wait()
        except FabricError as error:
            self.error = error
        finally:
            self._settled.set()

    @property
    def is_held(self) -> bool:
        """Whether the files are the agent's now."""
        return self.grant is not None and self.grant.is_current and not self._over.is_set()

    @property
    def is_settled(self) -> bool:
        """Whether the wait is over, one way or the other."""
        return self._settled.is_set()

    async def settled(self, seconds: float) -> None:
        """Wait until it is granted or refused, for some seconds at most.

        Raises ServerError if no orchestrator has answered for long.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), max(0.0, seconds))
        is_answered = self.is_settled or self._writing.place is not None
        if not is_answered and time.monotonic() - self.asked_at > ANSWER_S:
            raise ServerError("no orchestrator answers (`fabric status` shows whether one runs).")

    def end(self) -> asyncio.Task[None]:
        """Release it, or withdraw it; return the task that does."""
        self._over.set()
        if not self.is_settled:
            self._task.cancel()
        return self._task


class Claims:
    """All claims of one incarnation of an agent."""

    def __init__(self, agent: Agent, store: ClientStore) -> None:
        self._agent, self._store = agent, store
        self._claims: list[Claim] = []
        #: Tool call → its files, and since when.
        self._running: dict[str, tuple[frozenset[str], float]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> frozenset[str]:
        """The files that are the agent's now."""
        return frozenset(name for one in self._claims if one.is_held for name in one.names)

    @property
    def is_waiting(self) -> bool:
        """Whether a claim waits for its turn."""
        return any(not one.is_settled for one in self._claims)

    async def obtain(self, names: Sequence[str], tool: str, wait_s: float) -> frozenset[str]:
        """Ask for files, wait for them; return those that are still waited for.

        Raises DeadlockError if agents would wait for each other forever, though this one has given
        up what it could. Raises what Agent.writing does.
        """
        deadline = time.monotonic() + wait_s
        wanted = frozenset(names)
        if any(one.names & wanted for one in self._claims):
            await self._check()
        self._drop(one for one in self._claims if one.is_settled and not one.is_held)
        if wanted - self.held:
            try:
                await self._wait(wanted, deadline)
            except DeadlockError:
                if not self._yield(self._claims, wanted):
                    raise
                await self._wait(wanted, deadline)
        missing = wanted - self.held
        if not missing:
            self._running[tool] = (wanted, time.monotonic())
            for one in self._claims:
                if one.names & wanted:
                    one.used_at = time.monotonic()
        return missing

    async def _wait(self, wanted: frozenset[str], deadline: float) -> None:
        """Wait for files; meanwhile release what others want."""
        missing = wanted - self.held
        claim = next((one for one in self._claims if one.names == missing), None)
        if claim is None:
            claim = Claim(self._agent, missing)
            self._claims.append(claim)
        while True:
            left_s = deadline - time.monotonic()
            await claim.settled(min(left_s, LOOK_S))
            if claim.is_settled or left_s <= LOOK_S:
                break
            self._yield(await self._contended(), wanted)
        if claim.error is not None:
            self._claims.remove(claim)
            raise claim.error

    async def _records(self) -> list[ClaimRecord] | None:
        """Return this agent's claims as the fabric has them; None before its start was decided.

        Raises EndedError if the agent was ended elsewhere.
        """
        keys = self._agent.session.keys
        record = await read_record(self._store, keys.agents, self._agent.name, AgentRecord)
        if record is None or record.incarnation < self._agent.incarnation:
            return None
        if record.status in ENDED or record.incarnation > self._agent.incarnation:
            raise EndedError(f"{self._agent.name} has ended or started elsewhere")
        found = [
            await read_record(self._store, keys.claims, one, ClaimRecord) for one in record.claims
        ]
        return [one for one in found if one is not None]

    async def _check(self) -> None:
        """Forget what was released in this agent's name elsewhere, say with `fabric emit`."""
        known = await self._records()
        if known is not None:
            tokens = {one.token for one in known}
            granted = [one for one in self._claims if one.grant is not None]
            self._drop(one for one in granted if one.grant and one.grant.token not in tokens)

    async def _contended(self) -> list[Claim]:
        """Return the claims that others wait for."""
        tokens = {one.token for one in await self._records() or () if one.contended}
        return [one for one in self._claims if one.grant and one.grant.token in tokens]

    def _yield(self, claims: Iterable[Claim], wanted: frozenset[str]) -> bool:
        """Release those of some claims that no tool is writing; return whether there were any."""
        busy = self._busy() | wanted
        idle = [one for one in claims if one.is_held and not one.names & busy]
        self._drop(idle)
        return bool(idle)

    def _busy(self) -> frozenset[str]:
        """Return the files that tools are writing."""
        since = time.monotonic() - TOOL_S
        return frozenset().union(*(files for files, at in self._running.values() if at > since))

    def used(self, tool: str) -> None:
        """Note that a tool call has ended."""
        self._running.pop(tool, None)

    async def release_idle(self) -> None:
        """Release what was not used for long."""
        now = time.monotonic()
        if any(one.is_held and one.used_at < now - WANTED_S for one in self._claims):
            wanted = await self._contended()
            idle = [one for one in wanted if one.used_at < now - WANTED_S]
            idle += [one for one in self._claims if one.used_at < now - IDLE_S and one not in idle]
            self._yield(idle, frozenset())

    def release(self) -> None:
        """Release everything, and withdraw what is waited for."""
        self._running.clear()
        self._drop(self._claims)

    def _drop(self, claims: Iterable[Claim]) -> None:
        for claim in list(claims):
            self._claims.remove(claim)
            task = claim.end()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def released(self) -> None:
        """Return when everything that was released has been sent."""
        await asyncio.gather(*self._ending, return_exceptions=True)
