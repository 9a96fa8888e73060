"""The revisions of a synthesis: read from the stream, checked, and applied to a document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import RELATIONS, SECTIONS
from fabric.errors import NotFoundError, TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.port import Entry
from fabric.view.change import changes
from fabric.view.text import counted
from fabric.wire.stored import checked_reading, fields_of

_NOTHING = object()

#: Paths that a patch can set: the whole document, a member of it, or a record in a section.
_PLACES = re.compile(
    rf"|/{REVISION}|/{COMPLETE}|/{RELATIONS}|/(?P<section>{'|'.join(SECTIONS)})/[^/]*"
)


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
            raise missing(keys, after + 1)
        after = number
        yield revision


def missing(keys: SessionKeys, number: int) -> NotFoundError:
    """Return the error for a revision that existed and is no longer there."""
    return NotFoundError(
        f"revision {number} of {keys.name} is gone: only the latest are kept (revisions_max in "
        f"[retention]), or somebody has trimmed {keys.revisions}; the present synthesis is "
        "complete, its history is not"
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


def redo(keys: SessionKeys, document: Any, revision: Revision) -> Any:
    """Apply a revision to a document that may contain a part of it already; see Session.

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
            value.get(REVISION) == number
            and all(isinstance(value.get(name, {}), dict) for name in SECTIONS)
        ):
            raise ValueError("a whole document with an unknown shape, or of another revision")
    return patch
