"""The agents of the demo: who does what, in which stream, and who waits for whom.

Six review, and only read. Three work on a scratch copy of some of the files: INTEGRATOR makes it,
FORMATTER and ANNOTATOR want to edit the same file of it first, and then all the others.
"""

from __future__ import annotations

import msgspec

#: The dependency that INDEXER resolves; its location is the path of the index file (see
#: fabric.demo.symbols).
INDEX_DEPENDENCY = "index"

#: The dependency that INTEGRATOR resolves when the copy is there; its location is the folder (see
#: fabric.demo.workshop).
COPY_DEPENDENCY = "copy"

#: That folder, within the one that the fleet shares.
COPY_FOLDER = "copy"

#: The dependency that INTEGRATOR resolves when it has looked the fixes through: fixers stay for it.
CHECK_DEPENDENCY = "check-of-fixes"

#: The name of the barrier at which INTEGRATOR looks the fixes through.
FIXES_BARRIER = "fixes"

#: The checkpoints of a code review, in order (RESULT_STREAMING, "Checkpoint Definition").
CHECKPOINTS = ("files_read", "issues_found", "recommendations_drafted")


class Member(msgspec.Struct, frozen=True):
    """One agent: `program` is the module that it runs, `review` the name of its reviewer ("" for
    one that does not review); a higher `priority` goes first when two want the same.
    """

    name: str
    stream: str
    priority: int
    review: str = ""
    produces: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    program: str = "fabric.demo.reviewing"


REVIEWERS: tuple[Member, ...] = (
    Member("INDEXER", "A", 9, "indexer", produces=(INDEX_DEPENDENCY,)),
    Member("STYLE", "B", 3, "style"),
    Member("COMPLEXITY", "B", 5, "complexity"),
    Member("SAFETY", "C", 8, "safety"),
    Member("DEAD_CODE", "D", 4, "dead_code", waits_for=(INDEX_DEPENDENCY,)),
    Member("IMPORTS", "D", 6, "imports", waits_for=(INDEX_DEPENDENCY,)),
)

INTEGRATOR = Member(
    "INTEGRATOR",
    "E",
    5,
    produces=(COPY_DEPENDENCY, CHECK_DEPENDENCY),
    program="fabric.demo.integration",
)
FORMATTER = Member("FORMATTER", "F", 2, program="fabric.demo.fixing")
ANNOTATOR = Member("ANNOTATOR", "F", 7, program="fabric.demo.fixing")

#: In the order in which they ask for the first file; their priorities say otherwise.
FIXERS: tuple[Member, ...] = (FORMATTER, ANNOTATOR)

FLEET: tuple[Member, ...] = (*REVIEWERS, INTEGRATOR, *FIXERS)


def passed(number: int, count: int) -> str:
    """Return the name of a fixer's checkpoint after file `number` (from 1) of `count`."""
    return f"file {number} of {count}"
