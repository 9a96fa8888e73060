"""The store on a Redis or Valkey server, for workers and for clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fabric.core.limits import INCARNATIONS_SKIPPED_MAX
from fabric.errors import (
    ExhaustedError,
    NotAllowedError,
    UnseededError,
    UnsupportedServerError,
)
from fabric.store import commit, permission, scripts, value
from fabric.store.channels import BEATS, EMITS, FOLLOWS, Channels
from fabric.store.connection import Caller, Channel, DeniedError, OnConnection
from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import (
    ASIDE_MS,
    INGRESS_BYTES_MAX,
    REBUILD_BYTES_MAX,
    REBUILD_ENTRIES_MAX,
    SCAN_COUNT,
    Batch,
    Entry,
    Held,
    Lease,
    Rebuilt,
)
from fabric.store.read_size import ReadSize
from fabric.wire.stored import fields_of, pairs_of
from fabric.wire.worker import WorkerRecord, decode, encode

#: How long the note of a session that works in a copy of the files is kept, ms: 30 days after its
#: last claim there. Fleets make worktrees, and delete them.
WORKSPACE_MS = 2_592_000_000

#: Layout of the keys. A namespace written by another layout is not touched.
SCHEMA = "1"

#: Most times that a partition can change hands between two epochs that `meta` remembers: the first,
#: or one set by `reseed`. Each change raises the epoch by one, in the lease alone.
TAKE_OVERS_MAX = 1_000_000_000


#: Entries and bytes of one reply when a client reads streams. The server closes a connection for
#: which more is waiting (client-output-buffer-limit), and a slow link takes its time.
READ_COUNT_MAX = 500
READ_BYTES_MAX = 8_388_608


class RedisStore(Channels):
    """WorkerStore and ClientStore on one server, on a primary with replicas, or on a cluster.

    The two describe the methods. Lua scripts do what has to be done as a whole.
    """

    ingress_bytes_max = INGRESS_BYTES_MAX

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Keys on which a group's commands were tried: nothing was refused since.
        self._tried: set[str] = set()
        self._size = ReadSize(READ_COUNT_MAX, READ_BYTES_MAX)

    async def partitions(self, default: int | None = None) -> int:
        key = self.namespace.meta
        channel = self._channel(at=key)
        stored, schema = await channel.call("HMGET", key, "partitions", "schema")
        if stored is None:
            await channel.call("HSETNX", key, "schema", SCHEMA)
            count = default or await self.partitions_default()
            await channel.call("HSETNX", key, "partitions", count)
            stored, schema = await channel.call("HMGET", key, "partitions", "schema")
        if schema not in (None, SCHEMA.encode()):
            raise UnsupportedServerError(
                f"namespace {self.namespace.name} has keys of layout {schema[:20]!r}, this version "
                f"knows {SCHEMA!r}: use the version that wrote it, or another namespace"
            )
        return value.partition_count(key, stored)

    async def require(self, group: str, key: str | None = None) -> None:
        """Check that the user may run every command that a group's workers send.

        On a key of the server in question, by default that of `beat`; once, until a lease is taken.
        Raises DeniedError, which names all that are refused.
        """
        key = key or self.namespace.replicas(group)
        if key in self._tried:
            return
        own = () if group == ORCHESTRATORS else permission.SYNTHESIZERS
        try:
            await permission.require(self._channel(at=key).call, key, (*permission.WORKERS, *own))
        except DeniedError:
            self._tried.clear()  # so that a replica that cannot work stops to say that it lives
            raise
        self._tried.add(key)

    async def beat(self, group: str, replica: str, ttl_ms: int) -> list[str]:
        key = self.namespace.replicas(group)
        await self.require(group)
        alive = await scripts.run(self._channel(at=key), "beat", (key,), (replica, ttl_ms))
        return sorted(name.decode() for name in alive)

    async def workers(self, group: str) -> tuple[int, dict[str, WorkerRecord]]:
        key = self.namespace.workers(group)
        now_ms = await self.now_ms(key)
        (stored,) = await self.hashes([key])
        records = {name.decode("utf-8", "replace"): decode(said) for name, said in stored.items()}
        return now_ms, {name: record for name, record in records.items() if record is not None}

    async def register(
        self, group: str, replica: str, record: WorkerRecord, gone: Sequence[str]
    ) -> None:
        key = self.namespace.workers(group)
        # A channel of its own: its time is the worker's round trip, whatever else is under way.
        channel = self._channel(BEATS, at=key)
        await channel.call("HSET", key, replica, encode(record))
        if gone:
            await channel.call("HDEL", key, *gone)

    async def leave(self, group: str, replica: str, *, rests: bool = False) -> None:
        key = self.namespace.replicas(group)
        await self._channel(at=key).call("ZREM", key, replica)
        if not rests:
            key = self.namespace.workers(group)
            await self._channel(at=key).call("HDEL", key, replica)

    async def acquire(
        self, partition: int, group: str, owner: str, nonce: str, ttl_ms: int, rules: str = ""
    ) -> Lease | Held:
        """A partition gets its first epoch once, when the namespace is new."""
        keys = self._lease_keys(partition, group)
        await self.require(group, keys[0])
        channel = self._channel("commits", (partition, group), at=keys[0])
        server = await self._identity(channel)
        if isinstance(channel, Channel):
            channel = OnConnection(channel, channel.connections)  # to that server, and no other
        meta, meta_channel = self.namespace.meta, self._channel(at=self.namespace.meta)
        seeded = f"seeded:{group}:{partition}"
        may_seed = 0
        for _ in range(2):
            chance = value.token_chance(nonce)
            arguments = (owner, nonce, ttl_ms, may_seed, group, rules, server, chance)
            reply = await scripts.run(channel, "acquire", keys, arguments)
            taken: Lease | Held
            match reply:
                case [b"acquired", epoch, version, committed, expires, now, outages, before]:
                    taken = Lease(
                        partition, group, owner, nonce, int(epoch), int(version), committed,
                        int(expires), int(now), value.read_outages(outages), before.decode(),
                    )  # fmt: skip
                case [b"held", holder, epoch, remaining]:
                    taken = Held(holder.decode(), int(epoch), int(remaining))
                case [b"unseeded"]:
                    # If another worker has seeded it since the script ran, the second try takes it.
                    may_seed = int(not await meta_channel.call("HEXISTS", meta, seeded))
                    continue
                case _:
                    raise scripts.unexpected("acquire", reply)
            if may_seed:
                await meta_channel.call("HSET", meta, seeded, taken.epoch)
            if isinstance(taken, Lease):
                self._tried.discard(keys[0])  # try again before the next one
            return taken
        raise UnseededError(
            f"partition {partition}: key {keys[0]} has lost its epoch, so stale workers could not "
            f"be told from new ones; `fabric doctor --reseed` sets one above any epoch used before"
        )

    async def renew(self, lease: Lease, ttl_ms: int) -> int:
        key = self.namespace.partition(lease.partition).lease(lease.group)
        channel = self._channel("leases", (lease.partition, lease.group), at=key)
        reply = await scripts.run(channel, "renew", (key,), (lease.nonce, lease.epoch, ttl_ms))
        if reply[0] == b"renewed":
            return int(reply[1])
        raise scripts.refusal("renew", lease, reply)

    async def release(self, lease: Lease) -> None:
        await self.renew(lease, 0)

    async def reseed(self, partition: int, group: str) -> int:
        """Give a partition that lost its epoch one above any handed out before; return it.

        Raises NotAllowedError when the epoch is there, TamperedError when the lease is no hash.
        """
        meta, seeded = self.namespace.meta, f"seeded:{group}:{partition}"
        meta_channel, keys = self._channel(at=meta), self._lease_keys(partition, group)
        began = value.whole_number(await meta_channel.call("HGET", meta, seeded) or b"")
        # Above any epoch handed out since, even if the clock was set back meanwhile.
        remembered = began + TAKE_OVERS_MAX if began else 0
        channel = self._channel(at=keys[0])
        match await scripts.run(channel, "reseed", keys, (group, remembered)):
            case [b"reseeded", given, _]:
                epoch = int(given)
            case [b"seeded", present]:
                raise NotAllowedError(
                    f"{keys[0]} still has its epoch ({int(present)}), which is never replaced"
                )
            case [b"tampered", *what]:
                raise scripts.tampered(*what)
            case reply:
                raise scripts.unexpected("reseed", reply)
        # Outside the script, because it is in another slot. The next loss starts above it.
        await meta_channel.call("HSET", meta, seeded, epoch)
        return epoch

    async def attempt(self, key: str, ttl_ms: int) -> None:
        """Try a script on a scratch key; raises the server's reason when scripts do not work."""
        arguments = ('{"n": 7}', ttl_ms)
        reply = await scripts.run(self._channel(at=key), "attempt", (key,), arguments)
        if reply[:2] != [b"attempted", b"7"]:
            raise scripts.unexpected("attempt", reply)

    async def read(
        self, partition: int, group: str, after: bytes, count: int, block_ms: int
    ) -> list[Entry]:
        key = self.namespace.partition(partition).source(group)
        channel = self._channel("reads", (partition, group), at=key)
        found = await self._read(channel, {key: after}, count, block_ms)
        return found[0][1] if found else []

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        return [fields_of(flat) for flat in await self._ask_each("hash", keys, "HGETALL")]

    async def members(self, key: str, prefix: str, after: str, count: int) -> list[str]:
        within = value.member_range(prefix.encode(), after.encode())
        found = await self._ask("zset", key, "ZRANGEBYLEX", key, *within, "LIMIT", 0, count)
        return value.member_names(key, found)

    async def named(self, partition: int, prefix: str, count: int) -> list[str]:
        channel = self._channel(at=self.namespace.partition(partition).sessions)
        found: dict[str, None] = {}
        cursor = b"0"
        while True:
            scan = ("SCAN", cursor, "MATCH", value.glob(prefix), "COUNT", SCAN_COUNT)
            cursor, keys = await channel.call(*scan)
            found.update((key.decode(), None) for key in keys)
            if cursor == b"0" or len(found) >= count:
                return list(found)

    async def named_each(
        self, partition: int, prefixes: Mapping[str, str], count: int
    ) -> dict[str, list[str]]:
        if len(prefixes) == 1:
            ((session, prefix),) = prefixes.items()
            return {session: await self.named(partition, prefix, count)}
        names = self.namespace.partition(partition)
        channel = self._channel(at=names.sessions)
        found: dict[str, dict[str, None]] = {session: {} for session in prefixes}
        cursor = b"0"
        while True:
            scan = ("SCAN", cursor, "MATCH", value.glob(f"{names.prefix}:"), "COUNT", SCAN_COUNT)
            cursor, keys = await channel.call(*scan)
            for key in map(bytes.decode, keys):
                session = names.session_of(key) or ""
                if session in prefixes and key.startswith(prefixes[session]):
                    found[session][key] = None
            if cursor == b"0" or all(len(one) >= count for one in found.values()):
                return {session: list(one) for session, one in found.items()}

    async def timers_of_each(
        self, partition: int, group: str, sessions: Collection[str]
    ) -> dict[str, list[bytes]]:
        key = self.namespace.partition(partition).timers(group)
        found: dict[bytes, dict[bytes, None]] = {name.encode(): {} for name in sessions}
        match = ("MATCH", value.glob(f"{next(iter(sessions))}:")) if len(sessions) == 1 else ()
        cursor = b"0"
        while True:
            scan = ("ZSCAN", key, cursor, *match, "COUNT", SCAN_COUNT)
            cursor, flat = await self._ask("zset", key, *scan)
            for member, _ in pairs_of(flat):
                name, separator, _ = member.partition(b":")
                if separator and name in found:
                    found[name][member] = None
            if cursor == b"0":
                return {name.decode(): list(timers) for name, timers in found.items()}

    async def least_recent(
        self, partition: int, count: int, kept: int
    ) -> tuple[list[tuple[str, int]], int]:
        key = self.namespace.partition(partition).sessions
        flat = await self._ask("zset", key, "ZRANGE", key, 0, count - 1, "WITHSCORES")
        # Without ZCARD: users of earlier versions are not allowed it.
        beside = await self._ask("zset", key, "ZRANGE", key, kept, kept + count - 1)
        found = ((name.decode("utf-8", "replace"), score) for name, score in pairs_of(flat))
        return [(name, int(max(float(score), 0))) for name, score in found], len(beside)

    async def due(
        self, partition: int, group: str, now_ms: int, count: int
    ) -> list[tuple[bytes, int]]:
        key = self.namespace.partition(partition).timers(group)
        flat = await self._ask(
            *("zset", key, "ZRANGEBYSCORE", key, "-inf", now_ms),
            *("WITHSCORES", "LIMIT", 0, count),
        )
        # A score of -inf, made by hand, is due like any other in the past.
        return [(key, int(max(float(score), 0))) for key, score in pairs_of(flat)]

    async def commit(
        self, lease: Lease, version: int, batch: Batch, upto: bytes, ttl_ms: int, *, drained: bool
    ) -> int:
        keys = self._lease_keys(lease.partition, lease.group)
        arguments = commit.arguments(lease, version, batch, upto, ttl_ms, drained=drained)
        channel = self._channel("commits", (lease.partition, lease.group), at=keys[0])
        try:
            reply = await scripts.run(channel, "commit", (*keys, *batch.keys), arguments)
        except DeniedError:
            await self.require(lease.group, keys[0])  # name all that is refused
            raise
        if reply[0] == b"committed":
            return int(reply[1])
        raise scripts.refusal("commit", lease, reply)

    async def exhausted(self, partition: int) -> str | None:
        names = self.namespace.partition(partition)
        keys, arguments = (names.signals, names.results, names.dead), (value.SEQUENCE_MAX,)
        match await scripts.run(self._channel(at=keys[0]), "exhausted", keys, arguments):
            case [b"exhausted", key]:
                return str(key.decode())
            case [b"free"]:
                return None
            case reply:
                raise scripts.unexpected("exhausted", reply)

    async def rebuild(self, lease: Lease, key: str, place: bytes, ttl_ms: int) -> Rebuilt:
        names = self.namespace.partition(lease.partition)
        own = names.lease(lease.group)
        bound, field = names.bound(key)
        reader = names.reader(key) or ""
        keys = (own, key, names.copy(key), names.aside(key), bound)
        arguments = (
            lease.nonce, lease.epoch, ttl_ms, field, reader,
            REBUILD_ENTRIES_MAX, REBUILD_BYTES_MAX, ASIDE_MS, place,
        )  # fmt: skip
        if not place:
            await self.require(lease.group, own)  # lest it stops half-way
        channel = self._channel("commits", (lease.partition, lease.group), at=own)
        match await scripts.run(channel, "rebuild", keys, arguments):
            case [b"copying", now_ms, entries, place]:
                return Rebuilt(int(now_ms), int(entries), place)
            case [b"rebuilt", now_ms, entries]:
                return Rebuilt(int(now_ms), int(entries), None)
            case reply:
                raise scripts.refusal("rebuild", lease, reply)

    def _lease_keys(self, partition: int, group: str) -> tuple[str, str]:
        """Return the keys of a partition's lease, and of the stream that its holder reads."""
        names = self.namespace.partition(partition)
        return names.lease(group), names.source(group)

    async def now_ms(self, at: str | None = None) -> int:
        seconds, micros = await self.call("TIME", at=at)
        return int(seconds) * 1000 + int(micros) // 1000

    async def emit(
        self,
        partition: int,
        entries: Sequence[Sequence[bytes]],
        ingress_max: int,
        group: str = ORCHESTRATORS,
        *,
        connection: int | None = None,
    ) -> list[bytes]:
        key = self.namespace.partition(partition).source(group)
        value.check_entries(entries)
        items = (item for entry in entries for item in (len(entry), *entry))
        arguments = (ingress_max, self.ingress_bytes_max, *items)
        channel = self._channel(EMITS, at=key)
        if connection is not None and isinstance(channel, Channel):
            channel = OnConnection(channel, connection)
        sending = scripts.run(channel, "emit", (key,), arguments)
        try:
            reply = await self._typed("stream", [key], sending)
        except ExhaustedError:
            raise ExhaustedError(key) from None
        if reply[0] == b"emitted":
            return list(reply[1:])
        if reply[0] == b"overloaded":
            raise value.overloaded(key, reply[1], ingress_max, reply[2], self.ingress_bytes_max)
        raise scripts.unexpected("emit", reply)

    async def occupy(self, key: str, number: int, session: str, now_ms: int) -> None:
        fields = ("session", session, "ms", now_ms)
        await self._ask("stream", key, "XADD", key, "MAXLEN", 1, f"{number}-1", *fields)
        with suppress(DeniedError):  # users of earlier versions are not allowed it
            await self._ask("stream", key, "PEXPIRE", key, WORKSPACE_MS)

    async def enroll(self, partition: int, session: str, agent: str) -> int:
        own = self.namespace.partition(partition)
        names = own.session(session)
        keys = (names.incarnations, names.agents, names.retired, own.lease(ORCHESTRATORS))
        arguments = (agent, INCARNATIONS_SKIPPED_MAX)
        enrolling = scripts.run(self._channel(at=keys[0]), "enroll", keys, arguments)
        return int(await self._typed("hash", keys, enrolling))

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        # One connection for all reads that start with the same stream, whatever else they read.
        first = next(iter(after))
        channel = self._channel(FOLLOWS, first, at=first)
        wanted = min(count, self._size.count)
        with self._size.watched():
            found = await self._read(channel, after, wanted, block_ms)
        self._size.note(entry for _, entries in found for entry in entries)
        for key, entries in found:
            if len(entries) == wanted:
                behind = b"(" + entries[-1][0]
                entries += await self._page(channel, key.decode(), behind, b"+", count - wanted)
        return {key.decode(): entries for key, entries in found}

    async def _read(
        self, channel: Caller, after: dict[str, bytes], count: int, block_ms: int
    ) -> list[tuple[bytes, list[Entry]]]:
        blocking = ("BLOCK", block_ms) if block_ms else ()
        command = ("XREAD", "COUNT", count, *blocking, "STREAMS", *after, *after.values())
        return await self._typed("stream", after, channel.call(*command, block_ms=block_ms)) or []

    async def entries(
        self, key: str, first: bytes, last: bytes, count: int, *, newest_first: bool = False
    ) -> list[Entry]:
        channel = self._channel(at=key)
        return await self._page(channel, key, first, last, count, newest_first=newest_first)

    async def _page(
        self,
        channel: Caller,
        key: str,
        first: bytes,
        last: bytes,
        count: int,
        *,
        newest_first: bool = False,
    ) -> list[Entry]:
        """Read so many entries, as many at a time as their size allows."""
        found: list[Entry] = []
        while len(found) < count and first != b"(" + value.LAST_ID:  # which servers refuse
            wanted = min(count - len(found), self._size.count)
            bounds = (
                ("XREVRANGE", key, last, first) if newest_first else ("XRANGE", key, first, last)
            )
            with self._size.watched():
                asking = channel.call(*bounds, "COUNT", wanted)
                page: list[Entry] = await self._typed("stream", [key], asking)
            found += page
            self._size.note(page)
            if len(page) < wanted:
                break
            if newest_first:
                last = b"(" + page[-1][0]
            else:
                first = b"(" + page[-1][0]
        return found

    async def fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = await self._ask("hash", key, "HMGET", key, *names)
        return found

    async def scan(self, key: str, count: int) -> AsyncGenerator[dict[bytes, bytes], None]:
        """It has a connection of its own, and ends when that breaks.

        A cursor is valid only on the server that gave it, until that restarts.
        """
        await self._router.detect()
        routing, cursor = self._router.routing, b"0"
        channel = Channel(routing, key, follows_redirects=False, raises_on_reconnect=True)
        try:
            while True:
                asking = channel.call("HSCAN", key, cursor, "COUNT", count)
                cursor, flat = await self._typed("hash", [key], asking)
                yield fields_of(flat)
                if cursor == b"0":
                    return
        finally:
            await channel.drop()

    async def set_cursor(self, key: str, agent: str, entry_id: bytes) -> None:
        await self._ask("hash", key, "HSET", key, agent, entry_id)

    async def scores(self, key: str) -> list[tuple[bytes, int]]:
        flat = await self._ask("zset", key, "ZREVRANGE", key, 0, -1, "WITHSCORES")
        return [(name, int(float(score))) for name, score in pairs_of(flat)]

    async def length(self, key: str) -> int:
        return int(await self._ask("stream", key, "XLEN", key))

    async def delete_entries(self, key: str, ids: Sequence[bytes]) -> int:
        return int(await self._channel(at=key).call("XDEL", key, *ids))
