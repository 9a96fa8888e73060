"""Looking at a session: its records, its log and its synthesis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from fabric.backoff import retry
from fabric.client import agui
from fabric.client.agui import Event
from fabric.client.history import ReadHistory
from fabric.client.synthesis import Revision, apply, decoded, missing, redo
from fabric.core import record
from fabric.core.limits import listed
from fabric.core.synthesis.complete import Complete, Phase
from fabric.core.synthesis.publish import COMPLETE, REVISION, RULES
from fabric.core.synthesis.state import AGENTS, REFINED, RELATIONS, SECTIONS, RefinementRecord
from fabric.core.task import TaskRecord
from fabric.errors import NotFoundError, ServerError, WaitTimeoutError
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, ClientStore, Entry, Readable
from fabric.store.synthesis import (
    DECODERS,
    REFINING,
    decode_refining,
    is_published,
    refining_field,
    same_rules,
)
from fabric.view.synthesis import Synthesis
from fabric.wire.stored import checked_reading

R = TypeVar("R")

#: Entries read at a time.
PAGE = 500

#: Revisions read at a time. A patch can be as large as a commit, so a page of this size keeps the
#: server busy for a short time only.
REVISIONS_PAGE = 20

#: Fields of the hash read at a time: no more work for the server than a commit.
FIELDS_PAGE = 200

#: Blocking reads return after this time and start again, ms.
BLOCK_MS = 2_000


class Session:
    """A session as the store shows it; every call reads it again, none writes."""

    def __init__(self, store: ClientStore, keys: SessionKeys) -> None:
        self._store = store
        self._keys = keys

    def __repr__(self) -> str:
        return f"<Session {self.name!r}>"

    @property
    def name(self) -> str:
        """The session's name."""
        return self._keys.name

    @property
    def keys(self) -> SessionKeys:
        """The names of the session's keys."""
        return self._keys

    async def agents(self) -> dict[str, record.AgentRecord]:
        """Return every agent's record, by name."""
        return await self._records(self.keys.agents, record.AgentRecord)

    async def tasks(self) -> dict[str, TaskRecord]:
        """Return every task's record, by id."""
        return await self._records(self.keys.tasks, TaskRecord)

    async def dependencies(self) -> dict[str, record.DependencyRecord]:
        """Return every dependency's record, by id."""
        return await self._records(self.keys.dependencies, record.DependencyRecord)

    async def claims(self) -> dict[str, record.ClaimRecord]:
        """Return every claim on resources, held or waiting, by id."""
        claims = await self._records(self.keys.claims, record.ClaimRecord)
        with checked_reading(self.keys.claims, "hash"):
            for name, claim in claims.items():
                claim.check_name(name)
        return claims

    async def barriers(self) -> dict[str, record.BarrierRecord]:
        """Return every barrier's record, by name."""
        return await self._records(self.keys.barriers, record.BarrierRecord)

    async def escalations(self) -> dict[str, record.EscalationRecord]:
        """Return every question's record, open or decided, by id."""
        return await self._records(self.keys.escalations, record.EscalationRecord)

    async def written(self) -> dict[str, record.WrittenRecord]:
        """Return what was written in copies of the files: path → its copies and agents."""
        return await self._records(self.keys.written, record.WrittenRecord)

    async def roster(self) -> dict[str, record.ExpectedRecord]:
        """Return the record of every agent that the run expects, by name."""
        return await self._records(self.keys.roster, record.ExpectedRecord)

    async def _records(self, key: str, kind: type[R]) -> dict[str, R]:
        (stored,) = await self._store.hashes([key])
        decode = msgspec.json.Decoder(kind).decode
        with checked_reading(key, "hash"):
            return {name.decode(): decode(value) for name, value in sorted(stored.items())}

    async def exists(self) -> bool:
        """Return whether any signal of this session was ever accepted."""
        return await self._store.length(self.keys.log) > 0

    async def must_exist(self) -> None:
        """Raise NotFoundError if no signal of this session was ever accepted."""
        if not await self.exists():
            raise NotFoundError(f"no session {self.name}: nothing was logged under {self.keys.log}")

    async def log(self, after: bytes = BEGINNING, *, follow: bool = False) -> AsyncIterator[Entry]:
        """Yield log entries after an id, in order; with `follow` also new ones, through outages.

        Raises NotFoundError if the session is gone meanwhile.
        """
        async for page in pages(self._store, self.keys, after, follow=follow):
            for entry in page:
                yield entry

    async def synthesis(self, *, revision: int | None = None) -> Synthesis:
        """Return the synthesis as it is now, or as it was at a revision; revision 0 is empty.

        Raises NotFoundError if there is no such revision, or none yet.
        """
        last = await self._revision()
        if revision is None:
            return await self._latest(last) if last else Synthesis({})
        if not 0 <= revision <= last:
            there = f"the last one is {last}" if last else "there is none yet"
            raise NotFoundError(f"no revision {revision} of {self.name}: {there}")
        document: Any = {}
        async for patch in self._between(0, revision):
            document = apply(self.keys, document, patch)
        return Synthesis(document, self.keys.revisions)

    async def _latest(self, first: int) -> Synthesis:
        """Return the synthesis at one exact revision, `first` or later.

        The hash is read in pages, and may change between them. The result is made exact with a redo
        log, as a database makes its pages exact after a crash. A commit writes fields and their
        patch together, and a patch gives the new value of each field, not a difference. So the
        patches from the first look to the last are applied in order: each field that has changed
        meanwhile gets its last value, and no other field has changed.
        """
        document = await self._pages()
        last = await self._revision()
        async for revision in self._between(first, last):
            document = redo(self.keys, document, revision)
        document[REVISION] = last
        return Synthesis(document, self.keys.synthesis)

    async def _revision(self) -> int:
        """Return the number of the present revision, 0 while there is none."""
        (number,) = await self._store.fields(self.keys.synthesis, [REVISION])
        with checked_reading(self.keys.synthesis, "hash"):
            return int(number or 0)

    async def _pages(self) -> dict[str, Any]:
        """Return the document as the pages of the hash give it: a mixture of revisions."""
        document: dict[str, Any] = {"session": self.name, REVISION: 0, COMPLETE: {}}
        document |= {section: {} for section in SECTIONS}
        decode = msgspec.json.Decoder().decode
        key = self.keys.synthesis
        async with aclosing(self._store.scan(key, FIELDS_PAGE)) as scanning:
            async for page in scanning:
                with checked_reading(key, "hash"):
                    for field, value in page.items():
                        section, _, name = field.decode().partition(":")
                        if section == COMPLETE:
                            msgspec.json.decode(value, type=Complete)
                            document[COMPLETE] = decode(value)
                        elif section == RULES and (same := same_rules(value)):
                            document["same"] = decode(same)
                        elif section == RELATIONS:
                            DECODERS[section](value)
                            document[section] = decode(value)
                        elif is_published(f"{section}:{name}", value):
                            DECODERS[section](value)  # raises if it is not one of our records
                            document[section][name] = decode(value)
        return document

    async def _between(self, after: int, last: int) -> AsyncIterator[Revision]:
        """Yield the revisions after one, up to another. Raises NotFoundError if one is gone."""
        while after < last:
            start, end = b"%d-0" % (after + 1), b"%d-0" % last
            page = await self._store.entries(self.keys.revisions, start, end, REVISIONS_PAGE)
            if not page:
                raise missing(self.keys, after + 1)
            for revision in decoded(self.keys, page, after):
                after = revision.number
                yield revision

    async def revisions(
        self, after: int = 0, *, follow: bool = True, refined: bool = False
    ) -> AsyncGenerator[Revision, None]:
        """Yield the revisions of the synthesis after a number, in order.

        With `follow` also new ones, through outages, until one is final and none follows it; with
        `refined` until each refiner, too, is through with what is final. A session can continue
        after that: iterate again from there. Raises NotFoundError if somebody has trimmed a
        revision away, or the session is gone.
        """
        following = self._following(after, is_final=False, follow=follow, refined=refined)
        async with aclosing(following) as revisions:
            async for revision in revisions:
                yield revision

    async def _following(
        self, after: int, *, is_final: bool, follow: bool = True, refined: bool = False
    ) -> AsyncGenerator[Revision, None]:
        """Yield the revisions after one that is final or not, as `revisions` does."""
        opened = await retry(partial(still_open, self._store, self.keys, None)) if follow else None
        while True:
            place = {self.keys.revisions: b"%d-0" % after}
            # Asked before it is read: what refiners have said by now is read then.
            left = await retry(self._unrefined) if is_final and refined else []
            is_over = is_final and not left
            block_ms = BLOCK_MS if follow and not is_over else 0
            read = partial(self._store.read_streams, place, REVISIONS_PAGE, block_ms)
            found = await (retry(read) if follow else read())
            page = found.get(self.keys.revisions, [])
            if page and _number(page[-1]) != after + len(page):
                # What is beyond the fabric's own is by hand, and a worker will remove it.
                last = await retry(self._revision)
                page = [entry for entry in page if _number(entry) <= last]
                await asyncio.sleep(0 if page else block_ms / 1000)
            for revision in decoded(self.keys, page, after):
                after, is_final = revision.number, revision.is_final
                yield revision
            if page:
                continue
            if is_over or not follow:
                return
            opened = await retry(partial(still_open, self._store, self.keys, opened))

    async def _unrefined(self) -> list[str]:
        """Return the refiners that are not through with the last revision that they must read."""
        key = self.keys.synthesis
        (wanted,) = await self._store.fields(key, [REFINING])
        with checked_reading(key, "hash"):
            if wanted is None:
                return []
            refining = decode_refining(wanted)
            names = refining.refiners
            made = await self._store.fields(key, [f"{REFINED}:{name}" for name in names])
            nothing = await self._store.fields(key, [*map(refining_field, names)])
            left = []
            for name, value, number in zip(names, made, nothing, strict=True):
                known = DECODERS[REFINED](value) if value is not None else None
                through = known.revision if isinstance(known, RefinementRecord) else 0
                if max(through, int(number or 0)) < refining.revision:
                    left.append(name)
            return left

    async def state_events(
        self, after: int | None = None, *, follow: bool = True, refined: bool = False
    ) -> AsyncGenerator[Event, None]:
        """Yield the synthesis as state events of AG-UI: STATE_SNAPSHOT, then STATE_DELTA.

        Without `after` the present state comes first. With it, for a reader that has the state of
        that revision, only what has changed since; but a whole state again if the session has not
        come so far, because it began anew. Ends and raises as `revisions` does.
        """
        last = await retry(self._revision)
        if after is None or after > last:
            known = await retry(self.synthesis)
            yield agui.snapshot(known.document)
            after, is_final = known.revision, known.is_final
            if is_final and not refined:
                return
        else:
            is_final = False
        revisions = self._following(after, is_final=is_final, follow=follow, refined=refined)
        async with aclosing(revisions) as following:
            async for revision in following:
                for event in agui.of_revision(self.keys, revision):
                    yield event

    async def until_final(
        self, *, timeout: float | None = None, refined: bool = False
    ) -> Synthesis:
        """Wait, through outages, until all known agents have ended; return the final synthesis.

        With `refined` also until each refiner is through with it; one that fails, or has nothing to
        say, is. `timeout` is in seconds. Raises WaitTimeoutError, which names the agents that have
        not ended, or the refiners; NotFoundError if the session is gone.
        """
        known = Synthesis({})
        try:
            async with asyncio.timeout(timeout):
                known = await retry(self.synthesis)
                if known.is_final and not refined:
                    return known
                document = known.document
                revisions = self._following(
                    known.revision, is_final=known.is_final, refined=refined
                )
                async with aclosing(revisions) as following:
                    async for revision in following:
                        document = apply(self.keys, document, revision)
                        known = Synthesis(document, self.keys.revisions)
                return known
        except TimeoutError:
            left = _left(known)
            if refined and known.is_final:
                with suppress(ServerError):
                    left = f"it is, and not refined yet by {listed(await self._unrefined())}"
            raise WaitTimeoutError(
                f"waited {timeout:g} s for the synthesis of {self.name} to be final: {left}"
            ) from None

    async def describe_producers(self, dependency: str) -> str:
        """Say in a phrase which agents are to produce a dependency, and how they are doing."""
        known = (await self.dependencies()).get(dependency)
        if known is None or not known.producers:
            return "nobody has declared to produce it"
        agents = await self.agents()
        now_ms = await self._store.now_ms(self.keys.log)
        parts = []
        for name in known.producers:
            agent = agents.get(name)
            if agent is None:
                parts.append(f"{name}, not heard of yet")
                continue
            done = f" at {agent.percent:g} %" if agent.percent is not None else ""
            silent_s = max(0, now_ms - agent.seen_ms) / 1000
            parts.append(f"{name}, {agent.status.value}{done}, last heard of {silent_s:.0f} s ago")
        return "to be produced by " + "; ".join(parts)


