"""Every key of a session compared with what its log makes of it, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from fabric.client.session import PAGE, pages
from fabric.core.session import SessionState, Table
from fabric.errors import BusyError, DivergedError, NotFoundError, TamperedError
from fabric.ops.replay import Replay, as_bytes, first_difference, shown
from fabric.store import state
from fabric.store.keys import SessionKeys
from fabric.store.keyspace import Keyspace
from fabric.store.port import BEGINNING, EXISTING, Batch, Readable
from fabric.store.value import parse_id, whole_number
from fabric.wire.stored import fields_of, read_object

#: Fields of `meta` that begin with this say what was cut (workers/retention.py).
CUT = "cut"

_NOTHING = "nothing"

#: Attempts to compare a session that changes meanwhile.
ROUNDS_MAX = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where Redis differs from the log; `field` may also be an entry id or a member."""

    key: str
    field: str
    log: str
    redis: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a comparison."""

    events: int
    differences: list[Difference]


class Comparison:
    """Replays one session to its end, and compares each of its keys.

    Messages are compared page by page, so memory is bounded by the session's state and one page of
    the log. Keys that no commit has ever written are not looked at.
    """

    def __init__(
        self, store: Readable, keys: SessionKeys, note: Callable[[int], None] | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._note = note
        self._replay = Replay(keys)
        self._stored = state.StoredSession(keys, self._replay.session)
        self._place = BEGINNING
        #: Key → type, for all keys that a commit has ever written.
        self._written: dict[str, str] = dict.fromkeys(state.hashes(keys), "hash")
        #: Stream of messages → id of the last one compared.
        self._read: dict[str, bytes] = {keys.broadcast: BEGINNING}
        self._differences: list[Difference] = []

    async def run(self) -> Report:
        """Return the differences. Raises NotFoundError, and BusyError if the session changes."""
        try:
            await self._follow()
            if self._place == BEGINNING:
                raise NotFoundError(
                    f"no session {self._keys.name}: nothing was logged under {self._keys.log}"
                )
            for _ in range(ROUNDS_MAX):
                place = self._place
                found = await self._compare_state()
                # Every commit appends to the log: without a new entry nothing else has changed.
                await self._follow()
                if self._place == place:
                    left = await self._left(self._differences + found)
                    return Report(self._replay.session.log, left)
        except DivergedError as error:
            self._differences.append(Difference(error.key, error.field, error.made, error.found))
            return Report(self._replay.session.log, self._differences)
        raise BusyError(
            f"session {self._keys.name} changed during each of {ROUNDS_MAX} comparisons; "
            "its log is correct so far: try again when less happens"
        )

    async def _left(self, differences: list[Difference]) -> list[Difference]:
        """Return the differences that retention does not explain: `meta` says what it has cut."""
        if not differences:
            return []
        (meta,) = await self._store.hashes([self._keys.meta])
        inboxes = self._keys.inbox("")
        read = whole_number(meta.get(b"cut_read", b"0")) or 0

        def is_cut(one: Difference) -> bool:
            if one.redis != _NOTHING:
                return one.key == self._keys.meta and one.field.startswith(CUT)
            if not one.key.startswith((inboxes, self._keys.broadcast)):
                return False
            name = one.key.removeprefix(f"{self._keys.prefix}:")
            first = parse_id(meta.get(f"{CUT}:{name}".encode(), b"0-0"))
            place = parse_id(one.field.encode())
            return place < first or (one.key.startswith(inboxes) and place[0] < read)

        return [one for one in differences if not is_cut(one)]

    async def _follow(self) -> None:
        """Replay the log up to its present end."""
        session = self._replay.session
        async for page in pages(self._store, self._keys, self._place):
            for entry in page:
                self._replay.take(entry)
            self._place = page[-1][0]
            await self._compare_messages()
            for resource in session.order.changed:
                # A resource that was taken and released within one page is not in the batch.
                self._written[self._keys.lock(resource)] = "hash"
                self._written[self._keys.queue(resource)] = "zset"
            batch = Batch()
            self._stored.save(batch)
            kinds = [kind.removesuffix(EXISTING) for kind in batch.types]
            self._written.update(zip(batch.keys, kinds, strict=True))
            if self._note is not None:
                self._note(session.log)
        self._replay.finish()

    async def _compare_messages(self) -> None:
        """Compare the messages of one page of the log with the inboxes and the broadcast."""
        streams: dict[str, dict[bytes, list[bytes]]] = {}
        for key, entry_id, fields in self._replay.delivered:
            streams.setdefault(key, {})[entry_id] = fields
        self._replay.delivered.clear()
        for key, made in streams.items():
            last = next(reversed(made))
            try:
                found = await self._messages(key, self._read.get(key, BEGINNING), last)
            except TamperedError as error:
                self._differences.append(Difference(key, "", error.expected, error.found))
                found = made
            self._read[key] = last
            if found != made:
                self._differences += _entries(key, made, found)

    async def _messages(self, key: str, after: bytes, last: bytes) -> dict[bytes, list[bytes]]:
        found: dict[bytes, list[bytes]] = {}
        while page := await self._store.entries(key, b"(" + after, last, PAGE):
            found.update(page)
            after = page[-1][0]
            if last == b"+" or len(page) < PAGE:
                break
        return found

    async def _compare_state(self) -> list[Difference]:
        """Compare the present state of every key."""
        found: list[Difference] = []
        session = self._replay.session
        made = _whole(self._keys, session)
        kinds = {key: kind for key, (kind, _) in made.keys.items()} | self._written
        for key, kind in kinds.items():
            try:
                if kind == "zset":
                    theirs = {name: b"%d" % ms for name, ms in await self._store.scores(key)}
                else:
                    (theirs,) = await self._store.hashes([key])
            except TamperedError as error:
                found.append(Difference(key, "", error.expected, error.found))
                continue
            ours = {name: as_bytes(value) for name, value in (made.peek(key, kind) or {}).items()}
            if ours != theirs:
                found += _fields(key, ours, theirs)
        for key in dict.fromkeys([*self._read, *map(self._keys.inbox, session.agents.records)]):
            try:
                extra = await self._messages(key, self._read.get(key, BEGINNING), b"+")
            except TamperedError:
                continue  # reported above, if the stream should hold something
            found += _entries(key, {}, extra)
        return found


def _whole(keys: SessionKeys, session: SessionState) -> Keyspace:
    """Return the keys of a session as one commit of the whole session would write them."""
    tables: dict[str, Any] = {}
    for name in SessionState.__slots__:
        table = getattr(session, name)
        if isinstance(table, Table):
            tables[name] = Table(table.records)
            tables[name].changed.update(table.records)
    copy = replace(session, **tables)
    for claim in copy.claims.records.values():
        copy.order.changed.update(claim.writes, claim.reads)
    batch, server = Batch(), Keyspace()
    state.StoredSession(keys, copy).save(batch)
    server.apply(batch, session.clock_ms)
    return server


def _entries(
    key: str, made: dict[bytes, list[bytes]], found: dict[bytes, list[bytes]]
) -> Iterator[Difference]:
    """Yield the differences of two ranges of a stream."""
    for entry_id in sorted({*made, *found}, key=parse_id):
        ours, theirs = made.get(entry_id), found.get(entry_id)
        if ours == theirs:
            continue
        name = entry_id.decode()
        if ours is None or theirs is None:
            yield Difference(key, name, _entry(ours), _entry(theirs))
        else:
            field, *both = first_difference(ours, theirs)
            yield Difference(key, f"{name} {field}", *both)


def _fields(key: str, made: dict[bytes, bytes], found: dict[bytes, bytes]) -> Iterator[Difference]:
    """Yield the differences of two hashes or sorted sets; of a record, those of its fields."""
    for name in sorted({*made, *found}):
        ours, theirs = made.get(name), found.get(name)
        if ours == theirs:
            continue
        field = shown(name)
        inner, other = read_object(ours or b""), read_object(theirs or b"")
        if inner is None or other is None or inner == other:
            yield Difference(key, field, shown(ours), shown(theirs))
            continue
        for part in sorted({*inner, *other}):
            if inner.get(part) != other.get(part):
                yield Difference(key, f"{field} {part}", _json(inner, part), _json(other, part))


def _json(document: dict[str, Any], part: str) -> str:
    return shown(msgspec.json.encode(document[part])) if part in document else "nothing"


def _entry(fields: list[bytes] | None) -> str:
    if fields is None:
        return _NOTHING
    entry = fields_of(fields)
    return shown(b"%s from %s" % (entry.get(b"type", b"?"), entry.get(b"from", b"?")))
