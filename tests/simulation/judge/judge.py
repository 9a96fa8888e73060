"""The interface of a judge: it sees leases taken, entries emitted and commits applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fabric.store.keys import Namespace
from fabric.store.keyspace import writes
from fabric.store.port import Batch, Entry, Held, Lease
from fabric.wire.stored import pairs_of

NAMESPACE = Namespace()


class Violation(Exception):  # noqa: N818 - it is what was found, and no error of the simulation
    """An invariant is broken: `invariant` is its name; the text says where."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


@dataclass
class Commit:
    """A commit that the server has applied.

    `consumed` are the input entries that it acknowledges; `left` and `left_after` count the input
    entries after those, before and after the commit.
    """

    lease: Lease
    version: int
    batch: Batch
    upto: bytes
    now_ms: int
    expires_ms: int
    consumed: list[Entry]
    left: int
    left_after: int
    #: Input entries after those decided, in a commit of timers only.
    waiting: list[Entry] = field(default_factory=list)
    #: Appended entries: key, id, fields by name. In order.
    appended: list[tuple[str, bytes, dict[bytes, bytes]]] = field(default_factory=list)
    #: Other writes: verb, key, arguments.
    written: list[tuple[str, str, list[bytes]]] = field(default_factory=list)

    #: Changes of hashes by the last part of their key. See `hashes`.
    _changes: dict[str, list[tuple[str, dict[str, bytes | None]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        copied = self.batch.copied
        if copied and copied != [entry_id for entry_id, _ in self.consumed]:
            raise Violation("a commit copies what was decided", f"{self.lease.partition}: {copied}")
        for verb, key, arguments in writes(self.batch, self.consumed):
            if verb == "XADD":
                pairs = zip(arguments[1::2], arguments[2::2], strict=True)
                self.appended.append((key, arguments[0], dict(pairs)))
            else:
                self.written.append((verb, key, arguments))
        prefix = f"{NAMESPACE.partition(self.lease.partition).prefix}:"
        for verb, key, arguments in self.written:
            if verb in ("HSET", "HDEL"):
                session, _, name = key.removeprefix(prefix).partition(":")
                changes: dict[str, bytes | None] = (
                    {field.decode(): value for field, value in pairs_of(arguments)}
                    if verb == "HSET"
                    else {field.decode(): None for field in arguments}
                )
                self._changes.setdefault(name, []).append((session, changes))

    @property
    def partition(self) -> tuple[int, str]:
        """Return the partition and the group of workers."""
        return self.lease.partition, self.lease.group

    def hashes(self, suffix: str) -> Sequence[tuple[str, dict[str, bytes | None]]]:
        """Return the changes of each session's hash of one name: session, field → value or None.

        Fields come in the order in which they are written.
        """
        return self._changes.get(suffix, ())


class Judge:
    """Checks events; raises Violation. Its state can be copied, for a failover."""

    def acquired(self, lease: Lease, now_ms: int) -> None:
        """Check a lease that was granted."""

    def held(self, by: Held, partition: int, group: str, ttl_ms: int, now_ms: int) -> None:
        """Check the answer to a replica that asks for a lease that another holds, for `ttl_ms`."""

    def beaten(self, group: str, replica: str, live: list[str], ttl_ms: int, true_s: float) -> None:
        """Check the replicas that count as alive when one reports itself, at a real time."""

    def renewed(self, lease: Lease, expires_ms: int, now_ms: int) -> None:
        """Check a lease that was extended, or given up (0)."""

    def emitted(self, key: str, ids: Sequence[bytes], length: int) -> None:
        """Check new entries of a stream that workers read."""

    def was_read(self, cursors: str, agent: str, entry_id: bytes) -> None:
        """Note which messages an agent has read: the id of the last one in its inbox."""

    def deleted(self, fields: list[bytes]) -> None:
        """Somebody has deleted an input entry: it is decided only if a worker has read it."""

    def committed(self, commit: Commit) -> None:
        """Check a commit."""

    def forget(self, session: str) -> None:
        """Forget a session that was deleted: what comes under its name is another one."""
        for kept in vars(self).values():
            if isinstance(kept, dict | set):
                for key in [one for one in kept if _names(one, session)]:
                    kept.pop(key) if isinstance(kept, dict) else kept.discard(key)

    def replaced(self, key: str, counted: list[list[bytes]], found: list[list[bytes]]) -> None:
        """Check a stream that a worker has replaced: what counted in it, and what it has now."""

    def went_back(self) -> None:
        """Note that the server went back to an earlier state."""

    def lost(self, partition: int, group: str) -> None:
        """Note that a partition's epoch was lost."""

    def reseeded(self, partition: int, group: str) -> None:
        """Note that a partition has an epoch again."""


def _names(key: object, session: str) -> bool:
    """Whether a key of a judge's notes names a session: alone, with others, or as a key's part."""
    if isinstance(key, tuple):
        return any(_names(part, session) for part in key)
    if isinstance(key, bytes):
        return key == session.encode()
    return isinstance(key, str) and (key == session or f":{session}:" in key)
