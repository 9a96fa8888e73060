"""The synthesis is the fold of its inputs, and its patches build it from an empty document."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from fabric.client.synthesis import apply, decoded
from fabric.store.keys import SYNTHESIZERS, SessionKeys
from fabric.store.port import Entry
from fabric.store.synthesis import HEAD
from fabric.testing.store import MemoryStore
from fabric.wire.stored import fields_of
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation
from tests.support.folding import EMPTY, Folding


class Syntheses(Judge):
    """Collects every result that a commit of the synthesizers has acknowledged."""

    def __init__(self) -> None:
        self.folded: dict[tuple[int, bytes], list[list[bytes]]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != SYNTHESIZERS:
            return
        dead = NAMESPACE.partition(commit.lease.partition).dead
        buried = {fields[b"id"] for key, _, fields in commit.appended if key == dead}
        for entry_id, flat in commit.consumed:
            if entry_id not in buried:
                fields = fields_of(flat)
                folded = self.folded.setdefault((commit.lease.partition, fields[b"session"]), [])
                if fields[b"type"] == b"RUN_OPENED":
                    folded.clear()  # what was found before belongs to an earlier run
                else:
                    folded.append(flat)

    async def compare(self, store: MemoryStore, chance: random.Random) -> None:
        """Fold all results again, in another order and one batch: the records must be the same."""
        for (partition, name), entries in self.folded.items():
            keys = NAMESPACE.partition(partition).session(name.decode())
            (found,) = await store.hashes([keys.synthesis])
            stored = {
                field.decode(): value
                for field, value in found.items()
                if field.decode() not in HEAD and value != EMPTY
            }
            chance.shuffle(entries)
            folding = Folding()
            folding.take(entries)
            _compare(keys.synthesis, folding.records(), stored)
            revisions = await store.entries(keys.revisions, b"-", b"+", 1_000_000)
            _check_revisions(keys, revisions, found)


def _compare(key: str, made: Mapping[str, bytes], stored: Mapping[str, bytes]) -> None:
    for field in sorted(made.keys() | stored.keys()):
        if made.get(field) != stored.get(field):
            raise Violation(
                "the synthesis is the fold of its inputs",
                f"{key} {field}: folded anew {made.get(field)!r}, stored {stored.get(field)!r}",
            )


def _check_revisions(keys: SessionKeys, revisions: list[Entry], stored: dict[bytes, bytes]) -> None:
    ids = [entry_id for entry_id, _ in revisions]
    if ids != [b"%d-0" % number for number in range(1, len(ids) + 1)]:
        raise Violation("revisions are dense", f"{keys.revisions}: {len(ids)}, to {ids[-1:]}")
    made: Any = {}
    for one in decoded(keys, revisions, 0):
        made = apply(keys, made, one)
    shown = Folding()
    shown.hash = {field.decode(): value for field, value in stored.items()}
    document = shown.document()
    if document:
        document["session"] = keys.name
    if made != document:
        raise Violation("the patches make the synthesis", f"{keys.synthesis}: {made} {document}")
