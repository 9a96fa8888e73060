"""Agents work in many sessions while servers change places; then the result is judged."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from fabric import Fabric
from fabric.store.keys import partition_of
from fabric.store.redis import RedisStore
from fabric.wire.stored import fields_of
from tests.support.outage import MANY, outlast
from tests.support.waiting import eventually

#: Sessions, on a cluster spread over its primaries; in each an agent reports and another waits.
SESSIONS = 6

#: Time for which a signal is retried, ms: longer than any failover or restart of a node.
EMIT_LIMIT_MS = 60_000

#: Timeout of the waiting agents, s.
WAIT_SECONDS = 100


class Convoy:
    """One reporter a session; each sends one signal after the other until it is stopped."""

    def __init__(self, fabric: Fabric, sessions: list[str]) -> None:
        self._fabric = fabric
        self._stop = asyncio.Event()
        #: Session → signals of its reporter that were acknowledged, STARTED among them.
        self.sent = dict.fromkeys(sessions, 0)
        #: The longest time between two of one reporter's acknowledgements.
        self.paused_s = 0.0

    async def report(self, session: str) -> None:
        """Report until stopped; then resolve what the other agent waits for."""
        async with self._fabric.agent("A", session=session, produces=["x"]) as agent:
            self.sent[session] += 1
            number = 0
            while not self._stop.is_set():
                began = time.monotonic()
                await agent.progress(number % 100)
                self.paused_s = max(self.paused_s, time.monotonic() - began)
                number += 1
                self.sent[session] += 1
            await agent.resolve("x", location=session)
        self.sent[session] += 2

    async def wait(self, session: str) -> str | None:
        """Wait for the reporter's output."""
        async with self._fabric.agent("B", session=session) as agent:
            return await agent.wait_for("x", timeout=WAIT_SECONDS)

    async def advance(self, count: int) -> None:
        """Wait until every reporter has sent `count` more signals."""
        aim = {session: sent + count for session, sent in self.sent.items()}
        await eventually(
            lambda: all(self.sent[session] >= number for session, number in aim.items()),
            lambda: f"all of them go on: {self.sent}",
        )

    def stop(self) -> None:
        self._stop.set()


@asynccontextmanager
async def convoy(url: str, *, wait_replicas: int) -> AsyncIterator[Convoy]:
    """Keep agents at work until the block ends; then all of them must end without an error."""
    sessions = [f"s{number}" for number in range(SESSIONS)]
    async with AsyncExitStack() as stack:
        fabric = await stack.enter_async_context(
            Fabric.connect(url, wait_replicas=wait_replicas, emit_limit_ms=EMIT_LIMIT_MS)
        )
        running = Convoy(fabric, sessions)
        reporting = [asyncio.create_task(running.report(session)) for session in sessions]
        waiting = [asyncio.create_task(running.wait(session)) for session in sessions]
        try:
            await running.advance(20)
            yield running
        except BaseException:
            for task in (*reporting, *waiting):
                task.cancel()
            await asyncio.gather(*reporting, *waiting, return_exceptions=True)
            raise
        running.stop()
        await asyncio.gather(*reporting)
        assert await asyncio.gather(*waiting) == sessions


async def heard(url: str, sessions: Iterable[str]) -> dict[str, list[int]]:
    """Return the numbers of each reporter's signals, in the order of taking effect."""
    store = RedisStore(url, name="judge")
    found: dict[str, list[int]] = {}
    try:
        partitions = await outlast(store.partitions)
        for session in sessions:
            names = store.namespace.partition(partition_of(session, partitions))
            log = await store.entries(names.session(session).log, b"-", b"+", MANY)
            rows = [fields_of(flat) for _, flat in log]
            found[session] = [
                int(row[b"seq"])
                for row in rows
                if row[b"kind"] == b"signal" and row[b"emitter"] == b"A"
            ]
            letters = await store.entries(names.dead, b"-", b"+", 10)
            assert not letters, [fields_of(flat) for _, flat in letters]
    finally:
        await store.close()
    return found


async def judge(url: str, sent: dict[str, int]) -> None:
    """Check that every acknowledged signal took effect once, in the order of sending."""
    for session, numbers in (await heard(url, sent)).items():
        assert numbers == list(range(1, sent[session] + 1)), session
