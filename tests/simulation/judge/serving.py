"""While one worker has a healthy link, signals are decided soon: sick ones leave it their work.

A worker may need some leases to find that its link is sick, or to take over. So this looks only
when nothing else has happened to workers and server for some time.
"""

from __future__ import annotations

from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import BEGINNING
from fabric.store.value import parse_id
from fabric.testing.store import MemoryStore
from tests.simulation.judge.judge import NAMESPACE, Violation

#: Seconds between two looks.
LOOK_S = 1.0

#: So many leases after a fault, and after a link became sick, a healthy worker serves.
GRACE_LEASES = 30

#: Longest time until the decision then, ms: batches of one signal, and a cache of one session.
LATE_MS = 10_000


class Serving:
    """Looks for signals that wait though somebody could decide them."""

    def __init__(self, lease_ms: int) -> None:
        self._grace_s = GRACE_LEASES * lease_ms / 1000
        self._calm_s = 0.0
        self.looks = 0

    def disturbed(self, until_s: float) -> None:
        """Note that something happens to a worker or to the server, until a time."""
        self._calm_s = max(self._calm_s, until_s)

    def look(self, store: MemoryStore, partitions: int, now_s: float, clock_ms: int) -> None:
        """Check that nothing waits for long, while a worker is healthy. Raises Violation."""
        if now_s < self._calm_s + self._grace_s:
            return
        self.looks += 1
        for partition in range(partitions):
            oldest_ms = oldest(store, partition)
            if oldest_ms is not None and clock_ms - oldest_ms > LATE_MS:
                raise Violation(
                    "somebody healthy serves",
                    f"{partition}: a signal waits for {clock_ms - oldest_ms} ms at {now_s:.0f} s",
                )


def oldest(store: MemoryStore, partition: int) -> int | None:
    """Return when the first signal was sent that is not decided, ms; None if all are."""
    names = NAMESPACE.partition(partition)
    stream = store.data.peek(names.signals, "stream")
    if stream is None or not stream.ids:
        return None
    lease = store.data.peek(names.lease(ORCHESTRATORS), "hash") or {}
    done = parse_id(lease.get(b"committed", BEGINNING))
    if stream.ids[-1] <= done:
        return None
    return int(next(entry_id for entry_id in stream.ids if entry_id > done)[0])
