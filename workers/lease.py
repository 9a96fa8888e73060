"""Holding a partition's lease: renewing it well before it ends, and giving it up."""

from __future__ import annotations

import asyncio
import logging

from fabric.errors import FencedError, NotAllowedError, ServerError, UnreachableError
from fabric.store.port import Lease, WorkerStore

logger = logging.getLogger("fabric.lease")

#: A lease is renewed after this share of its time, so two renewals may fail before it ends.
RENEW_AFTER = 1 / 3


class HeldLease:
    """A lease as its holder sees it: the version of the next commit, and the server's time.

    Every commit renews the lease, so `keep` sends a renewal only when there are no commits.
    """

    def __init__(self, store: WorkerStore, lease: Lease, ttl_ms: int) -> None:
        self.store = store
        self.lease = lease
        self.ttl_ms = ttl_ms
        self.version = lease.version
        self.committed = lease.committed
        #: Set when the lease is known to be lost: stop reading then.
        self.lost = asyncio.Event()
        self._offset_ms = lease.now_ms - _monotonic_ms()
        self._renewed_ms = _monotonic_ms()

    def now_ms(self) -> int:
        """Return the server's time in ms: its last answer, and our own clock since."""
        return _monotonic_ms() + self._offset_ms

    def is_over(self) -> bool:
        """Whether the lease has run out, by our own clock."""
        return _monotonic_ms() >= self._renewed_ms + self.ttl_ms

    def renewed(self, server_ms: int) -> None:
        """Note that the server has just extended the lease."""
        self._renewed_ms = _monotonic_ms()
        self._offset_ms = server_ms - self._renewed_ms

    async def keep(self) -> None:
        """Renew until cancelled, or until the lease is lost."""
        pause_ms = self.ttl_ms * RENEW_AFTER
        while True:
            due_ms = self._renewed_ms + pause_ms - _monotonic_ms()
            if due_ms > 0:
                await asyncio.sleep(due_ms / 1000)
                continue
            try:
                self.renewed(await self.store.renew(self.lease, self.ttl_ms))
            except UnreachableError as error:
                logger.warning("partition %d: renewal: %s", self.lease.partition, error)
                await asyncio.sleep(pause_ms / 4 / 1000)
            except (ServerError, NotAllowedError) as error:
                logger.warning("partition %d: lease lost: %s", self.lease.partition, error)
                self.lost.set()
                return

    async def give_up(self) -> None:
        """Release the lease if it is still ours, so that another replica can take it at once."""
        try:
            await self.store.release(self.lease)
        except FencedError:
            pass
        except (ServerError, NotAllowedError) as error:
            logger.warning("partition %d: release: %s", self.lease.partition, error)


def _monotonic_ms() -> int:
    # The event loop's clock, as its timers use: in a simulation it is not the machine's.
    return int(asyncio.get_running_loop().time() * 1000)
