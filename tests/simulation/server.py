"""The simulated server: keys in memory, a clock, blocking readers, and its faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from fabric.errors import FabricError, UnavailableError, UnreachableError
from fabric.store.keys import Namespace
from fabric.store.keyspace import Keyspace, Stream
from fabric.store.port import BEGINNING, Entry
from fabric.store.redis import TAKE_OVERS_MAX
from fabric.store.value import parse_id
from tests.simulation.timeline import Timeline

#: The server's time at the start of a run, ms: 2025-12-30T19:30:00Z.
START_MS = 1_767_123_000_000

#: Error replies of a server that can be read.
UNWRITABLE = ("READONLY", "OOM", "NOREPLICAS")


@dataclass(eq=False)
class Reader:
    """A client that waits for entries of streams until a time."""

    after: dict[str, bytes]
    count: int
    deliver: Callable[[dict[str, list[Entry]]], None]
    fail: Callable[[FabricError], None]


class SimulatedServer(Keyspace):
    """The server's keys and its state. `skew_ms`: offset of its clock."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.skew_ms = 0
        self.server = b"1"
        self.is_down = False
        #: The error reply with which it refuses everything, or all that writes; "" for none.
        self.refusal = ""
        self._timeline = timeline
        #: Blocking reader → the streams that it waits for, each with the place after which.
        self._readers: dict[Reader, list[tuple[str, tuple[int, int]]]] = {}
        #: Stream → the readers that wait for it, by their turn: the order in which they came.
        self._turns: defaultdict[str, dict[Reader, int]] = defaultdict(dict)
        self._turn = count()
        #: Called when the server goes down: unanswered requests are lost.
        self.on_down: list[Callable[[], object]] = []

    def clock_ms(self) -> int:
        """Return the server's time, ms since the epoch."""
        return START_MS + int(self._timeline.now_s * 1000) + self.skew_ms

    def true_s(self) -> float:
        """Return the real time, whatever its clock says, s."""
        return self._timeline.now_s

    def check(self, *, is_write: bool) -> None:
        """Raise the error that a request gets now, if any."""
        if self.is_down:
            raise UnreachableError("server: connection failed (simulated)")
        if self.refusal and (is_write or self.refusal not in UNWRITABLE):
            raise UnavailableError(f"server: {self.refusal} (simulated)")

    def block(self, reader: Reader) -> None:
        """Add a blocking reader."""
        self._readers[reader] = [(key, parse_id(place)) for key, place in reader.after.items()]
        turn = next(self._turn)
        for key in reader.after:
            self._turns[key][reader] = turn

    def unblock(self, reader: Reader) -> bool:
        """Remove a blocking reader; return False if it is already gone."""
        for key in reader.after:
            self._turns[key].pop(reader, None)
        return self._readers.pop(reader, None) is not None

    def found(self, after: dict[str, bytes], count: int) -> dict[str, list[Entry]]:
        """Return the entries of streams after some ids."""
        found = {}
        for key, place in after.items():
            stream = self.peek(key, "stream")
            if stream is not None and stream.ids and stream.ids[-1] > parse_id(place):
                found[key] = stream.after(parse_id(place), count)
        return found

    def wake(self, keys: Iterable[str] | None = None) -> None:
        """Answer the blocking readers that have entries now: those of some keys, or all."""
        turns = {reader: turn for key in keys or () for reader, turn in self._turns[key].items()}
        woken = list(self._readers) if keys is None else sorted(turns, key=turns.__getitem__)
        for reader in woken:
            places = self._readers.get(reader, [])
            # There may be thousands: most of them have nothing to read.
            held = [(self.keys.get(key), place) for key, place in places]
            if not any(one and (one[0] != "stream" or one[1].ids[-1:] > [at]) for one, at in held):
                continue
            try:
                found = self.found(reader.after, reader.count)
            except FabricError as error:
                if self.unblock(reader):
                    reader.fail(error)
                continue
            if found and self.unblock(reader):
                reader.deliver(found)

    def go_down(self) -> None:
        """Go down as by SIGKILL: no waiting client gets a reply."""
        self.is_down = True
        self.server = b"%d" % (int(self.server) + 1)
        readers, self._readers = [*self._readers], {}
        self._turns.clear()
        for reader in readers:
            reader.fail(UnreachableError("server: connection failed (simulated)"))
        for told in self.on_down:
            told()

    def copy(self) -> dict[str, tuple[str, object]]:
        """Return a copy of all keys, as a replica or an append-only file has them."""
        return {key: (kind, _copied(value)) for key, (kind, value) in self.keys.items()}

    def restore(self, copied: dict[str, tuple[str, object]]) -> None:
        """Replace all keys by a copy."""
        self.keys = {key: (kind, _copied(value)) for key, (kind, value) in copied.items()}

    def lose_epoch(self, namespace: Namespace, partition: int, group: str) -> bool:
        """Remove a partition's lease, as a failover can; return False if there was none."""
        return self.keys.pop(namespace.partition(partition).lease(group), None) is not None

    def reseed(self, namespace: Namespace, partition: int, group: str) -> None:
        """Give a partition a new epoch, as `RedisStore.reseed` does."""
        names = namespace.partition(partition)
        lease = self.hash(names.lease(group))
        if b"epoch" in lease:
            return
        source = self.peek(names.source(group), "stream")
        committed = source.groups.get(group, BEGINNING) if source is not None else BEGINNING
        meta, seeded = self.hash(namespace.meta), f"seeded:{group}:{partition}".encode()
        remembered = int(meta.get(seeded, b"0"))
        epoch = max(self.clock_ms(), remembered + TAKE_OVERS_MAX if remembered else 0)
        meta[seeded] = b"%d" % epoch
        lease |= {
            b"owner": b"", b"nonce": b"", b"epoch": b"%d" % epoch, b"expires": b"0",
            b"version": b"0", b"committed": committed, b"server": b"another",
        }  # fmt: skip

    def destroy_group(self, namespace: Namespace, partition: int, group: str) -> None:
        """XGROUP DESTROY."""
        stream = self.peek(namespace.partition(partition).source(group), "stream")
        if stream is not None:
            stream.groups.pop(group, None)


def _copied(value: object) -> object:
    if isinstance(value, Stream):
        twin = Stream()
        twin.ids, twin.fields = list(value.ids), list(value.fields)
        twin.last, twin.groups = value.last, dict(value.groups)
        return twin
    return dict(value) if isinstance(value, dict) else value
