"""The simulated network: the duration of requests, their loss, and what their senders see."""

from __future__ import annotations

import random
from asyncio import Future
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from fabric.errors import FabricError, UnreachableError
from fabric.store.connection import REPLY_MS_MAX
from fabric.store.port import Entry
from tests.simulation.loop import NodeLoop
from tests.simulation.server import Reader, SimulatedServer
from tests.simulation.timeline import Timeline

T = TypeVar("T")

#: What a request does at the server, atomically.
Operation = Callable[[], Coroutine[Any, Any, Any]]

#: Seconds for a request or a reply on a quiet network: uniformly between these two.
LATENCY_S = (0.0002, 0.002)

#: What was lost so often that it would be sent again only after so many seconds is lost for good.
LOST_S = 60.0

#: Seconds until what got lost is sent again; doubled each time, as TCP does.
AGAIN_S = 0.2

#: Seconds until a client notices a refused connection.
REFUSED_S = 0.001


@dataclass
class Weather:
    """The network faults of one node, until they are cleared."""

    #: Most extra seconds for each request and each reply.
    slow_s: float = 0.0
    #: Number of replies still to be lost: by turns with a broken connection and without.
    lost_replies: int = 0
    #: Number of requests still to be late: the sender's connection breaks at once.
    late_requests: int = 0
    late_s: float = 0.0
    #: Number of requests that will reach the server twice, as if a driver or proxy repeated them.
    repeated_requests: int = 0
    #: Whether there is no connection at all.
    is_cut: bool = False
    #: Extra seconds for each request and each reply, always as many.
    delay_s: float = 0.0
    #: Share of the requests and of the replies that get lost, each time that they are sent again.
    loss: float = 0.0
    #: Bytes of entries a second that get through, each reply as a whole; 0: as fast as it goes.
    rate: float = 0.0


@dataclass(eq=False)
class Pending:
    """A request whose sender waits for the reply."""

    future: Future[Any]
    limit_s: float
    #: Whether the sender gets no reply.
    is_swallowed: bool = False


