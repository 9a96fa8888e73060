"""Random histories of a store, and its answers in a form that does not depend on its clock."""

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fabric.errors import FabricError, TamperedError
from fabric.store.keys import SYNTHESIZERS, Namespace
from fabric.store.port import BEGINNING, Batch, Held, Lease
from tests.store.backend import LONG_MS, ORCHESTRATORS, Backend, MemoryBackend, Store

NAMES = Namespace().partition(0)
KEYS = NAMES.session("s")
LEASE = NAMES.lease(ORCHESTRATORS)

#: One step: the name of a method of Player, and its arguments.
Step = tuple[Any, ...]

OWNERS = st.sampled_from(["one", "two"])
STREAMS = st.sampled_from([NAMES.signals, KEYS.log, KEYS.inbox("A"), NAMES.dead])
HASHES = st.sampled_from([KEYS.agents, KEYS.cursors, KEYS.tasks])
OTHERS = st.sampled_from([LEASE, KEYS.incarnations, KEYS.synthesis])
ZSETS = st.sampled_from([NAMES.deadlines, NAMES.timers(SYNTHESIZERS), NAMES.sessions])
#: A sorted set by name: all scores are 0.
SAID = KEYS.said("A")
KINDS = st.sampled_from(["string", "hash", "zset", "stream"])
NAME = st.sampled_from(["A", "B", "\u00e9"])
SMALL = st.integers(0, 6)
BYTES = st.binary(max_size=3)
#: Groups that have timers of their own.
GROUPS = st.sampled_from([ORCHESTRATORS, SYNTHESIZERS])
#: Nested names, sibling names, names beyond ASCII; and prefixes of some.
PART = st.sampled_from(["a:/x", "a:/x/y", "a:/x/\u00e9", "a:/x0", "a:/\U0001f600", "b:/x", "b:"])
PREFIX = st.sampled_from(["", "a:", "a:/x/", "a:/x", "b:/x", "c"])
#: Ids that a person may write by hand, and ranges that a program may request.
HAND = st.sampled_from(["1-0", "1-1", "2-0", "5-3", "9-0"])
BOUND = st.sampled_from([b"-", b"+", b"1", b"2-0", b"(1-1", b"(5", b"9-0"])

_writes = st.one_of(
    st.tuples(st.just("append"), STREAMS, st.sampled_from(["*", "1-0", "2-0", "3-1"]), BYTES),
    st.tuples(st.just("HSET"), HASHES, NAME, BYTES),
    st.tuples(st.just("HDEL"), HASHES, NAME),
    st.tuples(st.just("ZADD"), ZSETS, SMALL, NAME),
    st.tuples(st.just("ZREM"), ZSETS, NAME),
    st.tuples(st.just("ZADD"), st.just(SAID), st.just(0), PART),
)

_requests = st.one_of(
    st.tuples(st.just("acquire"), OWNERS),
    st.tuples(st.just("renew"), OWNERS),
    st.tuples(st.just("release"), OWNERS),
    st.tuples(st.just("emit"), st.lists(BYTES, min_size=1, max_size=3), st.integers(1, 6)),
    st.tuples(st.just("read"), SMALL, SMALL.map(lambda n: n + 1)),
    st.tuples(st.just("enroll"), NAME),
    st.tuples(st.just("set_cursor"), NAME, HAND),
    st.tuples(st.just("look"), STREAMS, BOUND, BOUND, SMALL.map(lambda n: n + 1), st.booleans()),
    st.tuples(st.just("follow"), STREAMS, HAND),
    st.tuples(st.just("hashes"), HASHES),
    st.tuples(st.just("fields"), HASHES, NAME),
    st.tuples(st.just("scores"), ZSETS),
    st.tuples(st.just("due"), GROUPS, SMALL, SMALL.map(lambda n: n + 1)),
    st.tuples(st.just("members"), PREFIX, SMALL.map(lambda n: n + 1)),
    st.tuples(st.just("length"), STREAMS),
    st.tuples(st.just("delete"), STREAMS, HAND),
    st.tuples(st.just("partitions"), st.integers(1, 3)),
    st.tuples(st.just("beat"), NAME),
    st.tuples(st.just("leave"), NAME),
)

_commits = st.tuples(
    st.just("commit"),
    OWNERS,
    st.sampled_from([0, 0, 0, 0, 1, -1]),
    st.lists(_writes, max_size=4),
    st.none() | SMALL,
)

