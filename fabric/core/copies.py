"""Worktrees: agents in different copies of the project's files, and what will have to be merged.

Where the rules keep copies apart (`locks.worktrees` is `separate`), agents in different copies do
not exclude each other over paths in them: each writes its own. Whoever is granted a path that was
written in another copy is told, and so are the others at work, and the coordinator:
CONFLICT_DETECTED of kind `merge`. The file stands among those to be merged until an integration
has ended well (INTEGRATED).

Names that are no paths in a copy are the same thing for all: absolute paths, paths above the top,
and all with a colon in them, such as `db:main` and URLs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

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

    def add(self, resource: str) -> None:
        """File a resource that is in the table now."""
        self._index.add(resource)

    def remove(self, resource: str) -> None:
        """Forget a resource that is in the table no more."""
        self._index.remove(resource)


def to_merge(records: Mapping[str, WrittenRecord]) -> dict[str, dict[str, str]]:
    """Return what several copies have written: resource → copy → agent, for each that overlaps."""
    index = Index()
    for resource in records:
        index.add(resource)
    found: dict[str, dict[str, str]] = {}
    for resource in sorted(records):
        near: Iterable[str] = index.overlapping(resource)
        copies = {where: agent for one in near for where, agent in records[one].copies.items()}
        if len(copies) > 1:
            found[resource] = copies
    return found
