"""One replica of a group of workers: it takes its share of the partitions, and keeps trying.

Nothing here decides who may write: the leases do. A replica that is wrong about its share only
finds that another one holds the lease.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b

from fabric.backoff import Outage
from fabric.config.settings import Settings
from fabric.errors import FencedError, NotAllowedError, ServerError, UnreachableError
from fabric.store.connection import DeniedError
from fabric.store.keys import Partition
from fabric.store.port import Held, WorkerStore
from fabric.store.read_size import ReadSize
from workers.handler import Handler
from workers.lease import HeldLease
from workers.loop import Loop, read_size

logger = logging.getLogger("fabric.replica")

#: Within one lease, a replica says so many times that it is alive, and reads which others are. A
#: partition that was given up stands still until another replica's next beat.
BEATS_PER_LEASE = 6

#: Longest pause before asking again for a lease that another replica holds, ms. It bounds how long
#: a partition stands still while it is handed over.
POLL_MS = 100

MakeHandler = Callable[[WorkerStore, Partition], Handler]


class Replica:
    """Serves its share of a group's partitions until told to stop."""

    def __init__(
        self,
        store: WorkerStore,
        group: str,
        make: MakeHandler,
        settings: Settings,
        name: str,
        *,
        nonce: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """`nonce` returns a string that no other attempt at a lease uses, of any replica."""
        self._store = store
        self._group = group
        self._make = make
        self._settings = settings
        self.name = name
        self._nonce = nonce
        self._serving: dict[int, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain: finish what is under way, give up the leases.

        When cancelled, end at once: the leases run out by themselves. Either way, everything that
        handlers have started has ended by then. Raises NotAllowedError when the server does not let
        us in; when that happens later, or a permission is missing, wait until we may.
        """
        outage = Outage(f"{self._group} {self.name}")
        partitions = 0
        pause_ms = self._settings.lease_ms // BEATS_PER_LEASE
        try:
            while not stop.is_set():
                try:
                    # Each time: a server that was emptied gets the same number again.
                    before = partitions
                    partitions = await self._store.partitions(self._settings.partitions)
                    self._check_count(partitions, before)
                    live = await self._store.beat(self._group, self.name, self._settings.lease_ms)
                except (ServerError, NotAllowedError) as error:
                    is_barred = isinstance(error, NotAllowedError)
                    if is_barred and not partitions and not isinstance(error, DeniedError):
                        raise
                    await outage.failed(error, stop)
                    continue
                outage.worked()
                self._take_share(share(self.name, partitions, live))
                await _wait(stop, pause_ms)
        except asyncio.CancelledError:
            tasks = [task for _, task in self._serving.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        for stop_one, _ in self._serving.values():
            stop_one.set()
        await asyncio.gather(*(task for _, task in self._serving.values()), return_exceptions=True)
        with suppress(ServerError, NotAllowedError):
            await self._store.leave(self._group, self.name)

    def _check_count(self, partitions: int, before: int) -> None:
        """Warn when the number of partitions is not the one in the settings."""
        wanted = self._settings.partitions
        if wanted not in (None, partitions) and partitions != before:
            logger.warning(
                "%s: the namespace has %d partitions, not the %d of the settings: the first "
                "process to connect fixed it; set the same for workers, agents and command line",
                self._group, partitions, wanted,
            )  # fmt: skip

    def _take_share(self, mine: set[int]) -> None:
        for number, (stop, task) in list(self._serving.items()):
            if task.done():
                del self._serving[number]
            elif number not in mine:
                stop.set()
        for number in sorted(mine - self._serving.keys()):
            stop = asyncio.Event()
            task = asyncio.create_task(self._serve(number, stop))
            self._serving[number] = (stop, task)

    async def _serve(self, partition: int, stop: asyncio.Event) -> None:
        """Hold one partition whenever its lease is free, whatever goes wrong meanwhile."""
        outage = Outage(f"{self._group} {self.name} partition {partition}")
        handler = self._make(self._store, self._store.namespace.partition(partition))
        size = read_size(self._settings)
        try:
            while not stop.is_set():
                handler.forget()
                await self._hold(partition, handler, stop, outage, size)
        finally:
            await handler.close()

    async def _hold(
        self, partition: int, handler: Handler, stop: asyncio.Event, outage: Outage, size: ReadSize
    ) -> None:
        """Try once to take the lease, and work for as long as it holds."""
        is_taken = False
        try:
            taken = await self._store.acquire(
                partition, self._group, self.name, self._nonce(), self._settings.lease_ms
            )
            if isinstance(taken, Held):
                jitter_ms = random.randint(0, 10)  # spreads requests, guards nothing
                await _wait(stop, min(taken.remaining_ms, POLL_MS) + jitter_ms)
                return
            is_taken = True
            logger.info(
                "partition %d: taken by %s under epoch %d, committed up to %s",
                partition, self.name, taken.epoch, taken.committed.decode(),
            )  # fmt: skip
            handler.outages = taken.outages
            held = HeldLease(self._store, taken, self._settings.lease_ms)
            await self._work(held, handler, stop, outage, size)
        except FencedError as error:
            logger.warning("partition %d: %s", partition, error)
        except (ServerError, NotAllowedError) as error:
            if is_taken and isinstance(error, UnreachableError):
                # The server answered a moment ago. One of our connections has broken in an outage;
                # others may have too, and each is found out by its own failure.
                outage.answered()
            await outage.failed(error, stop)
        except Exception:
            # A defect must not end the daemon. What was under way is void; the log has it.
            logger.exception("partition %d: internal error", partition)
            await _wait(stop, self._settings.lease_ms)

    async def _work(
        self,
        held: HeldLease,
        handler: Handler,
        stop: asyncio.Event,
        outage: Outage,
        size: ReadSize,
    ) -> None:
        keeping = asyncio.create_task(held.keep())
        try:
            await Loop(held, handler, self._settings, outage.worked, size).run(stop)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if stop.is_set():
            # Before another replica can begin the same things.
            await handler.close()
            await held.give_up()
            logger.info("partition %d: given up by %s", held.lease.partition, self.name)


async def _wait(stop: asyncio.Event, pause_ms: int) -> None:
    """Pause, but end the pause when told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(pause_ms / 1000):
            await stop.wait()


def share(replica: str, partitions: int, replicas: list[str]) -> set[int]:
    """Return the partitions that a replica should serve, of all there are.

    Rendezvous hashing, computed by each replica for itself: when a replica joins or leaves, only
    its own partitions change hands (Thaler and Ravishankar, "Using name-based mappings to increase
    hit rates", 1998).
    """
    return {number for number in range(partitions) if preferred(number, replicas) == replica}


def preferred(partition: int, replicas: list[str]) -> str | None:
    """Return the replica that should serve a partition; None when there is no replica."""

    def weight(replica: str) -> tuple[bytes, str]:
        return blake2b(f"{partition}/{replica}".encode(), digest_size=8).digest(), replica

    return max(replicas, key=weight, default=None)
