"""What workers and clients need from a store: Redis and memory implement it, one suite tests both.

Times are the server's, in ms since the epoch. Ids are stream ids, as bytes. Every method raises
ServerError; UnreachableError means that it is unknown whether the request took effect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from fabric.store.keys import ORCHESTRATORS, Namespace
from fabric.wire.record import CopyingForm, Form
from fabric.wire.stored import text
from fabric.wire.worker import WorkerRecord

#: One stream entry: id, and its fields as a flat list.
Entry = tuple[bytes, list[bytes]]

#: An argument of a write: bytes as `fabric.wire.stored.text`, as a commit has too many to look at
#: each. A whole number has no more than 53 bits: Lua would round it.
Argument = str | int

#: The id before the first entry of any stream.
BEGINNING = b"0-0"

#: Arguments of one write: Lua passes at most some 8,000 to a command. Even, so no pair is split.
ARGUMENTS_MAX: Final = 2_000

#: Bytes of memory that a stream which workers read may take before emitters are held back. It is
#: what a server of a few gigabytes can spare while no worker runs; a worker reads it in seconds.
INGRESS_BYTES_MAX: Final = 268_435_456

#: Entries, and roughly bytes, that one step of rebuilding a stream copies: some milliseconds.
REBUILD_ENTRIES_MAX: Final = 500
REBUILD_BYTES_MAX: Final = 1_048_576

#: What was in a stream before it was rebuilt is kept for this time, ms: a day, for people to look.
ASIDE_MS: Final = 86_400_000

#: Verb → the type of the key that it writes.
TYPES: Final = {
    "HSET": "hash",
    "HDEL": "hash",
    "ZADD": "zset",
    "ZREM": "zset",
    "XTRIM": "stream",
}

#: Deletes a key of any type, in constant time: the server frees large values beside its work.
UNLINK: Final = "UNLINK"

#: Type of a key that is deleted, whatever it holds.
ANY: Final = "any"

#: Behind the type of a key that must exist: without it, somebody has deleted it.
EXISTING: Final = "!"

#: Keys looked at in one step of walking through the key space: well below a millisecond.
SCAN_COUNT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one replica to commit to one partition.

    `epoch` grows with every new holder. `version` counts the commits. `committed` is the id of the
    last input entry that has taken effect.
    """

    partition: int
    group: str
    owner: str
    nonce: str
    epoch: int
    version: int
    committed: bytes
    expires_ms: int
    now_ms: int
    #: The last outages of the partition, oldest first: times in which nobody could commit for
    #: longer than a lease. Server time of the beginning and of the end of each, ms.
    outages: tuple[tuple[int, int], ...] = ()
    #: Digest of the rules by which the holder before worked; "" if it did not say.
    rules_before: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """Another replica holds the lease, for at most this long."""

    owner: str
    epoch: int
    remaining_ms: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One step of rebuilding a stream: the server's time, and the entries copied so far.

    `place` is where the next step goes on; None when the copy has taken the stream's place.
    """

    now_ms: int
    entries: int
    place: bytes | None


@dataclass(slots=True)
class Batch:
    """The writes of one commit, applied all or none.

    `keys` are all keys written, `types` the Redis type of each, and `firsts` the id of the first
    entry for a stream ("" for another type). `operations` is a flat list of writes, entries of
    streams first, each in one of two forms:

    - number of an entry form, index of the key in `keys`, entry id, one value for each name of the
      form: appends an entry to a stream
    - verb, index of the key, number of arguments, arguments: any other write

    An entry form is the field names of an entry. A batch with many such entries states them once,
    which halves the arguments that client and server have to handle.

    By reference, which is for a batch that `is_copying`: an entry of a copying form has the index
    of its input entry in `inputs` behind its id, and then only the values that the form does not
    copy from there. The commit reads the input again, and writes nothing unless it finds just these
    entries.
    """

    types: list[str] = field(default_factory=list)
    firsts: list[str] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    is_copying: bool = False
    #: Ids of the input entries that were decided, without a gap.
    inputs: list[bytes] = field(default_factory=list)
    #: Bytes of the arguments so far, roughly: bounds a commit.
    size_bytes: int = 0
    #: Entries of streams, which a commit can undo if one of them is refused; and all other writes.
    _entries: list[Argument] = field(default_factory=list)
    _others: list[Argument] = field(default_factory=list)
    _keys: dict[str, int] = field(default_factory=dict)
    _forms: dict[Form, int] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """All keys written, in the order of their indexes."""
        return list(self._keys)

    @property
    def operations(self) -> list[Argument]:
        """All writes."""
        return self._entries + self._others

    @property
    def copied(self) -> list[bytes]:
        """The input entries that the commit has to read again: none if nothing is copied."""
        return self.inputs if any(isinstance(form, CopyingForm) for form in self.forms) else []

    def take(self, entry_id: bytes) -> None:
        """Name the next input entry: the one from which what follows can copy."""
        self.inputs.append(entry_id)

    def append(self, key: str, entry_id: str, form: Form, values: Sequence[Argument]) -> None:
        """Append an entry to a stream, under an id of ours or `*`. `form` must be hashable.

        `values` are all of the entry, also those that are copied from the input entry taken last.
        """
        if isinstance(form, CopyingForm):
            values = (len(self.inputs) - 1, *form.given(values))
        index = self._keys.get(key)
        if index is None:
            index = self._index(key, "stream", entry_id)
        number = self._forms.get(form)
        if number is None:
            number = self._forms[form] = len(self.forms)
            self.forms.append(form)
        self._entries += (number, index, entry_id, *values)

    def write(self, verb: str, key: str, arguments: Sequence[Argument]) -> None:
        """Add any other write: one of TYPES."""
        index = self._keys.get(key)
        if index is None:
            index = self._index(key, TYPES[verb], "")
        self._others += (verb, index, len(arguments), *arguments)

    def expect(self, key: str) -> None:
        """Refuse the whole batch if it writes to this key, and that is not there any more."""
        index = self._keys.get(key)
        if index is not None and not self.types[index].endswith(EXISTING):
            self.types[index] += EXISTING

    def delete(self, key: str, kind: str = ANY) -> None:
        """Delete a key: of this type, or of any."""
        index = self._keys.get(key)
        if index is None:
            index = self._index(key, kind, "")
        self._others += (UNLINK, index, 0)

    def trim(self, key: str, first: bytes | str) -> None:
        """Remove the entries of a stream before an id."""
        self.write("XTRIM", key, ("MINID", "=", text(first) if isinstance(first, bytes) else first))

    def write_parts(self, verb: str, key: str, arguments: Sequence[Argument]) -> None:
        """Add a write of any number of arguments, as several that a script can pass on."""
        if 0 < len(arguments) <= ARGUMENTS_MAX:
            self.write(verb, key, arguments)
            return
        for start in range(0, len(arguments), ARGUMENTS_MAX):
            self.write(verb, key, arguments[start : start + ARGUMENTS_MAX])

    def write_fields(self, key: str, fields: Iterable[tuple[str, bytes | None]]) -> None:
        """Set the fields of a hash that have a value, and drop the others."""
        values: list[Argument] = []
        dropped: list[str] = []
        for name, value in fields:
            if value is None:
                dropped.append(name)
            else:
                values += (name, text(value))
                self.size_bytes += len(value)
        if values:
            self.write_parts("HSET", key, values)
        if dropped:
            self.write_parts("HDEL", key, dropped)

    def _index(self, key: str, kind: str, first: str) -> int:
        index = self._keys[key] = len(self._keys)
        self.types.append(kind)
        self.firsts.append(first)
        return index


class _Store(Protocol):
    """What workers and clients both need."""

    namespace: Namespace

    async def partitions(self, default: int | None = None) -> int:
        """Return the namespace's number of partitions; the first call ever fixes it to `default`.

        Without a default it is the number that is right for the kind of server.
        """

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        """Return whole hashes of one partition, empty where there is none. Raises TamperedError."""

    async def fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        """Return some fields of a hash. Raises TamperedError."""

    async def entries(
        self, key: str, first: bytes, last: bytes, count: int, *, newest_first: bool = False
    ) -> list[Entry]:
        """Return a range of a stream; `-` and `+` are its ends, `(` before an id excludes it."""

    async def named(self, partition: int, prefix: str, count: int) -> list[str]:
        """Return keys of a partition that begin with a prefix: `count` or a few more, or all.

        It walks through the key space of the server, in short steps.
        """

    async def close(self) -> None:
        """Close all connections."""


class WorkerStore(_Store, Protocol):
    """What the worker loop needs."""

    async def beat(self, group: str, replica: str, ttl_ms: int) -> list[str]:
        """Report that a replica lives for `ttl_ms` from now; return all live ones, sorted."""

    async def workers(self, group: str) -> tuple[int, dict[str, WorkerRecord]]:
        """Return the server's time, and what the workers of a group last said of themselves."""

    async def register(
        self, group: str, replica: str, record: WorkerRecord, gone: Sequence[str]
    ) -> None:
        """Store what a worker says of itself, and remove what some others said."""

    async def leave(self, group: str, replica: str, *, rests: bool = False) -> None:
        """Report that a replica has ended, or rests: then its record stays."""

    async def acquire(
        self, partition: int, group: str, owner: str, nonce: str, ttl_ms: int, rules: str = ""
    ) -> Lease | Held:
        """Take a lease that is free, expired or our own, under a new epoch; or say who holds it.

        `rules` is the digest of the owner's rules, which the lease keeps.

        Raises UnseededError when the partition had an epoch and it is lost.
        """

    async def renew(self, lease: Lease, ttl_ms: int) -> int:
        """Hold a lease for `ttl_ms` from now; return the server's time. Raises FencedError."""

    async def release(self, lease: Lease) -> None:
        """Give a lease up, if it is still held."""

    async def read(
        self, partition: int, group: str, after: bytes, count: int, block_ms: int
    ) -> list[Entry]:
        """Return up to `count` input entries after an id; wait up to `block_ms` for the first."""

    async def members(self, key: str, prefix: str, after: str, count: int) -> list[str]:
        """Return members of a sorted set whose scores are all 0, in the order of their bytes.

        Those with a prefix that come after a name; "" starts with the first.
        """

    async def named_each(
        self, partition: int, prefixes: Mapping[str, str], count: int
    ) -> dict[str, list[str]]:
        """Return keys of several sessions at once, by session: those with its prefix, as `named`.

        All of them take one walk through the key space.
        """

    async def timers_of_each(
        self, partition: int, group: str, sessions: Collection[str]
    ) -> dict[str, list[bytes]]:
        """Return all of a group's timers of some sessions, by session, in no order.

        All of them take one walk through the timers.
        """

    async def least_recent(
        self, partition: int, count: int, kept: int
    ) -> tuple[list[tuple[str, int]], int]:
        """Return a partition's least recent sessions, each with its last activity, ms.

        And how many there are beside the `kept` most recent ones, `count` at most.
        """

    async def due(
        self, partition: int, group: str, now_ms: int, count: int
    ) -> list[tuple[bytes, int]]:
        """Return a group's timers due at `now_ms`, soonest first, with their times."""

    async def commit(
        self, lease: Lease, version: int, batch: Batch, upto: bytes, ttl_ms: int, *, drained: bool
    ) -> int:
        """Apply a batch and acknowledge the input up to an id, if the lease is still valid.

        `version` is the version that the commit builds on; the next one builds on `version + 1`.
        `drained`: no more input is waiting, so trim to the entry. Returns the server's time. Raises
        FencedError (nothing was written, and nothing more can be under this lease), TamperedError,
        ExhaustedError or MissingInputError (nothing was written), UnreachableError (unknown).
        """

    async def exhausted(self, partition: int) -> str | None:
        """Name a stream of the partition itself that has come to its last ids; None if none has."""

    async def rebuild(self, lease: Lease, key: str, place: bytes, ttl_ms: int) -> Rebuilt:
        """Replace a stream that takes no new entries by a copy of what counts in it, step by step.

        The copy has what `Partition.bound` says: input that is not committed, or what the fabric
        has written. `place` is b"" for the first step, then that of the step before. With the last
        step the copy takes the stream's place, and the old one is kept as `Partition.aside`.
        Readers of an input begin with the copy; another holder's lease on it is free again. Raises
        FencedError, TamperedError, UnreachableError (begin again under a new lease).
        """


