"""A synthesis as fields of one hash: JSON that redis-cli shows, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from fabric.core.contradiction import DOCUMENT, FINDINGS, ITEMS
from fabric.core.rules import Rules
from fabric.core.synthesis import contributor, state
from fabric.core.synthesis.complete import Complete, Roster
from fabric.core.synthesis.fold import SWEEP
from fabric.core.synthesis.merge import ADDED_UP, EXACT, MergeRules
from fabric.core.synthesis.publish import COMPLETE, REVISION, RULES, Revision
from fabric.core.synthesis.relation import Relations
from fabric.store.keys import SessionKeys
from fabric.store.port import Batch
from fabric.wire import record
from fabric.wire.document import patch
from fabric.wire.stored import checked_reading

#: The fields that belong to no part: the revision, how complete the synthesis is, and the rules
#: that it is merged by.
HEAD: Final = (REVISION, COMPLETE, RULES)

#: The revision that refiners must still read, with their names (`Refining`); and, beneath it by
#: refiner, the last revision of which a run has made nothing. Neither is in the document.
REFINING: Final = "refining"

#: Revisions that are cut at a time.
REVISIONS_CUT: Final = 64

_decode_part = msgspec.json.Decoder(state.Part).decode
_decode_complete = msgspec.json.Decoder(Complete).decode
_decode_rules = msgspec.json.Decoder(MergeRules).decode

#: Section of a field (before its first colon) → decoder of its value.
DECODERS: Final[dict[str, Callable[[bytes], state.Record]]] = {
    FINDINGS: _decode_part,
    DOCUMENT: _decode_part,
    ITEMS: _decode_part,
    state.AGENTS: msgspec.json.Decoder(contributor.Contributor).decode,
    state.CONTRADICTIONS: msgspec.json.Decoder(state.ContradictionRecord).decode,
    state.REFINED: msgspec.json.Decoder(state.RefinementRecord).decode,
    state.RELATIONS: msgspec.json.Decoder(Relations).decode,
    state.ROSTER.removesuffix(":"): msgspec.json.Decoder(Roster).decode,
    SWEEP: msgspec.json.Decoder(state.Sweep).decode,
}


class Refining(Struct, frozen=True):
    """The last revision that is to be refined, and the refiners that are to run."""

    revision: int
    refiners: list[str]


def refining_field(refiner: str) -> str:
    """Return the field with the last revision of which a refiner has made nothing."""
    return f"{REFINING}:{refiner}"


decode_refining = msgspec.json.Decoder(Refining).decode


def restore(
    keys: SessionKeys,
    head: Sequence[bytes | None],
    rules_in_force: bytes,
) -> state.SynthesisState:
    """Return the synthesis with this head; a new one, by the rules in force, when there is none.

    Raises TamperedError when the fabric did not write it.
    """
    revision, complete, rules = head
    if revision is None:
        return state.SynthesisState(keys.name, rules=rules_in_force)
    with checked_reading(keys.synthesis, "hash"):
        known = _decode_complete(complete or b"{}")
        inherits = rules is not None and _decode_rules(rules).version > EXACT
        number, encoded = int(revision), state.encode(known)
        return state.SynthesisState(keys.name, number, rules or b"", inherits, known, encoded)


def merge_rules(stored: bytes, rules: Rules) -> MergeRules:
    """Return the rules that a synthesis is merged by; `stored` is empty if it began without."""
    return _decode_rules(stored) if stored else MergeRules.of(rules, ADDED_UP)


def same_rules(stored: bytes) -> bytes:
    """Return the rules by which findings are one, as the document has them; empty for none."""
    same = _decode_rules(stored).same if stored else ()
    return state.encode(same) if same else b""


def load(
    synthesis: state.SynthesisState, keys: SessionKeys, stored: Iterable[tuple[str, bytes | None]]
) -> None:
    """Bring fields, by name, into memory. Raises TamperedError."""
    with checked_reading(keys.synthesis, "hash"):
        for field, value in stored:
            decode = DECODERS[field.partition(":")[0]]
            synthesis.records[field] = decode(value) if value is not None else None


def save(
    batch: Batch,
    keys: SessionKeys,
    synthesis: state.SynthesisState,
    revision: Revision,
    revisions_max: int,
) -> None:
    """Add a revision to a batch: its fields, its index, and its patch; cut those too old."""
    if revision.is_beginning:
        head = {COMPLETE: revision.complete, REVISION: b"%d" % synthesis.revision}
        if synthesis.rules:
            head[RULES] = synthesis.rules
        batch.delete(keys.synthesis, "hash")
        batch.write_fields(keys.synthesis, head.items())
    if revision.fields or revision.number:
        head = {COMPLETE: revision.complete, REVISION: b"%d" % synthesis.revision}
        if synthesis.revision <= 1 and synthesis.rules:
            head[RULES] = synthesis.rules
        batch.write_fields(keys.synthesis, (revision.fields | head).items())
        if synthesis.revision > 1 and not revision.is_beginning:
            batch.expect(keys.synthesis)
    for agent, names in revision.index.items():
        members = [item for name in names for item in (0, name)]
        batch.write_parts("ZADD", keys.said(agent), members)
    if revision.number:
        is_first = revision.number == 1 or revision.is_beginning
        made = patch(
            synthesis.name,
            revision.number,
            revision.complete,
            revision.operations,
            same=same_rules(synthesis.rules) if is_first else b"",
            is_beginning=revision.is_beginning,
        )
        batch.size_bytes += len(made)
        entry = record.revision(made, revision.causes, revision.ms, final=revision.is_final)
        batch.append(keys.revisions, f"{revision.number}-0", *entry)
        if revision.number % REVISIONS_CUT == 0 and revision.number > revisions_max:
            batch.trim(keys.revisions, f"{revision.number - revisions_max + 1}-0")


def is_published(field: str, value: bytes) -> bool:
    """Whether a field of the hash is a member of the document, not a note for the fabric itself."""
    section = field.partition(":")[0]
    if section in (FINDINGS, DOCUMENT):
        # Not published: a place that contains others, or a key superseded before any contribution.
        return bool(_decode_part(value).said)
    return section in state.SECTIONS
