"""The revisions of a synthesis, one after the other: what changed, and what it followed from."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from fabric.backoff import retry
from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import SECTIONS
from fabric.errors import NotFoundError, TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore, Entry
from fabric.wire.stored import checked_reading, fields_of

#: Revisions read at a time. A patch can be as large as a commit: a page stays far below what would
#: keep the server busy for long.
REVISIONS_PAGE = 20

#: Blocking reads end after so long and begin again, ms.
BLOCK_MS = 2_000

_NOTHING = object()

#: What a patch can set: all of it, a number, or a record in one of the sections.
_PLACES = re.compile(rf"|/{REVISION}|/{COMPLETE}|/(?P<section>{'|'.join(SECTIONS)})/[^/]*")


class Revision(Struct, frozen=True):
    """One revision: a JSON Patch (RFC 6902) that makes it of the one before, the first one of `{}`.

    `causes` are the log ids of what it followed from, `ms` the latest time among them, in ms since
    the epoch. `is_final`: all agents known had ended by then.
    """

    number: int
    patch: list[dict[str, Any]]
    causes: list[str]
    ms: int
    is_final: bool


async def revisions(
    store: ClientStore, keys: SessionKeys, after: int = 0, *, follow: bool = False
) -> AsyncGenerator[Revision, None]:
    """Yield the revisions after a number, in order, to the present one.

    With `follow` also those to come, through outages, until one is final and none is after it.
    Raises NotFoundError when one of them is no longer there.
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
    """Yield the revisions that entries of the stream hold: the next one after a number, and so on.

    Raises NotFoundError when one is missing in between, TamperedError when one is none of ours.
    """
    for entry_id, flat in entries:
        with checked_reading(keys.revisions, "stream of revisions"):
            revision = _revision(entry_id, flat)
        if revision.number != after + 1:
            raise missing(keys, after + 1)
        after = revision.number
        yield revision


def missing(keys: SessionKeys, number: int) -> NotFoundError:
    """Return what is raised when a revision that was once made is no longer there."""
    return NotFoundError(
        f"revision {number} of {keys.name} is gone: somebody has trimmed {keys.revisions}; "
        f"the synthesis as it is now is whole, what led to it is not"
    )


def apply(keys: SessionKeys, document: Any, revision: Revision) -> Any:
    """Return what a revision makes of the one before, which is changed in place.

    Raises TamperedError when the two do not belong together.
    """
    # Takes longer to import than most commands take: only who patches pays for it.
    import jsonpatch

    try:
        with checked_reading(keys.revisions, "stream of revisions"):
            return jsonpatch.apply_patch(document, revision.patch, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        found = f"stream whose revision {revision.number} cannot be applied ({error})"
        raise TamperedError(keys.revisions, found, "stream of revisions") from None


def redo(keys: SessionKeys, document: Any, revision: Revision) -> Any:
    """Return what a revision makes of a document that may have some of it already.

    See `synthesis.read`. What it takes away may be gone.
    """
    doable = [one for one in revision.patch if one["op"] != "remove" or _has(document, one["path"])]
    return apply(keys, document, msgspec.structs.replace(revision, patch=doable))


def _has(document: Any, pointer: str) -> bool:
    import jsonpointer

    return jsonpointer.resolve_pointer(document, pointer, _NOTHING) is not _NOTHING


def _revision(entry_id: bytes, flat: list[bytes]) -> Revision:
    fields = fields_of(flat)
    number = int(entry_id.partition(b"-")[0])
    return Revision(
        number,
        _patch(number, fields[b"patch"]),
        fields[b"causes"].decode().split(),
        int(fields[b"ms"]),
        fields[b"final"] == b"1",
    )


def _patch(number: int, raw: bytes) -> list[dict[str, Any]]:
    """Read a patch. What `wire/patch.py` never writes could take any time, or any memory."""
    patch = msgspec.json.decode(raw, type=list[dict[str, Any]])
    for operation in patch:
        path, place = operation["path"], _PLACES.fullmatch(operation["path"])
        if place is None or operation["op"] not in ("add", "remove"):
            raise ValueError(f"no operation of ours: {operation['op']} {path}")
        if operation["op"] == "remove":
            if place["section"] is None:
                raise ValueError(f"nothing that is ever taken away: {path}")
            continue
        value = operation["value"]
        if path != f"/{REVISION}" and not isinstance(value, dict):
            raise ValueError(f"no record of ours: {path}")
        if path == "" and not (
            number == 1 and all(isinstance(value.get(name, {}), dict) for name in SECTIONS)
        ):
            raise ValueError("a document that is none of ours, or comes too late")
    return patch
