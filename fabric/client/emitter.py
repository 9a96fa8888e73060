"""Getting signals into the ingress: in order, retried, held back while it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from fabric.backoff import Backoff
from fabric.errors import OverloadedError, UnavailableError, UnreachableError
from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import ClientStore

T = TypeVar("T")

#: Ceilings of the first and of the longest pause before a signal is sent again, ms.
RETRY_FIRST_MS = 20
RETRY_LONGEST_MS = 1_000


class WhenFull(StrEnum):
    """What an emitter wants while the ingress is over its limit."""

    WAIT = "wait"
    RAISE = "raise"


class Emitter:
    """One emitter's way into one partition: what is sent first arrives first.

    `limit_ms` bounds how long a signal is tried, over reconnects and back-pressure.
    """

    def __init__(
        self,
        store: ClientStore,
        partition: int,
        *,
        ingress_max: int,
        when_full: WhenFull = WhenFull.WAIT,
        limit_ms: int,
    ) -> None:
        self._store = store
        self._partition = partition
        self._ingress_max = ingress_max
        self._when_full = when_full
        self._limit_ms = limit_ms

    async def send(
        self,
        entries: Sequence[Sequence[bytes]],
        *,
        numbered: bool = True,
        group: str = ORCHESTRATORS,
    ) -> list[bytes]:
        """Append entries to what a group of workers reads, and return their ids.

        Numbered signals are sent again when a reply is lost: the core drops what it has seen. For
        others UnreachableError is raised then, since they may have arrived; or UnavailableError,
        when they have, but on too few replicas. Raises OverloadedError when the ingress is full, at
        once or after the time limit, as chosen.
        """
        return await self.retry(
            lambda: self._store.emit(self._partition, entries, self._ingress_max, group),
            repeatable=numbered,
        )

    async def retry(self, call: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
        """Make a call until it works, for at most the time limit; then raise its error.

        One that is not `repeatable` is not made again when it may have taken effect.
        """
        backoff = Backoff(RETRY_FIRST_MS, RETRY_LONGEST_MS)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limit_ms / 1000
        while True:
            pause_s = backoff.next_s()
            try:
                return await call()
            except OverloadedError:
                if self._when_full is WhenFull.RAISE or loop.time() + pause_s > deadline:
                    raise
            except UnreachableError as error:
                if not repeatable and not error.never_sent:
                    raise
                if loop.time() + pause_s > deadline:
                    raise
            except UnavailableError as error:
                if not repeatable and error.took_effect:
                    raise
                if loop.time() + pause_s > deadline:
                    raise
            await asyncio.sleep(pause_s)
