"""A fabric inside one event loop: client, orchestrator, synthesizer, and no server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from inspect import signature
from typing import Any, ParamSpec, Self

import msgspec
from msgspec.structs import replace

from fabric.client.fabric import Fabric
from fabric.client.message import Message
from fabric.client.sync import SyncFabric
from fabric.config import rulebook
from fabric.config.check import settings_of
from fabric.config.settings import Settings, Source
from fabric.core.declaration import fields
from fabric.core.limits import SETTLE_MS
from fabric.core.rules import Rules
from fabric.core.synthesis.merge import Reducer
from fabric.errors import ConfigError
from fabric.ops.dead_letters import DeadLetters, Letter
from fabric.ops.script import Inbox
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS
from fabric.store.port import BEGINNING
from fabric.testing.clock import Clock
from fabric.testing.store import MemoryStore
from fabric.wire.stored import text_fields_of
from workers import extension, orchestrator, synthesizer
from workers.replica import MakeHandler, Replica

P = ParamSpec("P")

#: The fabric's time when a test begins, unless the test chooses another.
START = datetime(2026, 1, 1, tzinfo=UTC)

#: Seconds of the fabric's time that `settle` may take. Work that was sent needs none, but a worker
#: that begins anew, after a defect say, pauses for some milliseconds.
_SETTLE_S = 1.0

#: The step in which `settle` takes them.
_STEP_S = 0.01


class StandstillError(Exception):
    """A test has waited too long for something that only time brings, and nobody moved its clock.

    Call `advance` from a task, or a thread, that does not wait.
    """


class InProcessFabric(Fabric):
    """A Fabric with its own workers, on a store in memory and a clock that only the test moves.

    Neither the hook nor refiners are run: both are processes, which take real time. To be entered
    with `async with`, for one test.

    `rules` is the text of a rule file; without it the default rules hold. No file and no
    environment variable of the machine counts. `session` is the default session of agents and of
    the helpers, `start` the fabric's time at the beginning. `reducers` adds reducers by name to
    those that are installed. `patience` is how many real seconds the test may wait, with its clock
    at a standstill, before it fails with StandstillError. Other settings, such as `heartbeat_ms`,
    are those of fabric.toml. Raises ConfigError when the rules are faulty.
    """

    def __init__(
        self,
        rules: str | Rules | None = None,
        *,
        session: str = "test",
        partitions: int = 1,
        start: datetime = START,
        reducers: Mapping[str, Reducer] | None = None,
        patience: float = 30.0,
        **settings: Any,
    ) -> None:
        if unknown := settings.keys() - {field.name for field in fields(Settings)}:
            raise ConfigError(f"no such setting: {', '.join(sorted(unknown))}")
        chosen: dict[str, Any] = {
            "session": session, "partitions": partitions, "workspace": "none",
            # Each renewal of a lease and each empty read is work, and time costs nothing here.
            "lease_ms": 60_000, "block_ms": 30_000,
        }  # fmt: skip
        self.rules = _rules(rules)
        self._start = start
        self._reducers = reducers or {}
        self._instances = itertools.count(1)
        self._clock = Clock(patience, self._give_up)
        self._owner: asyncio.Task[Any] | None = None
        self._is_at_standstill = False
        self._stop = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        #: The store in memory, with all keys in `memory.data`.
        self.memory = MemoryStore(self.now_ms)
        super().__init__(self.memory, settings_of([Source(chosen | settings)]))

    async def __aenter__(self) -> Self:
        """Stop the event loop's time, and start the workers."""
        self._owner = asyncio.current_task()
        self._clock.start()
        try:
            await super().__aenter__()
            self._begin(ORCHESTRATORS, orchestrator.factory(self.rules, self.settings))
            reducers = extension.reducers(self.rules) | dict(self._reducers)
            # Time stands still, so by default nobody is late.
            is_default = self.rules.settle_ms == SETTLE_MS
            rules = replace(self.rules, settle_ms=0) if is_default else self.rules
            self._begin(SYNTHESIZERS, synthesizer.factory(rules, self.settings, reducers))
            await self.settle()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *raised: Any) -> None:
        """Let the workers drain, and let time pass again. Raises StandstillError."""
        try:
            await super().__aexit__(*raised)
        finally:
            await self._end()
        if self._is_at_standstill:
            _, error, _ = raised
            if isinstance(error, asyncio.CancelledError) and self._owner is not None:
                self._owner.uncancel()
            raise StandstillError(
                "the test waited, and its clock stood still: only `fabric.advance(seconds)` moves "
                "it; call that from a task that does not wait"
            ) from error

    def _instance(self) -> str:
        """Return an id for each agent that does not depend on the machine."""
        return self.settings.instance or f"agent-{next(self._instances)}"

    def now_ms(self) -> int:
        """Return the fabric's time, ms since the epoch."""
        return round(self.now.timestamp() * 1000)

    @property
    def now(self) -> datetime:
        """The fabric's time."""
        return self._start + timedelta(seconds=self._clock.passed_s())

    async def advance(self, seconds: float) -> None:
        """Let time pass, and handle all that comes due, the timers of the test's own tasks too."""
        await self._clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Return when all that was sent is folded: in no time, unless a worker met a defect."""
        await self._clock.settle()
        taken_s = 0.0
        while taken_s < _SETTLE_S and not self._is_settled():
            await self._clock.advance(_STEP_S)
            taken_s += _STEP_S

    def _is_settled(self) -> bool:
        data, namespace = self.memory.data, self.memory.namespace
        names = map(namespace.partition, range(self.partitions))
        keys = [key for partition in names for key in (partition.signals, partition.results)]
        return not any(data.kind(key) == "stream" and len(data.stream(key)) for key in keys)

    async def log(self, session: str | None = None) -> list[dict[str, Any]]:
        """Return a session's log: the fields of each entry, its `id`, and `payload` decoded."""
        found = []
        async for entry_id, flat in self.session(session).log():
            entry: dict[str, Any] = {"id": entry_id.decode(), **text_fields_of(flat)}
            if "payload" in entry:
                with suppress(msgspec.DecodeError):
                    entry["payload"] = msgspec.json.decode(entry["payload"])
            found.append(entry)
        return found

    async def messages(self, agent: str, session: str | None = None) -> list[Message]:
        """Return what an agent was sent so far, broadcasts too, without marking it as read."""
        inbox = Inbox(self.store, self.session(session).keys, agent)
        pages = inbox.pages([BEGINNING, BEGINNING])
        return [message async for page, _ in pages for message in page]

    async def dead_letters(self) -> list[Letter]:
        """Return every signal that was refused, with code and reason, oldest first."""
        return [letter async for letter in DeadLetters(self.store, self.partitions).newest()][::-1]

    def _begin(self, group: str, make: MakeHandler) -> None:
        nonce = partial(next, (f"{group}-{number}" for number in itertools.count(1)))
        replica = Replica(self.memory, group, make, self.settings, group, nonce=nonce)
        self._workers.append(asyncio.create_task(replica.run(self._stop)))

    async def _end(self) -> None:
        """End the workers. What one of them has raised is raised."""
        self._stop.set()
        try:
            for ended in await asyncio.gather(*self._workers, return_exceptions=True):
                if isinstance(ended, Exception):
                    raise ended
        finally:
            self._clock.stop()

    def _give_up(self) -> None:
        """Cancel the test. As a fixture's, our own task has ended: then cancel all there are."""
        self._is_at_standstill = True
        is_waiting = self._owner is not None and not self._owner.done()
        for task in {self._owner} if is_waiting else asyncio.all_tasks():
            if task is not None:
                task.cancel()


