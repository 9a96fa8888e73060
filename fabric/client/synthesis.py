"""Reading a synthesis: as it is now, as it was at a revision, and as it is when all have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec

from fabric.backoff import retry
from fabric.client.revision import (
    REVISIONS_PAGE,
    Revision,
    apply,
    decoded,
    missing,
    redo,
    revisions,
)
from fabric.core.limits import listed
from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import AGENTS, SECTIONS, Complete
from fabric.errors import NotFoundError, TamperedError, WaitTimeoutError
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore
from fabric.store.synthesis import DECODERS, HEAD, is_published
from fabric.view.synthesis import Synthesis

#: Fields of the hash asked for at a time: a page is no longer work for the server than a commit.
FIELDS_PAGE = 200


async def read(store: ClientStore, keys: SessionKeys) -> Synthesis:
    """Return the synthesis as it is now, at one exact revision; revision 0 while there is none.

    The hash is read in pages, and may change between them. What is read so is made exact as a
    database makes its pages exact after a crash, with a redo log: a commit writes fields and their
    patch together, and a patch says of each field what it becomes, not how it changes. So whatever
    mixture the pages were of: with the patches from the first look to the last one applied in
    order, each field that has changed in between is what the last of them says, and each other
    field was never anything else.
    """
    first = await _number(store, keys)
    if first == 0:
        return Synthesis({})
    document = await _pages(store, keys)
    last = await _number(store, keys)
    async for revision in _between(store, keys, first, last):
        document = redo(keys, document, revision)
    document[REVISION] = last
    return Synthesis(document, keys.synthesis)


async def read_at(store: ClientStore, keys: SessionKeys, number: int) -> Synthesis:
    """Return the synthesis as it was at a revision, made of all patches up to there.

    Raises NotFoundError when there is no such revision, or none yet.
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
    """Wait until all agents known have ended and all they gave is folded; through outages.

    Raises WaitTimeoutError, saying who has not ended.
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
    """Yield the revisions after one up to another. Raises NotFoundError when one is gone."""
    while after < last:
        start, end = b"%d-0" % (after + 1), b"%d-0" % last
        page = await store.entries(keys.revisions, start, end, REVISIONS_PAGE)
        if not page:
            raise missing(keys, after + 1)
        for revision in decoded(keys, page, after):
            after = revision.number
            yield revision


async def _number(store: ClientStore, keys: SessionKeys) -> int:
    """Return the number of the present revision, 0 while there is none."""
    number, _ = await store.fields(keys.synthesis, HEAD)
    try:
        return int(number or 0)
    except ValueError as error:
        raise _foreign(keys, error) from None


async def _pages(store: ClientStore, keys: SessionKeys) -> dict[str, Any]:
    """Return the document as the pages of the hash give it, of no one revision."""
    document: dict[str, Any] = {"session": keys.name, REVISION: 0, COMPLETE: {}}
    document |= {section: {} for section in SECTIONS}
    decode = msgspec.json.Decoder().decode
    try:
        async with aclosing(store.scan(keys.synthesis, FIELDS_PAGE)) as scanning:
            async for page in scanning:
                for field, value in page.items():
                    section, _, name = field.decode().partition(":")
                    if section == COMPLETE:
                        msgspec.json.decode(value, type=Complete)
                        document[COMPLETE] = decode(value)
                    elif is_published(f"{section}:{name}", value):
                        DECODERS[section](value)  # what it holds is one of our records
                        document[section][name] = decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _foreign(keys, error) from None
    return document


def _left(known: Synthesis) -> str:
    if not known.revision:
        return "there is no revision yet; has an agent started, and is a synthesizer at work?"
    active = [name for name, agent in known.agents.items() if not agent.has_ended]
    if active:
        verb = "has" if len(active) == 1 else "have"
        return f"{listed(active)} {verb} not ended (revision {known.revision})"
    sweeps = known.complete.sweeps
    return f"what {sweeps} {AGENTS} have said is being judged anew (revision {known.revision})"


def _foreign(keys: SessionKeys, error: Exception) -> TamperedError:
    return TamperedError(keys.synthesis, f"hash with a foreign field ({error})", "hash")
