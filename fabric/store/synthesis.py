"""A synthesis as fields of one hash: JSON that redis-cli shows, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from fabric.core.contradiction import DOCUMENT, FINDINGS, ITEMS
from fabric.core.synthesis.fold import SWEEP
from fabric.core.synthesis.part import Part
from fabric.core.synthesis.publish import COMPLETE, REVISION, Revision
from fabric.core.synthesis.state import (
    AGENTS,
    CONTRADICTIONS,
    REFINED,
    Complete,
    Contradiction,
    Contributor,
    Record,
    Refined,
    Sweep,
    Synthesis,
)
from fabric.errors import TamperedError
from fabric.store.keys import SessionKeys
from fabric.store.port import Batch
from fabric.store.state import FIELDS_MAX
from fabric.wire import record
from fabric.wire.document import patch

#: Fields that say how far a synthesis has come.
HEAD: Final = (REVISION, COMPLETE)

_decode_part = msgspec.json.Decoder(Part).decode
_decode_complete = msgspec.json.Decoder(Complete).decode

#: Section of a field, before its first colon → what decodes its value.
DECODERS: Final[dict[str, Callable[[bytes], Record]]] = {
    FINDINGS: _decode_part,
    DOCUMENT: _decode_part,
    ITEMS: _decode_part,
    AGENTS: msgspec.json.Decoder(Contributor).decode,
    CONTRADICTIONS: msgspec.json.Decoder(Contradiction).decode,
    REFINED: msgspec.json.Decoder(Refined).decode,
    SWEEP: msgspec.json.Decoder(Sweep).decode,
}


def restore(keys: SessionKeys, revision: bytes | None, complete: bytes | None) -> Synthesis:
    """Return the synthesis whose head this is; a new one when there is none.

    Raises TamperedError when it is not what the fabric writes.
    """
    if revision is None:
        return Synthesis(keys.name)
    try:
        return Synthesis(keys.name, int(revision), _decode_complete(complete or b"{}"))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _foreign(keys, error) from None


def load(synthesis: Synthesis, keys: SessionKeys, field: str, value: bytes | None) -> None:
    """Bring one field into memory. Raises TamperedError."""
    try:
        decode = DECODERS[field.partition(":")[0]]
        synthesis.records[field] = decode(value) if value is not None else None
    except (msgspec.MsgspecError, ValueError, LookupError, RecursionError) as error:
        raise _foreign(keys, error) from None


def save(batch: Batch, keys: SessionKeys, synthesis: Synthesis, revision: Revision) -> None:
    """Add a revision to a batch: its fields, its index, and its patch."""
    written: list[Any] = []
    dropped: list[str] = []
    for field, value in revision.fields.items():
        if value is None:
            dropped.append(field)
        else:
            written += (field, value)
            batch.size_bytes += len(value)
    if revision.fields:
        written += (COMPLETE, revision.complete, REVISION, synthesis.revision)
    for start in range(0, len(written), 2 * FIELDS_MAX):
        batch.write("HSET", keys.synthesis, written[start : start + 2 * FIELDS_MAX])
    for start in range(0, len(dropped), FIELDS_MAX):
        batch.write("HDEL", keys.synthesis, dropped[start : start + FIELDS_MAX])
    for agent, names in revision.index.items():
        members = [item for name in names for item in (0, name)]
        for start in range(0, len(members), 2 * FIELDS_MAX):
            batch.write("ZADD", keys.said(agent), members[start : start + 2 * FIELDS_MAX])
    if revision.number:
        made = patch(synthesis.name, revision.number, revision.complete, revision.operations)
        batch.size_bytes += len(made)
        entry = record.revision(made, revision.causes, revision.ms, final=revision.is_final)
        batch.append(keys.revisions, f"{revision.number}-0", *entry)


def is_published(field: str, value: bytes) -> bool:
    """Whether a field of the hash is a member of the document, and not the fabric's own note."""
    section = field.partition(":")[0]
    if section in (FINDINGS, DOCUMENT):
        # A place that others lie in, or a key that is superseded before anybody spoke of it.
        return bool(_decode_part(value).said)
    return section in DECODERS and section != SWEEP


def _foreign(keys: SessionKeys, error: Exception) -> TamperedError:
    return TamperedError(keys.synthesis, f"hash with a foreign field ({error})", "hash")