class SyncInProcessFabric(SyncFabric):
    """See InProcessFabric: it runs in a thread, with an event loop whose time stands still."""

    _original: InProcessFabric

    @property
    def now(self) -> datetime:
        """The fabric's time."""
        return self._original.now

    def advance(self, seconds: float) -> None:
        """Let time pass, and handle all that comes due, the timers of the test's own tasks too."""
        self._thread.run(self._original.advance(seconds))

    def settle(self) -> None:
        """Return when all that was sent is folded: in no time, unless a worker met a defect."""
        self._thread.run(self._original.settle())

    def log(self, session: str | None = None) -> list[dict[str, Any]]:
        """See InProcessFabric.log."""
        return self._thread.run(self._original.log(session))

    def messages(self, agent: str, session: str | None = None) -> list[Message]:
        """Return what an agent was sent so far, broadcasts too, without marking it as read."""
        return self._thread.run(self._original.messages(agent, session))

    def dead_letters(self) -> list[Letter]:
        """See InProcessFabric.dead_letters."""
        return self._thread.run(self._original.dead_letters())


def _synchronous(make: Callable[P, InProcessFabric]) -> Callable[P, SyncInProcessFabric]:
    @wraps(make, assigned=())
    def running_sync(*arguments: P.args, **options: P.kwargs) -> SyncInProcessFabric:
        """Return a fabric for a test without an event loop, to be entered with `with`.

        Arguments are those of `running`. Calls that wait for time must be made in threads of their
        own, as the test moves the clock.
        """
        return SyncInProcessFabric(make(*arguments, **options))

    shown = signature(make).replace(return_annotation="SyncInProcessFabric")
    vars(running_sync)["__signature__"] = shown
    return running_sync


#: Both return a fabric for one test.
running = InProcessFabric
running_sync = _synchronous(InProcessFabric)


def _rules(given: str | Rules | None) -> Rules:
    rules: Rules | None
    if isinstance(given, str):
        rules, faults = rulebook.check(given)
        if rules is None:
            raise ConfigError("; ".join(f"line {fault.line}: {fault}" for fault in faults))
    else:
        rules = given or Rules()
    # Processes take real time, and the clock would not wait for them.
    return msgspec.structs.replace(rules, hook=(), refiners=())
