"""The six agents of the review fleet: who does what, in which stream, and who waits for whom."""

from __future__ import annotations

import msgspec

#: The dependency that INDEXER resolves; its location is the path of the index file (see
#: fabric.demo.symbols).
INDEX_DEPENDENCY = "index"

#: The checkpoints of a code review, in order (RESULT_STREAMING, "Checkpoint Definition").
CHECKPOINTS = ("files_read", "issues_found", "recommendations_drafted")


class Member(msgspec.Struct, frozen=True):
    """One agent: `review` is the name of its reviewer; a higher `priority` goes first when two want
    the same.
    """

    name: str
    stream: str
    priority: int
    review: str
    produces: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()


FLEET: tuple[Member, ...] = (
    Member("INDEXER", "A", 9, "indexer", produces=(INDEX_DEPENDENCY,)),
    Member("STYLE", "B", 3, "style"),
    Member("COMPLEXITY", "B", 5, "complexity"),
    Member("SAFETY", "C", 8, "safety"),
    Member("DEAD_CODE", "D", 4, "dead_code", waits_for=(INDEX_DEPENDENCY,)),
    Member("IMPORTS", "D", 6, "imports", waits_for=(INDEX_DEPENDENCY,)),
)
