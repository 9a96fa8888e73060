"""The store in memory: the same contract without a server, for tests and simulation.

Not a cache and not for production: it lives and dies with its process. The conformance suite runs
on it and on real servers alike, so that what is proved here holds there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence

from fabric.config.settings import PARTITIONS
from fabric.core.limits import INCARNATIONS_SKIPPED_MAX
from fabric.errors import ExhaustedError, FencedError, UnseededError
from fabric.store.keys import INCARNATION_FLOOR, ORCHESTRATORS, Namespace
from fabric.store.keyspace import Keyspace, Stream
from fabric.store.port import (
    BEGINNING,
    INGRESS_BYTES_MAX,
    REBUILD_ENTRIES_MAX,
    Batch,
    Entry,
    Held,
    Lease,
    Rebuilt,
)
from fabric.store.value import (
    OUTAGES_MAX,
    check_entries,
    is_last,
    member_names,
    overloaded,
    parse_id,
    partition_count,
    read_outages,
    token_chance,
    token_epoch,
    whole_number,
)
from fabric.wire.worker import WorkerRecord, decode, encode

#: Memory that an entry takes besides its fields, bytes: as a server needs, roughly.
ENTRY_BYTES = 100


class MemoryStore:
    """WorkerStore and ClientStore in one process: `fabric.store.port` says what each method does.

    `clock_ms` is the server's time. Stores that share `data` are clients of one server.
    """

    #: Entries that one step of `rebuild` copies.
    rebuild_entries_max = REBUILD_ENTRIES_MAX
    ingress_bytes_max = INGRESS_BYTES_MAX

    def __init__(
        self, clock_ms: Callable[[], int], namespace: str = "fabric", data: Keyspace | None = None
    ) -> None:
        self.namespace = Namespace(namespace)
        self.data = data or Keyspace()
        self._clock_ms = clock_ms

    async def partitions(self, default: int | None = None) -> int:
        key = self.namespace.meta
        stored = self.data.hash(key).setdefault(b"partitions", b"%d" % (default or PARTITIONS))
        return partition_count(key, stored)

    async def beat(self, group: str, replica: str, ttl_ms: int) -> list[str]:
        now = self._clock_ms()
        live = self.data.sorted_set(self.namespace.replicas(group))
        for other in live:
            if live[other] > now + 3 * ttl_ms:  # the clock was put back
                live[other] = now + 3 * ttl_ms
        live[replica.encode()] = now + ttl_ms
        for gone in [name for name, expires in live.items() if expires <= now]:
            del live[gone]
        return sorted(name.decode() for name in live)

    async def workers(self, group: str) -> tuple[int, dict[str, WorkerRecord]]:
        stored = self.data.hash(self.namespace.workers(group))
        records = {name.decode(): decode(said) for name, said in stored.items()}
        return self._clock_ms(), {name: one for name, one in records.items() if one is not None}

    async def register(
        self, group: str, replica: str, record: WorkerRecord, gone: Sequence[str]
    ) -> None:
        stored = self.data.hash(self.namespace.workers(group))
        stored[replica.encode()] = encode(record)
        for name in gone:
            stored.pop(name.encode(), None)

    async def leave(self, group: str, replica: str, *, rests: bool = False) -> None:
        self.data.sorted_set(self.namespace.replicas(group)).pop(replica.encode(), None)
        if not rests:
            self.data.hash(self.namespace.workers(group)).pop(replica.encode(), None)

    async def acquire(
        self, partition: int, group: str, owner: str, nonce: str, ttl_ms: int, rules: str = ""
    ) -> Lease | Held:
        names = self.namespace.partition(partition)
        lease, now = self.data.hash(names.lease(group)), self._clock_ms()
        seeded = f"seeded:{group}:{partition}".encode()
        if b"epoch" in lease:
            remaining = int(lease.get(b"expires", b"0")) - now
            holder = lease.get(b"owner", b"").decode()
            if holder not in ("", owner) and remaining > 0:
                ttl = int(lease.get(b"ttl", remaining))
                if remaining > ttl:  # the clock was put back
                    remaining = ttl
                    lease[b"expires"] = b"%d" % (now + ttl)
                return Held(holder, int(lease[b"epoch"]), remaining)
            renewed = int(lease.get(b"expires", b"0")) - int(lease.get(b"ttl", b"0"))
            times = (renewed if b"ttl" in lease else 0, int(lease.get(b"served", b"0")))
            # A time ahead of now is from before the clock was put back.
            served = max((at for at in times if at <= now), default=0)
            if served > 0 and now - served > ttl_ms:
                known = [*lease.get(b"outages", b"").split(), b"%d:%d" % (served, now)]
                lease[b"outages"] = b" ".join(known[-OUTAGES_MAX:])
            epoch = int(lease[b"epoch"]) + 1
            if lease.get(b"server", self.data.server) != self.data.server:
                last = int(lease.get(b"token_epoch", b"0"))
                lease[b"token_epoch"] = b"%d" % token_epoch(last, now, token_chance(nonce))
        elif seeded in self.data.hash(self.namespace.meta):
            raise UnseededError(f"partition {partition}: {names.lease(group)} has lost its epoch")
        else:
            epoch = now
            self.data.hash(self.namespace.meta)[seeded] = b"%d" % epoch
        committed = lease.get(b"committed", BEGINNING)
        # An input that is no stream is met again, and reported, by the first commit.
        if self.data.kind(names.source(group)) in (None, "stream"):
            source = self.data.stream(names.source(group))
            if source.last < parse_id(committed):
                committed = BEGINNING
            source.groups.setdefault(group, committed)
        version, expires = int(lease.get(b"version", b"0")), now + ttl_ms
        before = lease.get(b"rules", b"").decode()
        lease |= {
            b"owner": owner.encode(), b"nonce": nonce.encode(), b"epoch": b"%d" % epoch,
            b"version": b"%d" % version, b"expires": b"%d" % expires, b"committed": committed,
            b"ttl": b"%d" % ttl_ms, b"rules": rules.encode(), b"server": self.data.server,
        }  # fmt: skip
        outages = read_outages(lease.get(b"outages", b""))
        taken = (epoch, version, committed, expires, now, outages, before)
        return Lease(partition, group, owner, nonce, *taken)

    async def renew(self, lease: Lease, ttl_ms: int) -> int:
        held = self._checked("renew", lease)
        if ttl_ms:
            held[b"expires"] = b"%d" % (self._clock_ms() + ttl_ms)
        else:
            held |= {b"owner": b"", b"nonce": b"", b"expires": b"0"}
            held[b"served"] = b"%d" % self._clock_ms()
        return self._clock_ms()

    async def release(self, lease: Lease) -> None:
        await self.renew(lease, 0)

    def _checked(self, verb: str, lease: Lease) -> dict[bytes, bytes]:
        held = self.data.hash(self.namespace.partition(lease.partition).lease(lease.group))
        where = f"{verb} on partition {lease.partition} under epoch {lease.epoch} refused"
        if b"epoch" not in held:
            raise UnseededError(f"{where}: the partition's epoch is gone from the server")
        holder, epoch = held[b"owner"].decode() or "nobody", int(held[b"epoch"])
        if held[b"nonce"] != lease.nonce.encode() or epoch != lease.epoch:
            raise FencedError(f"{where}: fenced; {holder} holds epoch {epoch}")
        if self._clock_ms() >= int(held[b"expires"]):
            raise FencedError(f"{where}: expired; {holder} holds epoch {epoch}")
        return held

    async def read(
        self, partition: int, group: str, after: bytes, count: int, block_ms: int
    ) -> list[Entry]:
        key = self.namespace.partition(partition).source(group)
        return (await self.read_streams({key: after}, count, block_ms)).get(key, [])

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        return [dict(self.data.peek(key, "hash") or {}) for key in keys]

    async def members(self, key: str, prefix: str, after: str, count: int) -> list[str]:
        first, beginning = after.encode(), prefix.encode()
        members = sorted(self.data.peek(key, "zset") or {})
        found = [name for name in members if name > first and name.startswith(beginning)]
        return member_names(key, found[:count])

    async def named(self, partition: int, prefix: str, count: int) -> list[str]:
        return [key for key in sorted(self.data.keys) if key.startswith(prefix)][:count]

    async def named_each(
        self, partition: int, prefixes: Mapping[str, str], count: int
    ) -> dict[str, list[str]]:
        return {
            session: await self.named(partition, prefix, count)
            for session, prefix in prefixes.items()
        }

    async def timers_of_each(
        self, partition: int, group: str, sessions: Collection[str]
    ) -> dict[str, list[bytes]]:
        timers = self.data.peek(self.namespace.partition(partition).timers(group), "zset") or {}
        return {
            name: [member for member in timers if member.startswith(f"{name}:".encode())]
            for name in sessions
        }

    async def least_recent(
        self, partition: int, count: int, kept: int
    ) -> tuple[list[tuple[str, int]], int]:
        known = self.data.peek(self.namespace.partition(partition).sessions, "zset") or {}
        ordered = sorted((active_ms, name) for name, active_ms in known.items())
        found = [(name.decode("utf-8", "replace"), ms) for ms, name in ordered[:count]]
        return found, max(0, min(count, len(known) - kept))

    async def due(
        self, partition: int, group: str, now_ms: int, count: int
    ) -> list[tuple[bytes, int]]:
        timers = self.data.peek(self.namespace.partition(partition).timers(group), "zset") or {}
        ordered = sorted((due, key) for key, due in timers.items() if due <= now_ms)
        return [(key, due) for due, key in ordered[:count]]

    async def commit(
        self, lease: Lease, version: int, batch: Batch, upto: bytes, ttl_ms: int, *, drained: bool
    ) -> int:
        held = self._checked("commit", lease)
        if int(held[b"version"]) != version:
            raise FencedError(
                f"commit on partition {lease.partition} under epoch {lease.epoch} refused: "
                f"another commit came first (version {int(held[b'version'])})"
            )
        key = self.namespace.partition(lease.partition).source(lease.group)
        inputs = self.data.check_batch(batch, key)
        self.data.apply(batch, self._clock_ms(), inputs)
        if upto:
            source = self.data.stream(key)
            source.groups[lease.group] = upto
            held[b"committed"] = upto
            source.trim(parse_id(upto))
        held[b"version"] = b"%d" % (version + 1)
        held[b"expires"] = b"%d" % (self._clock_ms() + ttl_ms)
        return self._clock_ms()

    async def exhausted(self, partition: int) -> str | None:
        names = self.namespace.partition(partition)
        for key in (names.signals, names.results, names.dead):
            stream = self.data.peek(key, "stream") if self.data.kind(key) == "stream" else None
            if stream is not None and is_last(b"%d-%d" % stream.last):
                return key
        return None

    async def rebuild(self, lease: Lease, key: str, place: bytes, ttl_ms: int) -> Rebuilt:
        held, now = self._checked("rebuild", lease), self._clock_ms()
        names = self.namespace.partition(lease.partition)
        (bound_key, field), reader = names.bound(key), names.reader(key)
        bound = self.data.hash(bound_key).get(field.encode(), b"0") if field else b"0"
        after, count, began = place.split() if place else (b"", b"0", b"")
        if began != bound:
            self.data.keys.pop(names.copy(key), None)
            after, count = bound if reader else b"0", b"0"
        old, copy = self.data.peek(key, "stream") or Stream(), self.data.stream(names.copy(key))
        last = b"+" if reader or not field else bound
        wanted = old.between(b"(" + after, last)
        for after, fields in wanted[: self.rebuild_entries_max]:
            is_ahead = last == b"+" and parse_id(after)[0] > now
            copy.append(b"*" if is_ahead else after, fields, now)
        held[b"expires"] = b"%d" % (now + ttl_ms)
        copied = int(count) + len(wanted[: self.rebuild_entries_max])
        if len(wanted) >= self.rebuild_entries_max:
            return Rebuilt(now, copied, b"%s %d %s" % (after, copied, bound))
        if key in self.data.keys:
            self.data.keys[names.aside(key)] = self.data.keys.pop(key)
        made = self.data.keys.pop(names.copy(key))
        if copied or reader:
            self.data.keys[key] = made
        if reader:
            copy.groups[reader] = BEGINNING
            other = self.data.hash(bound_key)
            if b"epoch" in other:
                other[b"committed"] = BEGINNING
                if bound_key != names.lease(lease.group):
                    other |= {b"owner": b"", b"nonce": b"", b"expires": b"0"}
                    other[b"served"] = b"%d" % now
        self.data.wake()
        return Rebuilt(now, copied, None)

    async def now_ms(self, at: str | None = None) -> int:
        return self._clock_ms()

    async def emit(
        self,
        partition: int,
        entries: Sequence[Sequence[bytes]],
        ingress_max: int,
        group: str = ORCHESTRATORS,
        *,
        connection: int | None = None,
    ) -> list[bytes]:
        check_entries(entries)
        key = self.namespace.partition(partition).source(group)
        source = self.data.stream(key)
        held = len(source)
        if held >= ingress_max:
            raise overloaded(key, held, ingress_max, 0, self.ingress_bytes_max)
        size = sum(len(item) for entry in entries for item in entry)
        if size >= 16_384 or held % 16 == 0:
            used = sum(ENTRY_BYTES + sum(map(len, fields)) for fields in source.fields)
            if held and used + size > self.ingress_bytes_max:
                raise overloaded(key, held, ingress_max, used, self.ingress_bytes_max)
        ids: list[bytes] = []
        try:
            for entry in entries:
                ids.append(source.append(b"*", list(entry), self._clock_ms()))
        except ExhaustedError:
            source.delete(set(map(parse_id, ids)))
            raise ExhaustedError(key) from None
        self.data.wake([key])
        return ids

    def connection(self, partition: int) -> int:
        return 0

    async def occupy(self, key: str, number: int, session: str, now_ms: int) -> None:
        stream = self.data.stream(key)
        fields = [b"session", session.encode(), b"ms", b"%d" % now_ms]
        added = stream.append(b"%d-1" % number, fields, now_ms)
        stream.delete(set(stream.ids) - {parse_id(added)})

    async def confirm(self, lease: str) -> None:
        """There are no replicas."""

    async def enroll(self, partition: int, session: str, agent: str) -> int:
        own = self.namespace.partition(partition)
        names, lease = own.session(session), self.data.peek(own.lease(ORCHESTRATORS), "hash")
        handed = self.data.hash(names.incarnations)
        tables = (self.data.peek(key, "hash") or {} for key in (names.agents, names.retired))
        present = max(_present(table.get(agent.encode(), b"{}")) for table in tables)
        last = whole_number(handed.get(agent.encode())) or 0
        if not last and not present:
            last = whole_number((lease or {}).get(INCARNATION_FLOOR.encode())) or 0
        if not present <= last <= present + INCARNATIONS_SKIPPED_MAX:
            last = present
        incarnation = last + 1
        handed[agent.encode()] = b"%d" % incarnation
        return incarnation

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        """A block ends with any write, or after `block_ms` of real time."""
        for waited in (False, True):
            found = {}
            for key, entry_id in after.items():
                if entries := self._stream(key).after(parse_id(entry_id), count):
                    found[key] = entries
            if found or waited or not block_ms:
                break
            await self.data.change(block_ms)
        return found

    async def entries(
        self, key: str, first: bytes, last: bytes, count: int, *, newest_first: bool = False
    ) -> list[Entry]:
        found = self._stream(key).between(first, last)
        return (found[::-1] if newest_first else found)[:count]

    async def fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        stored = self.data.peek(key, "hash") or {}
        return [stored.get(name.encode()) for name in names]

    async def scan(self, key: str, count: int) -> AsyncGenerator[dict[bytes, bytes], None]:
        """Pages follow the names, so that what changes meanwhile moves nothing."""
        after = None
        while True:
            stored = self.data.peek(key, "hash") or {}
            left = sorted(name for name in stored if after is None or name > after)
            yield {name: stored[name] for name in left[:count]}
            if len(left) <= count:
                return
            after = left[count - 1]

    async def set_cursor(self, key: str, agent: str, entry_id: bytes) -> None:
        self.data.hash(key)[agent.encode()] = entry_id

    async def scores(self, key: str) -> list[tuple[bytes, int]]:
        stored = self.data.peek(key, "zset") or {}
        return sorted(stored.items(), key=lambda item: item[::-1], reverse=True)

    async def length(self, key: str) -> int:
        return len(self._stream(key))

    async def delete_entries(self, key: str, ids: Sequence[bytes]) -> int:
        return self._stream(key).delete({parse_id(entry_id) for entry_id in ids})

    def _stream(self, key: str) -> Stream:
        """Return a stream, an empty one for a key that is not there."""
        return self.data.peek(key, "stream") or Stream()

    async def close(self) -> None:
        """Nothing to close."""


def _present(record: bytes) -> int:
    """Return the incarnation that an agent's record tells; 0 when somebody has spoilt it."""
    try:
        return int(json.loads(record)["incarnation"])
    except (ValueError, TypeError, LookupError):
        return 0
