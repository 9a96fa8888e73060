"""One writer a partition: leases do not overlap, epochs rise, versions have no gap."""

from __future__ import annotations

from dataclasses import dataclass

from fabric.store.port import Lease
from tests.simulation.judge.judge import Commit, Judge, Violation


@dataclass
class _Held:
    owner: str
    nonce: str
    epoch: int
    version: int
    expires_ms: int


class Leases(Judge):
    """Follows every lease by what the server has answered."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], _Held] = {}

    def acquired(self, lease: Lease, now_ms: int) -> None:
        """See Judge."""
        where = lease.partition, lease.group
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

    def renewed(self, lease: Lease, expires_ms: int) -> None:
        """See Judge."""
        held = self._check("renewed", lease)
        held.expires_ms = expires_ms

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
        held.version += 1
        held.expires_ms = commit.expires_ms

    def reseeded(self, partition: int, group: str) -> None:
        """See Judge."""
        held = self._held.pop((partition, group), None)
        if held is not None:
            # What comes next must lie above all that was handed out before.
            self._held[partition, group] = _Held("", "", held.epoch, 0, 0)

    def _check(self, what: str, lease: Lease) -> _Held:
        held = self._held[lease.partition, lease.group]
        if (held.nonce, held.epoch) != (lease.nonce, lease.epoch):
            raise Violation(
                "no commit by a stale epoch",
                f"{lease.owner} {what} under epoch {lease.epoch}, {held.owner} has {held.epoch}",
            )
        return held
