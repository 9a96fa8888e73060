"""A session's keys against what its log makes of them: nothing may differ, field for field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from fabric.client.session import PAGE, pages
from fabric.core.session import SessionState, Table
from fabric.errors import BusyError, DivergedError, NotFoundError, TamperedError
from fabric.ops.replay import Replay, first_difference
from fabric.store import state
from fabric.store.keys import SessionKeys
from fabric.store.keyspace import Keyspace
from fabric.store.port import BEGINNING, Batch, ClientStore
from fabric.store.value import parse_id
from fabric.wire.stored import fields_of

#: How often a session that moves on is looked at again.
ROUNDS_MAX = 10

#: Characters of a value that a difference shows.
SHOWN_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where Redis is not what the log says. `field` is also an entry id or a member."""

    key: str
    field: str
    log: str
    redis: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a comparison has found."""

    events: int
    differences: list[Difference]


class Comparison:
    """Replays one session to its end, and looks at each of its keys.

    Memory is bounded by the session's state and one page of the log: messages are compared as they
    come up. Of the session's other keys only those are known that once held something.
    """

    def __init__(
        self, store: ClientStore, keys: SessionKeys, note: Callable[[int], None] | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._note = note
        self._replay = Replay(keys)
        self._stored = state.StoredSession(keys, self._replay.session)
        self._place = BEGINNING
        #: Key → type, of all keys that a commit has ever written.
        self._written: dict[str, str] = dict.fromkeys(state.hashes(keys), "hash")
        #: Stream of messages → id of the last one compared.
        self._read: dict[str, bytes] = {keys.broadcast: BEGINNING}
        self._differences: list[Difference] = []

    async def run(self) -> Report:
        """Return what differs. Raises NotFoundError, and BusyError when the session moves on."""
        try:
            await self._follow()
            if self._place == BEGINNING:
                raise NotFoundError(
                    f"no session {self._keys.name}: nothing was logged under {self._keys.log}"
                )
            for _ in range(ROUNDS_MAX):
                place = self._place
                found = await self._look()
                # What is written, is written together with the log: no new entry, no other change.
                await self._follow()
                if self._place == place:
                    return Report(self._replay.session.log, self._differences + found)
        except DivergedError as error:
            self._differences.append(Difference(error.key, error.field, error.made, error.found))
            return Report(self._replay.session.log, self._differences)
        raise BusyError(
            f"session {self._keys.name} moved on each of {ROUNDS_MAX} times that it was looked at; "
            "its log up to there is as it should be: try again when less happens"
        )

    async def _follow(self) -> None:
        """Replay to the log's present end."""
        session = self._replay.session
        async for page in pages(self._store, self._keys.log, self._place):
            for entry in page:
                self._replay.take(entry)
            self._place = page[-1][0]
            await self._compare_messages()
            for resource in session.order.changed:
                # Taken and given back within this page, it would leave no trace in the batch.
                self._written[self._keys.lock(resource)] = "hash"
                self._written[self._keys.queue(resource)] = "zset"
            batch = Batch()
            self._stored.save(batch)
            self._written.update(zip(batch.keys, batch.types, strict=True))
            if self._note is not None:
                self._note(session.log)
        self._replay.finish()

    async def _compare_messages(self) -> None:
        """Compare the messages of one page of the log with the streams that hold them."""
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

    async def _look(self) -> list[Difference]:
        """Compare the present state of every key."""
        found: list[Difference] = []
        session = self._replay.session
        made = _whole(self._keys, session)
        kinds = {key: kind for key, (kind, _) in made.keys.items()} | self._written
        for key, kind in kinds.items():
            try:
                theirs = await self._fields(key, kind)
            except TamperedError as error:
                found.append(Difference(key, "", error.expected, error.found))
                continue
            ours = {name: _bytes(value) for name, value in (made.peek(key, kind) or {}).items()}
            if ours != theirs:
                found += _fields(key, ours, theirs)
        for key in {
            **self._read,
            **{self._keys.inbox(name): b"" for name in session.agents.records},
        }:
            try:
                extra = await self._messages(key, self._read.get(key, BEGINNING), b"+")
            except TamperedError:
                continue  # of a stream that should hold something it was said before
            found += _entries(key, {}, extra)
        return found

    async def _fields(self, key: str, kind: str) -> dict[bytes, bytes]:
        if kind == "zset":
            return {name: b"%d" % score for name, score in await self._store.scores(key)}
        (found,) = await self._store.hashes([key])
        return found


def _whole(keys: SessionKeys, session: SessionState) -> Keyspace:
    """Return a server that holds a session: all of it, whatever was marked as changed."""
    copy = SessionState(
        session.name,
        log=session.log,
        clock_ms=session.clock_ms,
        opened_ms=session.opened_ms,
        token=session.token,
        rules=session.rules,
        agents=session.agents.records,
        tasks=session.tasks.records,
        dependencies=session.dependencies.records,
        claims=session.claims.records,
        barriers=session.barriers.records,
        escalations=session.escalations.records,
    )
    for name in SessionState.__slots__:
        table = getattr(copy, name)
        if isinstance(table, Table):
            table.changed.update(table.records)
    for claim in copy.claims.records.values():
        copy.order.changed.update(claim.writes, claim.reads)
    batch, server = Batch(), Keyspace()
    state.StoredSession(keys, copy).save(batch)
    server.apply(batch, session.clock_ms)
    return server


def _entries(
    key: str, made: dict[bytes, list[bytes]], found: dict[bytes, list[bytes]]
) -> Iterator[Difference]:
    """Yield where two ranges of a stream differ."""
    for entry_id in sorted({*made, *found}, key=parse_id):
        ours, theirs = made.get(entry_id), found.get(entry_id)
        if ours == theirs:
            continue
        name = entry_id.decode()
        if ours is not None and theirs is not None:
            field, *both = first_difference(ours, theirs)
            yield Difference(key, f"{name} {field}", *both)
        else:
            yield Difference(key, name, _entry(ours), _entry(theirs))


def _fields(key: str, made: dict[bytes, bytes], found: dict[bytes, bytes]) -> Iterator[Difference]:
    """Yield where two hashes or sorted sets differ; of a record, the fields within it."""
    for name in sorted({*made, *found}):
        ours, theirs = made.get(name), found.get(name)
        if ours == theirs:
            continue
        field = _shown(name)
        inner, other = _document(ours), _document(theirs)
        if inner is None or other is None or inner == other:
            yield Difference(key, field, _shown(ours), _shown(theirs))
            continue
        for part in sorted({*inner, *other}):
            if inner.get(part) != other.get(part):
                yield Difference(key, f"{field} {part}", _json(inner, part), _json(other, part))


def _document(value: bytes | None) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(value or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _json(document: dict[str, Any], part: str) -> str:
    return _shown(msgspec.json.encode(document[part])) if part in document else "nothing"


def _entry(fields: list[bytes] | None) -> str:
    if fields is None:
        return "nothing"
    entry = fields_of(fields)
    return _shown(b"%s from %s" % (entry.get(b"type", b"?"), entry.get(b"from", b"?")))


def _bytes(value: bytes | int) -> bytes:
    return value if isinstance(value, bytes) else b"%d" % value


def _shown(value: bytes | None) -> str:
    if value is None:
        return "nothing"
    text = value.decode("utf-8", "replace")
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"