def _number(entry: Entry) -> int:
    """Return the first part of an entry's id."""
    return int(entry[0].partition(b"-")[0])


def _left(known: Synthesis) -> str:
    if not known.revision:
        return "there is no revision yet; has an agent started, and is a synthesizer running?"
    active = [name for name, agent in known.agents.items() if not agent.has_ended]
    if active:
        verb = "has" if len(active) == 1 else "have"
        return f"{listed(active)} {verb} not ended (revision {known.revision})"
    if known.complete.awaited:
        missing = listed(known.complete.missing or [])
        return f"expected, and not heard of yet: {missing} (revision {known.revision})"
    if known.complete.state is Phase.SETTLING:
        return f"all agents have ended, and another may start (revision {known.revision})"
    sweeps = known.complete.sweeps
    return f"the results of {sweeps} {AGENTS} are being merged anew (revision {known.revision})"


async def confirm(session: Session) -> None:
    """Return when enough replicas have all of it (`wait_replicas`). Raises UnavailableError."""
    await session._store.confirm(session.keys.lease)


async def still_open(store: Readable, keys: SessionKeys, opened: bytes | None) -> bytes | None:
    """Return when a session was opened; None before that. `opened` is the last such answer.

    For whoever waits: raises NotFoundError if that session is gone, as after FLUSHALL, even if
    another one of the same name has come since.
    """
    (now,) = await store.fields(keys.meta, ["opened_ms"])
    if opened is not None and now != opened:
        raise NotFoundError(f"session {keys.name} is gone: its keys were deleted (FLUSHALL?)")
    return now