class Readable(Protocol):
    """What replay and explanations need: a server, or a file that a session was written to.

    `ClientStore` describes the methods.
    """

    async def hashes(self, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        """Return whole hashes."""

    async def fields(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        """Return some fields of a hash."""

    async def now_ms(self, at: str | None = None) -> int:
        """Return the server's time; of a file, the time at which it was written."""

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        """Return entries after the given ids."""

    async def entries(
        self, key: str, first: bytes, last: bytes, count: int, *, newest_first: bool = False
    ) -> list[Entry]:
        """Return a range of a stream."""

    async def scores(self, key: str) -> list[tuple[bytes, int]]:
        """Return a sorted set."""


class ClientStore(_Store, Protocol):
    """What agents and the command line need."""

    async def now_ms(self, at: str | None = None) -> int:
        """Ask what the clock of the server shows that has the key `at`, by default `meta`; ms.

        What the fabric stores is by that clock: nobody's own may be compared with it.
        """

    async def emit(
        self,
        partition: int,
        entries: Sequence[Sequence[bytes]],
        ingress_max: int,
        group: str = ORCHESTRATORS,
        *,
        connection: int | None = None,
    ) -> list[bytes]:
        """Append entries to the stream that a group of workers reads, all or none; return ids.

        With a number of `connection`, raises ReconnectedError instead of sending on another one.

        Raises OverloadedError when the stream holds `ingress_max` entries or more, or would take
        more than INGRESS_BYTES_MAX of memory. One call may go over the limits while they are not
        reached, so that a call larger than a limit can succeed at all. Raises CallerError
        for an entry of more fields than a signal may have.
        """

    def connection(self, partition: int) -> int:
        """Return the number of the connection on which `emit` sends; each new one has its own.

        Behind a new one may be another server, or one that has lost what it had taken.
        """

    async def occupy(self, key: str, number: int, session: str, now_ms: int) -> None:
        """Make `number`-1 the last entry of a stream: the session that works in a copy of files.

        Raises ExhaustedError if there is one with that number already.
        """

    async def confirm(self, lease: str) -> None:
        """Return when as many replicas as `wait_replicas` says have everything that is written.

        It writes into a partition's lease for that: a primary that is cut off does not know it, and
        counts replicas that it heard before. Returns at once without the setting. Raises
        UnavailableError.
        """

    async def enroll(self, partition: int, session: str, agent: str) -> int:
        """Hand out the agent's next incarnation, above any used before."""

    async def read_streams(
        self, after: dict[str, bytes], count: int, block_ms: int
    ) -> dict[str, list[Entry]]:
        """Return entries after the given ids, waiting up to `block_ms` for the first."""

    def scan(self, key: str, count: int) -> AsyncGenerator[dict[bytes, bytes], None]:
        """Yield a hash of any size in pages of about `count` fields, so that no read is long.

        A field that exists throughout comes at least once. One that changes meanwhile comes with
        its old value, its new one, both or neither. Raises TamperedError.
        """

    async def set_cursor(self, key: str, agent: str, entry_id: bytes) -> None:
        """Note the last message that an agent has read."""

    async def scores(self, key: str) -> list[tuple[bytes, int]]:
        """Return a sorted set, highest score first."""

    async def length(self, key: str) -> int:
        """Return the number of entries of a stream."""

    async def delete_entries(self, key: str, ids: Sequence[bytes]) -> int:
        """Remove entries from a stream: dead letters that were retried or discarded."""
