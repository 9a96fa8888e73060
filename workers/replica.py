"""One replica of a group of workers: it takes its share of the partitions, and keeps trying.

Nothing here decides who may write: the leases do. A replica that is wrong about its share only
finds that another one holds the lease.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from types import MappingProxyType

from msgspec import structs

from fabric.backoff import Outage
from fabric.config.settings import Settings
from fabric.errors import (
    ConfigError,
    FencedError,
    HeldError,
    NotAllowedError,
    ServerError,
    UnreachableError,
)
from fabric.store.connection import DeniedError
from fabric.store.keys import Partition
from fabric.store.port import Held, WorkerStore
from fabric.store.read_size import ReadSize
from fabric.wire.worker import WorkerRecord
from workers.handler import Handler
from workers.health import Health
from workers.lease import HeldLease
from workers.loop import Loop, read_size

logger = logging.getLogger("fabric.replica")

#: Within one lease, a replica says so many times that it is alive, and reads which others are. A
#: partition that was given up stands still until another replica's next beat.
BEATS_PER_LEASE = 6

#: Longest pause before asking again for a lease that another replica holds, ms. It bounds how long
#: a partition stands still while it is handed over.
POLL_MS = 100

#: What a dead worker said of itself is kept for so many leases, for people to see.
GONE_LEASES = 120

#: A replica that has not tried to reach the server for so long is stuck, ms. A request that is not
#: answered takes five seconds, and so does the longest pause between two tries.
LIVE_MS = 60_000

#: Weights when none are known: all are 1.
EVEN: Mapping[str, int] = MappingProxyType({})

#: Largest part of 1 that a digest stands for: the logarithm of 1 is 0.
PART_MAX = 1 - 2**-53

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
        rules: str = "",
        build: str = "",
        nonce: Callable[[], str] = lambda: uuid.uuid4().hex,
        place: tuple[str, int] | None = None,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        """`rules` and `build` are digests, which let people see who works by something else.

        `nonce` returns a string that no other attempt at a lease uses, of any replica. `place` is
        the host and the process, by default these, `clock_ms` this machine's clock.
        """
        self._store = store
        self._group = group
        self._make = make
        self._settings = settings
        self.name = name
        self._nonce = nonce
        self._clock_ms = clock_ms
        self._serving: dict[int, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self._health = Health(settings.lease_ms)
        self._record = WorkerRecord(
            nonce(), *(place or (socket.gethostname(), os.getpid())), build, rules, 0, 0,
            weight=settings.weight,
        )  # fmt: skip
        #: Peers that were at work when we last heard of them.
        self._peers: dict[str, WorkerRecord] = {}
        #: When the server answered last, and when it was last asked.
        self._heard_ms = 0.0
        self._tried_ms = float("inf")
        self._odd_rules = Outage(f"{group} {name}")

    @property
    def is_live(self) -> bool:
        """Whether it has tried to reach the server lately."""
        return _now_ms() - self._tried_ms < LIVE_MS

    @property
    def is_ready(self) -> bool:
        """Whether the server has answered within a lease, and the name is ours."""
        is_heard = _now_ms() - self._heard_ms < self._settings.lease_ms
        return bool(self._record.began_ms) and is_heard

    @property
    def rests(self) -> str:
        """Why it leaves its share to its peers for now; "" when it does not."""
        return self._health.reason

    @property
    def partitions(self) -> list[int]:
        """The partitions of its share."""
        return sorted(self._serving)

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
                    self._tried_ms = _now_ms()
                    before = partitions
                    partitions = await self._store.partitions(self._settings.partitions)
                    self._check_count(partitions, before)
                    live = await self._meet()
                except HeldError as error:
                    self._take_share(set())
                    await outage.failed(error, stop)
                    continue
                except (ServerError, NotAllowedError) as error:
                    if self._peers and _now_ms() - self._heard_ms > self._settings.lease_ms:
                        self._take_share(set())  # they hold us for dead, and want our share
                    is_barred = isinstance(error, NotAllowedError)
                    if is_barred and not partitions and not isinstance(error, DeniedError):
                        raise
                    await outage.failed(error, stop)
                    continue
                outage.worked()
                weights = {one: said.weight for one, said in self._peers.items()}
                weights[self.name] = self._settings.weight
                self._take_share(share(self.name, partitions, live, weights))
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
        if self._record.began_ms:
            with suppress(ServerError, NotAllowedError):
                await self._store.leave(self._group, self.name)

    async def _meet(self) -> list[str]:
        """Say that we live, and hear who else does; return those that share the partitions.

        Raises HeldError while another process has our name.
        """
        store, group, name, lease_ms = self._store, self._group, self.name, self._settings.lease_ms
        now_ms, records = await store.workers(group)
        mine = records.pop(name, None)
        if mine and mine.instance != self._record.instance and mine.until_ms > now_ms:
            self._record = structs.replace(self._record, began_ms=0)
            raise HeldError(
                f"another worker is called {name!r}: process {mine.pid} on {mine.host}. It works, "
                "and this one waits; start it with another --name"
            )
        peers = {one: said for one, said in records.items() if said.until_ms > now_ms}
        self._peers = {one: said for one, said in peers.items() if not said.rests}
        self._check_rules(peers)
        before = self._health.reason
        reason = self._health.look(_now_ms(), [said.trip_ms for said in self._peers.values()])
        if reason != before:
            logger.warning(
                "%s %s %s", group, name, f"rests: {reason}" if reason else "takes its share again"
            )
        if reason:
            await store.leave(group, name, rests=True)
        live = [*self._peers] if reason else await store.beat(group, name, lease_ms)
        self._record = structs.replace(
            self._record,
            began_ms=self._record.began_ms or now_ms,
            until_ms=now_ms + lease_ms,
            trip_ms=round(self._health.trip_ms, 2),
            clock_ms=round(self._clock_ms() - now_ms),
            rests=reason,
        )
        gone_ms = now_ms - GONE_LEASES * lease_ms
        gone = [one for one, said in records.items() if said.until_ms < gone_ms]
        asked_ms = _now_ms()
        await store.register(group, name, self._record, gone)
        self._heard_ms = _now_ms()
        self._health.answered(self._heard_ms - asked_ms)
        return live

    def _check_rules(self, peers: dict[str, WorkerRecord]) -> None:
        """Raise an alarm while a peer works by other rules: they change with each take-over."""
        own = self._record.rules
        others = sorted(name for name, said in peers.items() if said.rules not in ("", own))
        if own and others:
            error = ConfigError(
                f"{others[0]} works by the rules {peers[others[0]].rules[:12]}, this worker by "
                f"{own[:12]}: give all of them the same rule file (fabric workers)"
            )
            self._odd_rules.report(error)
        else:
            self._odd_rules.worked()

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
                partition, self._group, self.name, self._nonce(), self._settings.lease_ms,
                self._record.rules,
            )  # fmt: skip
            if isinstance(taken, Held):
                jitter_ms = random.randint(0, 10)  # spreads requests, guards nothing
                await _wait(stop, min(taken.remaining_ms, POLL_MS) + jitter_ms)
                return
            is_taken = True
            if taken.rules_before not in ("", self._record.rules):
                logger.warning(
                    "partition %d: from now on by the rules %s; the holder before worked by %s",
                    partition, self._record.rules[:12], taken.rules_before[:12],
                )  # fmt: skip
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
                self._health.lost()
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


def _now_ms() -> float:
    # The event loop's clock: in a simulation it is not the machine's.
    return asyncio.get_running_loop().time() * 1000


async def _wait(stop: asyncio.Event, pause_ms: int) -> None:
    """Pause, but end the pause when told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(pause_ms / 1000):
            await stop.wait()


