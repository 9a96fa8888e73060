"""Worktrees: agents in different copies of the project's files, and what will have to be merged.

Where the rules keep copies apart (`locks.worktrees` is `separate`), agents in different copies do
not exclude each other over paths in them: each writes its own. Whoever is granted a path that was
written in another copy is told, and so are the others at work, and the coordinator:
CONFLICT_DETECTED of kind `merge`. The file stands among those to be merged until an integration
has ended well (INTEGRATED). Whoever can see both copies later says what git makes of them.

Names that are no paths in a copy are the same thing for all: absolute paths, paths above the top,
and all with a colon in them, such as `db:main` and URLs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple, Protocol

from fabric.core.record import WrittenRecord
from fabric.core.resource import Index


class Claimant(Protocol):
    """A claim, or its place in a queue: of which agent, in which copy."""

    @property
    def agent(self) -> str:
        """The agent."""

    @property
    def copy(self) -> str:
        """The copy in which the claim is kept apart, "" if it excludes those in all copies."""


def is_related(a: str, b: str) -> bool:
    """Whether two names are one agent's, or one is an ancestor of the other: W and W/reviewer."""
    return a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/")


def is_apart(one: Claimant, other: Claimant, mine: str, theirs: str) -> bool:
    """Whether two claims do not exclude each other, though they overlap in these resources."""
    if is_related(one.agent, other.agent):
        return True
    return (
        one.copy != other.copy
        and one.copy != ""
        and other.copy != ""
        and is_in_copy(mine)
        and is_in_copy(theirs)
    )


def is_in_copy(resource: str) -> bool:
    """Whether a resource is a path in a copy of the files: each copy then has one of its own."""
    return ":" not in resource and not resource.startswith(("/", ".."))


class Written:
    """The resources that were written in some copy, and where they overlap."""

    def __init__(self, records: Mapping[str, WrittenRecord]) -> None:
        """`records` is the table's own dictionary."""
        self._records = records
        self._index = Index()
        for resource in records:
            self._index.add(resource)

    def others(self, resource: str, copy: str) -> list[str]:
        """Name the agents that wrote what overlaps a resource in other copies."""
        return [
            agent
            for near in self._index.overlapping(resource)
            for where, agent in self._records[near].copies.items()
            if where != copy
        ]

    def overlapping(self, resource: str) -> Iterable[str]:
        """Name the resources in the table that overlap a resource, itself included."""
        return self._index.overlapping(resource)

    def add(self, resource: str) -> None:
        """File a resource that is in the table now."""
        self._index.add(resource)

    def remove(self, resource: str) -> None:
        """Forget a resource that is in the table no more."""
        self._index.remove(resource)


class ToMerge(NamedTuple):
    """A resource that several copies have written."""

    #: Copy → the agent that wrote it there.
    copies: dict[str, str]
    #: Log number of the event that granted it last, in any copy.
    log: int
    #: Two copies → whether git finds a conflict; without those of which nobody can say.
    found: dict[tuple[str, str], bool]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs of copies."""
        return [*combinations(sorted(self.copies), 2)]


def to_merge(
    records: Mapping[str, WrittenRecord], written: Written | None = None, only: str = ""
) -> dict[str, ToMerge]:
    """Return what several copies have written, by resource; all of it, or `only` one resource.

    What git has found counts until one of the two may have been written again.
    """
    written = written or Written(records)
    found: dict[str, ToMerge] = {}
    for resource in [only] if only else sorted(records):
        near = [records[one] for one in written.overlapping(resource)]
        copies = {where: agent for one in near for where, agent in one.copies.items()}
        if len(copies) > 1 and resource in records:
            granted = max(one.log for one in near)
            tried = [one for one in records[resource].tried if one.log >= granted]
            verdicts = {(one.copies[0], one.copies[1]): one.conflicts for one in tried}
            found[resource] = ToMerge(copies, granted, verdicts)
    return found
