"""One writer a partition: leases do not overlap, epochs rise, versions have no gap."""

from __future__ import annotations

from dataclasses import dataclass

from fabric.store.keys import SYNTHESIZERS
from fabric.store.port import Held, Lease
from fabric.store.value import parse_id
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: Leases for which a dead replica may count as alive, and extra seconds: its own lease, three for
#: each time that the clock is put back, and the pauses of the replicas that look.
LEASES_MAX, PAUSES_S = 10, 30.0


@dataclass
class _Held:
    owner: str
    nonce: str
    epoch: int
    version: int
    expires_ms: int


class Leases(Judge):
    """Follows every lease by the server's answers."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], _Held] = {}
        self._lost: set[tuple[int, str]] = set()
        #: Id of the last input that was decided.
        self._upto: dict[tuple[int, str], tuple[int, int]] = {}
        #: Group and replica → when another last counted it as alive, and for how long others have
        #: since its last report, s.
        self._silent_s: dict[tuple[str, str], tuple[float, float]] = {}

    def acquired(self, lease: Lease, now_ms: int) -> None:
        """See Judge."""
        where = lease.partition, lease.group
        if where in self._lost:
            raise Violation("what has lost its epoch stands still", f"{where}: {lease.owner}")
        before = self._held.get(where)
        if before is not None:
            if lease.epoch <= before.epoch:
                raise Violation("epochs rise", f"{where}: {lease.epoch} after {before.epoch}")
            if now_ms < before.expires_ms and before.owner != lease.owner:
                raise Violation(
                    "one writer",
                    f"{where}: {lease.owner} got it while {before.owner} had it for another "
                    f"{before.expires_ms - now_ms} ms",
                )
            if lease.version != before.version:
                raise Violation(
                    "versions have no gap", f"{where}: {lease.version}, not {before.version}"
                )
        self._held[where] = _Held(
            lease.owner, lease.nonce, lease.epoch, lease.version, lease.expires_ms
        )

    def held(self, by: Held, partition: int, group: str, ttl_ms: int, now_ms: int) -> None:
        """See Judge. All replicas of a run take leases of the same duration."""
        if by.remaining_ms > ttl_ms:
            raise Violation("a lease is no longer than it was taken for", f"{by} of {ttl_ms} ms")
        before = self._held.get((partition, group))
        if before is not None and before.expires_ms - now_ms > ttl_ms:
            before.expires_ms = now_ms + by.remaining_ms  # the clock was put back

    def beaten(self, group: str, replica: str, live: list[str], ttl_ms: int, true_s: float) -> None:
        """See Judge."""
        self._silent_s.pop((group, replica), None)
        for other in live:
            if other == replica:
                continue
            before_s, silent_s = self._silent_s.get((group, other), (true_s, 0.0))
            # While all replicas sleep, nobody looks: that time says nothing of how they count.
            silent_s += min(true_s - before_s, PAUSES_S)
            self._silent_s[group, other] = true_s, silent_s
            if silent_s > LEASES_MAX * ttl_ms / 1000 + PAUSES_S:
                raise Violation("the dead are not counted", f"{group}: {other}, {silent_s:.0f} s")

    def renewed(self, lease: Lease, expires_ms: int, now_ms: int) -> None:
        """See Judge."""
        held = self._check("renewed", lease)
        held.expires_ms = expires_ms

    def replaced(self, key: str, counted: list[list[bytes]], found: list[list[bytes]]) -> None:
        """See Judge. The orchestrator frees the lease of those who read `results`."""
        for (partition, group), held in self._held.items():
            if key == NAMESPACE.partition(partition).source(group):
                self._upto.pop((partition, group), None)
            if group == SYNTHESIZERS and key == NAMESPACE.partition(partition).results:
                held.nonce, held.expires_ms = "", 0

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        held = self._check("committed", commit.lease)
        if commit.now_ms >= held.expires_ms:
            raise Violation(
                "no commit after the lease",
                f"{commit.partition}: {held.owner}, {commit.now_ms - held.expires_ms} ms late",
            )
        if commit.version != held.version:
            raise Violation(
                "versions have no gap",
                f"{commit.partition}: built on {commit.version}, {held.version} is there",
            )
        if commit.upto:
            upto, last = parse_id(commit.upto), self._upto.get(commit.partition, (0, 0))
            if upto < last or (commit.consumed and upto == last):
                raise Violation("nothing is decided twice", f"{commit.partition}: {upto}, {last}")
            self._upto[commit.partition] = upto
        held.version += 1
        held.expires_ms = commit.expires_ms

    def lost(self, partition: int, group: str) -> None:
        """See Judge."""
        self._lost.add((partition, group))
        held = self._held.pop((partition, group), None)
        if held is not None:
            # The next epoch must be above every earlier one.
            self._held[partition, group] = _Held("", "", held.epoch, 0, 0)

    def reseeded(self, partition: int, group: str) -> None:
        """See Judge."""
        self._lost.discard((partition, group))

    def _check(self, what: str, lease: Lease) -> _Held:
        held = self._held[lease.partition, lease.group]
        if (held.nonce, held.epoch) != (lease.nonce, lease.epoch):
            raise Violation(
                "no commit by a stale epoch",
                f"{lease.owner} {what} under epoch {lease.epoch}, {held.owner} has {held.epoch}",
            )
        return held