@dataclass(eq=False)
class Link:
    """A node's connection to the server."""

    timeline: Timeline
    server: SimulatedServer
    node: NodeLoop
    chance: random.Random
    counts: dict[str, int]
    weather: Weather = field(default_factory=Weather)
    #: How many connections were made so far.
    connections: int = 1
    #: When a slow link has brought what is under way, s.
    _free_s: float = 0.0
    #: In the order in which they were sent, so that a broken connection fails them in that order.
    _pending: dict[Pending, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server.on_down.append(self.break_all)

    async def call(self, operation: Operation, *, is_write: bool = True) -> Any:
        """Send a request and return the server's reply. Raises as `Channel.call` does."""
        return await self._send(0, partial(self._arrive, operation=operation, is_write=is_write))

    async def read(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        """Read streams, and wait for entries."""
        found: dict[str, list[Entry]] = await self._send(
            block_ms, lambda pending: self._arrive_reading(pending, after, count, block_ms)
        )
        return found

    async def _send(self, block_ms: int, arrive: Callable[[Pending], None]) -> Any:
        timeline, weather = self.timeline, self.weather
        limit_s = timeline.now_s + (REPLY_MS_MAX + block_ms) / 1000
        pending = Pending(self.node.create_future(), limit_s)
        self._pending[pending] = None
        if weather.is_cut or self.server.is_down:
            error = UnreachableError("server: connection failed (simulated)")
            error.never_sent = True
            timeline.after(REFUSED_S, partial(self._fail, pending, error))
        elif weather.late_requests:
            weather.late_requests -= 1
            self.counts["late request"] += 1
            pending.is_swallowed = True
            timeline.after(self._latency_s(), partial(self._lose, pending))
            timeline.after(weather.late_s * self.chance.random(), partial(arrive, pending))
        else:
            latency_s = self._latency_s()
            timeline.after(latency_s, partial(arrive, pending))
            if weather.loss and timeline.now_s + latency_s > limit_s:
                timeline.at(limit_s, partial(self._lose, pending))
            if weather.repeated_requests:
                weather.repeated_requests -= 1
                self.counts["repeated request"] += 1
                echo = Pending(pending.future, limit_s, is_swallowed=True)
                timeline.after(0.01 + weather.late_s * self.chance.random(), partial(arrive, echo))
        try:
            return await pending.future
        finally:
            self._pending.pop(pending, None)

    def _arrive(self, pending: Pending, operation: Operation, *, is_write: bool) -> None:
        try:
            self.server.check(is_write=is_write)
            result = at_once(operation())
        except FabricError as error:
            self._reply(partial(self._fail, pending, error), pending)
        else:
            self._reply(partial(_succeed, pending, result), pending)

    def _arrive_reading(
        self, pending: Pending, after: dict[str, bytes], count: int, block_ms: int
    ) -> None:
        try:
            self.server.check(is_write=False)
            found = self.server.found(after, count)
        except FabricError as error:
            self._reply(partial(self._fail, pending, error), pending)
            return

        def deliver(entries: dict[str, list[Entry]]) -> None:
            some = (part for stream in entries.values() for _, fields in stream for part in fields)
            size = sum(map(len, some)) if self.weather.rate else 0
            self._reply(partial(_succeed, pending, entries), pending, size)

        if found or not block_ms:
            deliver(found)
            return

        def fail(error: FabricError) -> None:
            self._fail(pending, error)

        reader = Reader(after, count, deliver, fail)
        self.server.block(reader)

        def give_up() -> None:
            if self.server.unblock(reader):
                deliver({})

        self.timeline.after(block_ms / 1000, give_up)

    def _reply(self, deliver: Callable[[], None], pending: Pending, size: int = 0) -> None:
        """Deliver a reply with so many bytes of entries, if it gets through."""
        if pending.is_swallowed or pending.future.done():
            return
        weather = self.weather
        if weather.lost_replies:
            weather.lost_replies -= 1
            self.counts["lost reply"] += 1
            if weather.lost_replies % 2:
                self.timeline.after(self._latency_s(), partial(self._lose, pending))
            else:
                self.timeline.at(pending.limit_s, partial(self._lose, pending))
            return
        arrives_s = self.timeline.now_s + self._latency_s()
        if weather.rate and size:
            self._free_s = max(self._free_s, self.timeline.now_s) + size / weather.rate
            arrives_s = max(arrives_s, self._free_s)
        if arrives_s > pending.limit_s:
            self.timeline.at(pending.limit_s, partial(self._lose, pending))
        else:
            self.timeline.at(arrives_s, deliver)

    def _lose(self, pending: Pending) -> None:
        self.connections += 1
        self._fail(pending, UnreachableError(f"server: no reply within {REPLY_MS_MAX} ms"))

    def _fail(self, pending: Pending, error: FabricError) -> None:
        if not pending.future.done() and not self.node.is_dead:
            pending.future.set_exception(error)

    def break_all(self) -> int:
        """Cut every connection of the node: requests in flight may have arrived or not."""
        self.connections += 1
        waiting = [pending for pending in self._pending if not pending.future.done()]
        for pending in waiting:
            self._lose(pending)
        return len(waiting)

    def abandon(self) -> int:
        """Forget requests in flight because their sender is dead; they may still arrive."""
        self.server.on_down.remove(self.break_all)
        return len(self._pending)

    def _latency_s(self) -> float:
        shortest, longest = LATENCY_S
        quiet_s = shortest + (longest - shortest) * self.chance.random()
        weather = self.weather
        if weather.slow_s:
            quiet_s += weather.slow_s * self.chance.random()
        again_s = AGAIN_S
        while weather.loss and again_s < LOST_S and self.chance.random() < weather.loss:
            quiet_s += again_s
            again_s *= 2
        return quiet_s + weather.delay_s


def _succeed(pending: Pending, result: Any) -> None:
    if not pending.future.done() and not pending.future.get_loop().is_closed():
        pending.future.set_result(result)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    work.close()
    raise AssertionError("the store in memory must answer at once")
