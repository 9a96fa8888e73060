"""The files that one agent of a client holds, and those that it waits for.

A claim is made before a write and kept until the end of the turn, so that edits that belong
together are not mixed with those of others. It is released earlier if

- it was not used for `IDLE_S`,
- it is in the way of a cycle of waits: the agent is not writing that file at this moment.

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
        self.used_at = time.monotonic()
        writing = agent.writing(*sorted(names))
        assert isinstance(writing, Writing)
        self._writing = writing
        self._settled, self._over = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        try:
            async with self._writing as self.grant:
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

        Raises ServerError if no orchestrator has answered at all.
        """
        for limit in (min(seconds, ANSWER_S), seconds - ANSWER_S):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), max(0.0, limit))
            if not self.is_settled and self._writing.place is None and seconds >= ANSWER_S:
                raise ServerError(
                    "no orchestrator answers (`fabric status` shows whether one runs)."
                )

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

    async def obtain(self, names: Sequence[str], tool: str, wait_s: float) -> frozenset[str]:
        """Ask for files, wait for them; return those that are still waited for.

        Raises DeadlockError if agents would wait for each other forever: then everything that no
        tool is writing is released. Raises what Agent.writing does.
        """
        deadline = time.monotonic() + wait_s
        wanted = frozenset(names)
        if any(one.names & wanted for one in self._claims):
            await self._check()
        self._drop(one for one in self._claims if one.is_settled and not one.is_held)
        for is_last in (False, True):
            missing = wanted - self.held
            if missing:
                claim = next((one for one in self._claims if one.names == missing), None)
                if claim is None:
                    claim = Claim(self._agent, missing)
                    self._claims.append(claim)
                await claim.settled(deadline - time.monotonic())
                if claim.error is not None:
                    self._claims.remove(claim)
                    is_cycle = isinstance(claim.error, DeadlockError)
                    if is_cycle and not is_last and self._yield(wanted):
                        continue
                    raise claim.error
            break
        missing = wanted - self.held
        if not missing:
            self._running[tool] = (wanted, time.monotonic())
            for one in self._claims:
                if one.names & wanted:
                    one.used_at = time.monotonic()
        return missing

    async def _check(self) -> None:
        """Forget what was released in this agent's name elsewhere, with `fabric emit` for example.

        Raises EndedError if the agent itself was ended there.
        """
        keys = self._agent.session.keys
        record = await read_record(self._store, keys.agents, self._agent.name, AgentRecord)
        if record is None or record.incarnation < self._agent.incarnation:
            return  # not decided yet
        if record.status in ENDED or record.incarnation > self._agent.incarnation:
            raise EndedError(f"{self._agent.name} has ended or started elsewhere")
        found = [
            await read_record(self._store, keys.claims, one, ClaimRecord) for one in record.claims
        ]
        tokens = {one.token for one in found if one is not None}
        self._drop(
            one for one in self._claims if one.grant is not None and one.grant.token not in tokens
        )

    def _yield(self, wanted: frozenset[str]) -> bool:
        """Release what no tool is writing; return whether there was anything."""
        since = time.monotonic() - TOOL_S
        busy = frozenset().union(*(files for files, at in self._running.values() if at > since))
        idle = [one for one in self._claims if one.is_held and not one.names & (busy | wanted)]
        self._drop(idle)
        return bool(idle)

    def used(self, tool: str) -> None:
        """Note that a tool call has ended."""
        self._running.pop(tool, None)

    def release_idle(self) -> None:
        """Release what was not used for long."""
        since = time.monotonic() - IDLE_S
        busy = frozenset().union(*(files for files, _ in self._running.values()))
        self._drop(one for one in self._claims if one.used_at < since and not one.names & busy)

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