async def read_record(store: ClientStore, key: str, name: str, kind: type[R]) -> R | None:
    """Return one record of a hash, None if there is none of that name."""
    (stored,) = await store.fields(key, [name])
    with checked_reading(key, "hash"):
        return None if stored is None else msgspec.json.decode(stored, type=kind)


async def pages(
    store: Readable,
    keys: SessionKeys,
    after: bytes,
    *,
    follow: bool = False,
    on_went_back: Callable[[bytes], object] = lambda place: None,
) -> AsyncGenerator[list[Entry], None]:
    """Yield a session's log entries after an id, page by page.

    Ends at the present end of the log; with `follow` it goes on with new entries, through outages,
    and raises NotFoundError if the session is gone. If entries are gone that it has yielded, it
    goes on after the last one that is still there, and calls `on_went_back` with its id.
    """
    if not follow:
        while entries := (await store.read_streams({keys.log: after}, PAGE, 0)).get(keys.log, []):
            after = entries[-1][0]
            yield entries
        return
    still = partial(still_open, store, keys)
    opened = await retry(partial(still, None))
    history = await retry(partial(ReadHistory.at, store, keys.log, after))
    is_sure = True

    async def read_on() -> list[Entry]:
        nonlocal after, is_sure, opened
        if not is_sure:
            opened = await still(opened)
            last_kept = await history.last_kept(store, keys.log)
            is_sure = True
            if last_kept is not None:
                after = last_kept
                on_went_back(after)
        is_sure = False  # after an error, and when nothing comes
        entries = (await store.read_streams({keys.log: after}, PAGE, BLOCK_MS)).get(keys.log, [])
        is_sure = bool(entries)
        return entries

    while True:
        if entries := await retry(read_on):
            after = entries[-1][0]
            for entry in entries:
                history.note(entry)
            yield entries


async def last_id(store: Readable, stream: str) -> bytes:
    """Return the id of a stream's last entry, BEGINNING if it has none."""
    newest = await store.entries(stream, b"-", b"+", 1, newest_first=True)
    return newest[0][0] if newest else BEGINNING
