"""One replica of a group of workers: takes its share of the partitions, and keeps trying.

Nothing here decides who may write: the leases do. A replica that is wrong about its share only
finds a lease held.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from contextlib import suppress

from fabric.backoff import Outage
from fabric.config.settings import Settings
from fabric.errors import FencedError, NotAllowedError, ServerError, UnreachableError
from fabric.store.port import Held, WorkerStore
from workers.handler import Handler
from workers.lease import HeldLease
from workers.loop import Loop
from workers.share import share

logger = logging.getLogger("fabric.replica")

#: A replica says that it lives, and looks who else does, this many times within a lease: a
#: partition that was given up stands still until another replica's next look.
BEATS_PER_LEASE = 6

#: Longest pause before a lease that another replica holds is asked for again, ms. It bounds how
#: long a partition that was handed over stands still.
POLL_MS = 100

MakeHandler = Callable[[WorkerStore, int], Handler]


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
        """`nonce` gives what no attempt at a lease has had before, of any replica."""
        self._store = store
        self._group = group
        self._make = make
        self._settings = settings
        self.name = name
        self._nonce = nonce
        self._serving: dict[int, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain: finish what is under way, give the leases up.

        Cancelled, it ends at once: the leases run out by themselves. Raises NotAllowedError when
        the server does not let it in; when that happens later, it waits to be let in again.
        """
        outage = Outage(f"{self._group} {self.name}")
        partitions = 0
        pause_ms = self._settings.lease_ms // BEATS_PER_LEASE
        try:
            while not stop.is_set():
                try:
                    # Asked each time: a server that was emptied is founded anew as it was.
                    partitions = self._counted(
                        await self._store.partitions(self._settings.partitions), partitions
                    )
                    live = await self._store.beat(self._group, self.name, self._settings.lease_ms)
                except (ServerError, NotAllowedError) as error:
                    if isinstance(error, NotAllowedError) and not partitions:
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
        await self._drain()

    def _counted(self, partitions: int, before: int) -> int:
        """Return how many partitions there are; say so where it is not what was asked for."""
        wanted = self._settings.partitions
        if wanted not in (None, partitions) and partitions != before:
            logger.warning(
                "%s: the namespace has %d partitions, not the %d of the settings: whoever came "
                "first has decided; set the same for workers, agents and the command line",
                self._group, partitions, wanted,
            )  # fmt: skip
        return partitions

    def _take_share(self, mine: set[int]) -> None:
        """Begin with the partitions that are ours now, hand over those that are not."""
        for number, (stop, task) in list(self._serving.items()):
            if task.done():
                del self._serving[number]
            elif number not in mine:
                stop.set()
        for number in sorted(mine - self._serving.keys()):
            stop = asyncio.Event()
            task = asyncio.create_task(self._serve(number, stop))
            self._serving[number] = (stop, task)

    async def _drain(self) -> None:
        for stop, _ in self._serving.values():
            stop.set()
        await asyncio.gather(*(task for _, task in self._serving.values()), return_exceptions=True)
        with suppress(ServerError, NotAllowedError):
            await self._store.leave(self._group, self.name)

    async def _serve(self, partition: int, stop: asyncio.Event) -> None:
        """Hold one partition whenever it can be had, whatever goes wrong meanwhile."""
        outage = Outage(f"{self._group} {self.name} partition {partition}")
        handler = self._make(self._store, partition)
        while not stop.is_set():
            handler.forget()
            is_taken = False
            try:
                taken = await self._store.acquire(
                    partition, self._group, self.name, self._nonce(), self._settings.lease_ms
                )
                if isinstance(taken, Held):
                    pause_ms = min(taken.remaining_ms, POLL_MS) + random.randint(
                        0, 10
                    )  # spreads requests, guards nothing
                    await _wait(stop, pause_ms)
                    continue
                is_taken = True
                logger.info(
                    "partition %d: taken by %s under epoch %d, committed up to %s",
                    partition, self.name, taken.epoch, taken.committed.decode(),
                )  # fmt: skip
                await self._work(HeldLease(self._store, taken, self._settings.lease_ms), handler,
                                 stop, outage)  # fmt: skip
            except FencedError as error:
                logger.warning("partition %d: %s", partition, error)
            except (ServerError, NotAllowedError) as error:
                if is_taken and isinstance(error, UnreachableError):
                    # The server was there a moment ago: it is one of our connections that has not
                    # outlived an outage, and the others may have to be found out one by one.
                    outage.answered()
                await outage.failed(error, stop)
            except Exception:
                # A defect must not end the daemon: what was under way is void, the log has it.
                logger.exception("partition %d: internal error", partition)
                await _wait(stop, self._settings.lease_ms)
        # Somebody else's from now on: nothing that was begun here goes on.
        handler.forget()

    async def _work(
        self, held: HeldLease, handler: Handler, stop: asyncio.Event, outage: Outage
    ) -> None:
        keeping = asyncio.create_task(held.keep())
        try:
            await Loop(held, handler, self._settings, outage.worked).run(stop)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if stop.is_set():
            await held.give_up()
            logger.info("partition %d: given up by %s", held.lease.partition, self.name)


async def _wait(stop: asyncio.Event, pause_ms: int) -> None:
    """Pause, but not beyond the moment we are told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(pause_ms / 1000):
            await stop.wait()
