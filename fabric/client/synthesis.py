"""Reading a synthesis: as it is now, as it was at a revision, revision by revision, and final."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from fabric.backoff import retry
from fabric.core.limits import listed
from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import AGENTS, SECTIONS, Complete
from fabric.errors import NotFoundError, TamperedError, WaitTimeoutError
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore, Entry
from fabric.store.synthesis import DECODERS, HEAD, is_published
from fabric.view.synthesis import Synthesis, changes
from fabric.view.text import counted
from fabric.wire.stored import checked_reading, fields_of

#: Revisions read at a time. A patch can be as large as a commit, so a page of this size keeps the
#: server busy for a short time only.
REVISIONS_PAGE = 20

#: Fields of the hash read at a time: no more work for the server than a commit.
FIELDS_PAGE = 200

#: Blocking reads return after this time and start again, ms.
BLOCK_MS = 2_000

_NOTHING = object()

#: Paths that a patch can set: the whole document, a number, or a record in a section.
_PLACES = re.compile(rf"|/{REVISION}|/{COMPLETE}|/(?P<section>{'|'.join(SECTIONS)})/[^/]*")


class Revision(Struct, frozen=True):
    """One revision: a JSON Patch (RFC 6902) on the revision before it; the first one patches `{}`.

    `causes` are the log ids of the signals that led to it, `ms` the latest time among them, in ms
    since the epoch. `is_final`: all known agents had ended by then. `print` shows a line for each
    change, a notebook the same as Markdown.
    """

    number: int
    patch: list[dict[str, Any]]
    causes: list[str]
    ms: int
    is_final: bool

    def __str__(self) -> str:
        try:
            lines = list(changes(self.number, self.patch, is_final=self.is_final))
        except (TamperedError, KeyError) as error:
            return f"- {self.number} · unreadable: {error}"
        return "\n".join(lines) or f"- {self.number} · only how complete the synthesis is"

    def __repr__(self) -> str:
        state = ", final" if self.is_final else ""
        return f"<Revision {self.number}: {counted(len(self.patch), 'operation')}{state}>"

    def _repr_markdown_(self) -> str:
        """Return the changes as Markdown, for notebooks."""
        return str(self)


async def read(store: ClientStore, keys: SessionKeys) -> Synthesis:
    """Return the synthesis as it is now, at one exact revision; revision 0 while there is none.

    The hash is read in pages, and may change between them. The result is made exact with a redo
    log, as a database makes its pages exact after a crash. A commit writes fields and their patch
    together, and a patch gives the new value of each field, not a difference. So the patches from
    the first look to the last are applied in order: each field that has changed meanwhile gets its
    last value, and no other field has changed.
    """
    first = await _number(store, keys)
    if first == 0:
        return Synthesis({})
    document = await _pages(store, keys)
    last = await _number(store, keys)
    async for revision in _between(store, keys, first, last):
        document = _redo(keys, document, revision)
    document[REVISION] = last
    return Synthesis(document, keys.synthesis)


async def read_at(store: ClientStore, keys: SessionKeys, number: int) -> Synthesis:
    """Return the synthesis as it was at a revision, built from all patches up to it.

    Raises NotFoundError if there is no such revision, or none yet.
    """
    document: Any = {}
    last = await _number(store, keys)
    if not 0 <= number <= last:
        there = f"the last one is {last}" if last else "there is none yet"
        raise NotFoundError(f"no revision {number} of {keys.name}: {there}")
    async for revision in _between(store, keys, 0, number):
        document = apply(keys, document, revision)
    return Synthesis(document, keys.revisions)


async def until_final(
    store: ClientStore, keys: SessionKeys, timeout_s: float | None = None
) -> Synthesis:
    """Wait, through outages, until all known agents have ended and all their results are folded.

    Raises WaitTimeoutError, which names the agents that have not ended.
    """
    known = Synthesis({})
    try:
        async with asyncio.timeout(timeout_s):
            known = await retry(lambda: read(store, keys))
            if known.is_final:
                return known
            document = known.document
            following = revisions(store, keys, known.revision, follow=True)
            async with aclosing(following):
                async for revision in following:
                    document = apply(keys, document, revision)
                    known = Synthesis(document, keys.revisions)
            return known
    except TimeoutError:
        raise WaitTimeoutError(
            f"waited {timeout_s:g} s for the synthesis of {keys.name} to be final: {_left(known)}"
        ) from None


async def _between(
    store: ClientStore, keys: SessionKeys, after: int, last: int
) -> AsyncIterator[Revision]:
    """Yield the revisions after one, up to another. Raises NotFoundError if one is gone."""
    while after < last:
        start, end = b"%d-0" % (after + 1), b"%d-0" % last
        page = await store.entries(keys.revisions, start, end, REVISIONS_PAGE)
        if not page:
            raise _missing(keys, after + 1)
        for revision in decoded(keys, page, after):
            after = revision.number
            yield revision


async def _number(store: ClientStore, keys: SessionKeys) -> int:
    """Return the number of the present revision, 0 while there is none."""
    number, _ = await store.fields(keys.synthesis, HEAD)
    with checked_reading(keys.synthesis, "hash"):
        return int(number or 0)


async def _pages(store: ClientStore, keys: SessionKeys) -> dict[str, Any]:
    """Return the document as the pages of the hash give it: a mixture of revisions."""
    document: dict[str, Any] = {"session": keys.name, REVISION: 0, COMPLETE: {}}
    document |= {section: {} for section in SECTIONS}
    decode = msgspec.json.Decoder().decode
    async with aclosing(store.scan(keys.synthesis, FIELDS_PAGE)) as scanning:
        async for page in scanning:
            with checked_reading(keys.synthesis, "hash"):
                for field, value in page.items():
                    section, _, name = field.decode().partition(":")
                    if section == COMPLETE:
                        msgspec.json.decode(value, type=Complete)
                        document[COMPLETE] = decode(value)
                    elif is_published(f"{section}:{name}", value):
                        DECODERS[section](value)  # raises if it is not one of our records
                        document[section][name] = decode(value)
    return document


def _left(known: Synthesis) -> str:
    if not known.revision:
        return "there is no revision yet; has an agent started, and is a synthesizer running?"
    active = [name for name, agent in known.agents.items() if not agent.has_ended]
    if active:
        verb = "has" if len(active) == 1 else "have"
        return f"{listed(active)} {verb} not ended (revision {known.revision})"
    sweeps = known.complete.sweeps
    return f"the results of {sweeps} {AGENTS} are being merged anew (revision {known.revision})"


async def revisions(
    store: ClientStore, keys: SessionKeys, after: int = 0, *, follow: bool = False
) -> AsyncGenerator[Revision, None]:
    """Yield the revisions after a number, in order, up to the present one.

    With `follow` also new ones, through outages, until one is final and none follows it. Raises
    NotFoundError if one of them is no longer there.
    """
    is_final = False
    while True:
        place = {keys.revisions: b"%d-0" % after}
        block_ms = BLOCK_MS if follow and not is_final else 0
        read = partial(store.read_streams, place, REVISIONS_PAGE, block_ms)
        found = await (retry(read) if follow else read())
        page = found.get(keys.revisions, [])
        for revision in decoded(keys, page, after):
            after, is_final = revision.number, revision.is_final
            yield revision
        if not page and (is_final or not follow):
            return


def decoded(keys: SessionKeys, entries: Iterable[Entry], after: int) -> Iterator[Revision]:
    """Yield the revisions in entries of the stream; the first must be the one after a number.

    Raises NotFoundError if one is missing, TamperedError if the fabric did not write one.
    """
    for entry_id, flat in entries:
        with checked_reading(keys.revisions, "stream of revisions"):
            fields = fields_of(flat)
            number = int(entry_id.partition(b"-")[0])
            revision = Revision(
                number,
                _patch(number, fields[b"patch"]),
                fields[b"causes"].decode().split(),
                int(fields[b"ms"]),
                fields[b"final"] == b"1",
            )
        if number != after + 1:
            raise _missing(keys, after + 1)
        after = number
        yield revision


def _missing(keys: SessionKeys, number: int) -> NotFoundError:
    """Return the error for a revision that existed and is no longer there."""
    return NotFoundError(
        f"revision {number} of {keys.name} is gone: somebody has trimmed {keys.revisions}; "
        "the present synthesis is complete, its history is not"
    )


def apply(keys: SessionKeys, document: Any, revision: Revision) -> Any:
    """Apply a revision to the document of the revision before it, in place; return the document.

    Raises TamperedError if the two do not belong together.
    """
    # Takes longer to import than most commands take, so only those that patch import it.
    import jsonpatch

    try:
        with checked_reading(keys.revisions, "stream of revisions"):
            return jsonpatch.apply_patch(document, revision.patch, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        found = f"stream whose revision {revision.number} cannot be applied ({error})"
        raise TamperedError(keys.revisions, found, "stream of revisions") from None


def _redo(keys: SessionKeys, document: Any, revision: Revision) -> Any:
    """Apply a revision to a document that may contain a part of it already; see `read`.

    What the revision removes may be gone.
    """
    import jsonpointer

    doable = [
        one
        for one in revision.patch
        if one["op"] != "remove"
        or jsonpointer.resolve_pointer(document, one["path"], _NOTHING) is not _NOTHING
    ]
    return apply(keys, document, msgspec.structs.replace(revision, patch=doable))


def _patch(number: int, raw: bytes) -> list[dict[str, Any]]:
    """Read a patch. One that `wire/document.py` never writes could take any time or memory."""
    patch = msgspec.json.decode(raw, type=list[dict[str, Any]])
    for operation in patch:
        path, place = operation["path"], _PLACES.fullmatch(operation["path"])
        if place is None or operation["op"] not in ("add", "remove"):
            raise ValueError(f"an unknown operation: {operation['op']} {path}")
        if operation["op"] == "remove":
            if place["section"] is None:
                raise ValueError(f"a removal that never happens: {path}")
            continue
        value = operation["value"]
        if path != f"/{REVISION}" and not isinstance(value, dict):
            raise ValueError(f"not a record: {path}")
        if path == "" and not (
            number == 1 and all(isinstance(value.get(name, {}), dict) for name in SECTIONS)
        ):
            raise ValueError("a whole document with an unknown shape, or after the first revision")
    return patch