def share(
    replica: str, partitions: int, replicas: list[str], weights: Mapping[str, int] = EVEN
) -> set[int]:
    """Return the partitions that a replica should serve, of all there are.

    Rendezvous hashing, computed by each replica for itself: when a replica joins or leaves, only
    its own partitions change hands (Thaler and Ravishankar, "Using name-based mappings to increase
    hit rates", 1998; with weights: Schindelhauer and Schomaker, "Weighted distributed hash tables",
    2005). A replica whose weight is not known has weight 1.
    """
    found = (preferred(number, replicas, weights) for number in range(partitions))
    return {number for number, one in enumerate(found) if one == replica}


def preferred(partition: int, replicas: list[str], weights: Mapping[str, int] = EVEN) -> str | None:
    """Return the replica that should serve a partition; None when there is no replica."""

    def place(replica: str) -> tuple[float, bytes, str]:
        digest = blake2b(f"{partition}/{replica}".encode(), digest_size=8).digest()
        # In the order of the digests where all weights are the same, as without weights.
        part = (int.from_bytes(digest) + 1) / 2**64
        return weights.get(replica, 1) / -math.log(min(part, PART_MAX)), digest, replica

    weighted = [one for one in replicas if weights.get(one, 1)]
    return max(weighted or replicas, key=place, default=None)
