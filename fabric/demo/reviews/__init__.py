"""The reviewers of the fleet, one file each; `reviewer()` makes one by its name."""

from __future__ import annotations

from fabric.demo.reviews.complexity import Complexity
from fabric.demo.reviews.dead_code import DeadCode
from fabric.demo.reviews.imports import Imports
from fabric.demo.reviews.indexer import Indexer
from fabric.demo.reviews.review import Review, examine
from fabric.demo.reviews.safety import Safety
from fabric.demo.reviews.style import Style
from fabric.demo.symbols import Index

__all__ = ["REVIEWS", "Indexer", "Review", "alone", "examine", "reviewer"]

#: Reviewers that look at one file at a time.
_ALONE: dict[str, type[Style] | type[Complexity] | type[Safety]] = {
    "style": Style,
    "complexity": Complexity,
    "safety": Safety,
}
#: Reviewers that have to see the index of the whole tree first.
_WITH_INDEX: dict[str, type[DeadCode] | type[Imports]] = {"dead_code": DeadCode, "imports": Imports}

#: The names that `reviewer()` takes. `indexer` makes the index.
REVIEWS = ("indexer", *_ALONE, *_WITH_INDEX)


def alone() -> list[Review]:
    """Return a new one of each reviewer that looks at one file at a time."""
    return [made() for made in _ALONE.values()]


def reviewer(name: str, *, index: Index | None = None, package: str = "") -> Review:
    """Return a new reviewer. `index` is for `dead_code` and `imports`, `package` (of the listing)
    for `indexer`.

    Raises ValueError for an unknown name, or when a reviewer that needs the index gets none.
    """
    if name == "indexer":
        return Indexer(package)
    if name in _ALONE:
        return _ALONE[name]()
    if name not in _WITH_INDEX:
        raise ValueError(f"no reviewer is called {name!r}; there are {', '.join(REVIEWS)}")
    if index is None:
        raise ValueError(f"the reviewer {name} needs the symbol index")
    return _WITH_INDEX[name](index)
