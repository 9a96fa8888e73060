"""What is said of keys as such: two are one thing or are not, and files have another name now.

A person joins keys or keeps them apart; an agent does so in its findings (`same_as`). RENAMED moves
all keys beneath a path, whenever they were said: what an agent still says of the old path it says
of the file that was moved. Of each pair, and of each old path, the latest word counts.
"""

from __future__ import annotations

from msgspec import Struct

#: Pairs that a session keeps, and renamed paths: all of them are one record. The latest are kept.
PAIRS_MAX = 1_000
RENAMES_MAX = 1_000


class Pair(Struct, frozen=True, omit_defaults=True):
    """Two keys, sorted, that are one thing; with `distinct`, that are not."""

    keys: tuple[str, str]
    log: int
    by: str
    distinct: bool = False


class Rename(Struct, frozen=True, rename={"old": "from", "new": "to"}):
    """A path that has another name since a log number."""

    old: str
    new: str
    log: int
    by: str


class Relations(Struct, omit_defaults=True):
    """All pairs and renames of a session, each sorted."""

    pairs: list[Pair] = []
    renamed: list[Rename] = []

    def add(self, said: list[Pair | Rename]) -> bool:
        """Add what was said; return whether anything has changed."""
        before = (self.pairs, self.renamed)
        pairs = {one.keys: one for one in self.pairs}
        renamed = {one.old: one for one in self.renamed}
        for one in said:
            if isinstance(one, Pair):
                if one.keys not in pairs or pairs[one.keys].log < one.log:
                    pairs[one.keys] = one
            elif one.old not in renamed or renamed[one.old].log < one.log:
                renamed[one.old] = one
        latest = sorted(pairs.values(), key=lambda one: (one.log, one.keys))[-PAIRS_MAX:]
        self.pairs = sorted(latest, key=lambda one: one.keys)
        kept = sorted(renamed.values(), key=lambda one: (one.log, one.old))[-RENAMES_MAX:]
        self.renamed = sorted(kept, key=lambda one: one.old)
        return before != (self.pairs, self.renamed)

    def moved(self, path: str) -> str:
        """Return the present name of a path: the renames that concern it, in their order."""
        for one in sorted(self.renamed, key=lambda one: one.log):
            if path == one.old or path.startswith(f"{one.old}/"):
                path = one.new + path[len(one.old) :]
        return path