_accidents = st.one_of(
    st.tuples(st.just("lapse")),
    st.tuples(st.just("drop"), STREAMS | HASHES | ZSETS | OTHERS),
    st.tuples(st.just("put"), STREAMS | HASHES | ZSETS | OTHERS, KINDS),
    st.tuples(st.just("append"), STREAMS, HAND, BYTES),
    st.tuples(st.just("spoil"), HASHES, NAME, st.sampled_from([b"{", b'{"incarnation":7}', b"7"])),
    st.tuples(st.just("destroy_group")),
    st.tuples(st.just("flush")),
)

#: Mostly requests of programs; a lease first, so that most commits are not refused.
histories = st.lists(
    st.one_of(_requests, _requests, _commits, _commits, _commits, _accidents), max_size=30
).map(lambda steps: [("acquire", "one"), *steps])


class Player:
    """Plays a history on one store and keeps the answers."""

    def __init__(self, backend: Backend, store: Store) -> None:
        self.backend = backend
        self.store = store
        self.leases: dict[str, Lease] = {}
        #: Commits made under each lease, as its holder counts them.
        self.versions: dict[str, int] = {}
        self.emitted: list[bytes] = []
        self._names: dict[str, dict[bytes, str]] = {}
        self._nonces = 0
        self._epoch = 0

    async def play(self, step: Step) -> Any:
        """Take one step; return the answer, or the error's name and the key that it names."""
        await self._tick()
        method: Callable[..., Any] = getattr(self, f"do_{step[0]}")
        try:
            return await method(*step[1:])
        except TamperedError as error:
            # An error of the server itself does not name the key.
            says = step[0] in ("commit", "hashes") and error.key not in (LEASE, "of the fabric")
            return ("tampered", error.key if says else "")
        except FabricError as error:
            word = re.search(
                r"fenced|expired|another commit|epoch is gone|lost its epoch", str(error)
            )
            return (error.code, word and word[0])

    async def _tick(self) -> None:
        if isinstance(self.backend, MemoryBackend):
            await self.backend.pass_ms(1)

    def _name(self, key: str, entry_id: bytes) -> str:
        """An id unchanged; one that the server generated, by its order of appearance."""
        if int(entry_id.partition(b"-")[0]) < 1_000_000:
            return entry_id.decode()
        names = self._names.setdefault(key, {})
        return names.setdefault(entry_id, f"{key} #{len(names)}")

    def _entries(self, key: str, entries: Any) -> list[tuple[str, list[bytes]]]:
        return [(self._name(key, entry_id), list(fields)) for entry_id, fields in entries]

    def _id(self, number: int) -> bytes:
        return self.emitted[number] if number < len(self.emitted) else BEGINNING

    async def do_acquire(self, owner: str) -> Any:
        self._nonces += 1
        taken = await self.store.acquire(0, ORCHESTRATORS, owner, f"n{self._nonces}", LONG_MS)
        if isinstance(taken, Held):
            assert taken.remaining_ms > 0
            return ("held", taken.owner)
        assert taken.epoch > self._epoch
        self._epoch = taken.epoch
        self.leases[owner] = taken
        self.versions[owner] = taken.version
        return ("acquired", taken.owner, taken.version, self._name(NAMES.signals, taken.committed))

    async def do_renew(self, owner: str) -> Any:
        if owner in self.leases:
            await self.store.renew(self.leases[owner], LONG_MS)

    async def do_release(self, owner: str) -> Any:
        if owner in self.leases:
            await self.store.release(self.leases[owner])

    async def do_commit(self, owner: str, off: int, writes: list[Any], upto: int | None) -> Any:
        if owner not in self.leases:
            return
        batch = Batch()
        kinds: dict[str, str] = {}
        for verb, key, *arguments in writes:
            if verb == "append":
                batch.append(key, arguments[0], ("value",), (arguments[1],))
            else:
                batch.write(verb, key, arguments)
            kinds[key] = verb
        entry_id = b"" if upto is None or upto >= len(self.emitted) else self.emitted[upto]
        version = self.versions[owner] + off
        await self.store.commit(self.leases[owner], version, batch, entry_id, LONG_MS, drained=True)
        self.versions[owner] = version + 1

    async def do_emit(self, values: list[bytes], most: int) -> Any:
        ids = await self.store.emit(0, [[b"value", value] for value in values], most)
        self.emitted += ids
        return [self._name(NAMES.signals, entry_id) for entry_id in ids]

    async def do_read(self, after: int, count: int) -> Any:
        found = await self.store.read(0, ORCHESTRATORS, self._id(after), count, 0)
        return self._entries(NAMES.signals, found)

    async def do_enroll(self, agent: str) -> Any:
        return await self.store.enroll(0, "s", agent)

    async def do_set_cursor(self, agent: str, entry_id: str) -> Any:
        await self.store.set_cursor(KEYS.cursors, agent, entry_id.encode())

    async def do_look(self, key: str, first: bytes, last: bytes, count: int, newest: bool) -> Any:
        if first == b"+" or last == b"-":
            return None
        found = await self.store.entries(key, first, last, count, newest_first=newest)
        return self._entries(key, found)

    async def do_follow(self, key: str, after: str) -> Any:
        found = await self.store.read_streams({key: after.encode()}, 10, 0)
        return {key: self._entries(key, entries) for key, entries in found.items()}

    async def do_hashes(self, key: str) -> Any:
        return await self.store.hashes([KEYS.meta, key])

    async def do_fields(self, key: str, name: str) -> Any:
        return await self.store.fields(key, [name, "nobody"])

    async def do_scores(self, key: str) -> Any:
        return await self.store.scores(key)

    async def do_due(self, group: str, now_ms: int, count: int) -> Any:
        return await self.store.due(0, group, now_ms, count)

    async def do_members(self, prefix: str, count: int) -> Any:
        """All pages of members, as a sweep reads them."""
        found: list[str] = []
        while page := await self.store.members(SAID, prefix, found[-1] if found else "", count):
            assert len(page) <= count
            found += page
        return found

    async def do_length(self, key: str) -> Any:
        return await self.store.length(key)

    async def do_delete(self, key: str, entry_id: str) -> Any:
        return await self.store.delete_entries(key, [entry_id.encode()])

    async def do_partitions(self, default: int) -> Any:
        return await self.store.partitions(default)

    async def do_beat(self, replica: str) -> Any:
        return await self.store.beat(ORCHESTRATORS, replica, LONG_MS)

    async def do_leave(self, replica: str) -> Any:
        await self.store.leave(ORCHESTRATORS, replica)

    async def do_lapse(self) -> Any:
        if (await self.backend.dump()).get(LEASE, ("", []))[0] == "hash":
            await self.backend.set_field(LEASE, "expires", b"1")

    async def do_drop(self, key: str) -> Any:
        await self.backend.drop(key)
        await self.backend.pass_ms(1)

    async def do_put(self, key: str, kind: str) -> Any:
        await self.backend.drop(key)
        await self.backend.pass_ms(1)
        await self.backend.put(key, kind)

    async def do_append(self, key: str, entry_id: str, value: bytes) -> Any:
        found = (await self.backend.dump()).get(key)
        if found is None:
            await self.backend.append(key, entry_id, b"value", value)

    async def do_spoil(self, key: str, name: str, value: bytes) -> Any:
        found = (await self.backend.dump()).get(key)
        if found is None or found[0] == "hash":
            await self.backend.set_field(key, name, value)

    async def do_destroy_group(self) -> Any:
        if (await self.backend.dump()).get(NAMES.signals, ("",))[0] != "stream":
            return
        if await self.backend.position(NAMES.signals, ORCHESTRATORS) is not None:
            await self.backend.destroy_group(NAMES.signals, ORCHESTRATORS)

    async def do_flush(self) -> Any:
        await self.backend.flush()
        # Within the same millisecond the server would generate the deleted ids again.
        await self.backend.pass_ms(1)
        # The next epoch is the server's time, and hardly any time has passed here.
        self._epoch = 0

    async def rest(self) -> dict[str, Any]:
        """The final content of the server, without times."""
        found: dict[str, Any] = {}
        for key, (kind, content) in (await self.backend.dump()).items():
            if kind == "stream":
                found[key] = (kind, self._entries(key, content))
            elif key == LEASE and kind == "hash":
                kept = {name: value for name, value in content if name in (b"owner", b"version")}
                kept[b"committed"] = dict(content).get(b"committed", b"")
                if kept[b"committed"]:
                    kept[b"committed"] = self._name(NAMES.signals, kept[b"committed"]).encode()
                found[key] = (kind, kept)
            elif key == Namespace().replicas(ORCHESTRATORS):
                found[key] = (kind, sorted(member for member, _ in content))
            elif key == Namespace().meta:
                # The version of the layout: memory has only one. And epochs, which are times.
                kept = {name: value for name, value in content if name != b"schema"}
                kept |= {name: b"" for name in kept if name.startswith(b"seeded")}
                found[key] = (kind, kept)
            else:
                found[key] = (kind, content)
        return found
