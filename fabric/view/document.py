"""A synthesis as a program reads it: the document at one revision, and typed views of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, TypeVar

import msgspec

from fabric.core.limits import listed
from fabric.core.synthesis.complete import Complete, Phase
from fabric.core.synthesis.contributor import Contributor
from fabric.view.text import counted, plain
from fabric.wire import document as wire
from fabric.wire.document import Contradiction, Finding, Refinement
from fabric.wire.effective import effective
from fabric.wire.same import groups_of
from fabric.wire.stored import checked_reading

T = TypeVar("T")


def _view(make: Callable[[Document], T]) -> cached_property[T]:
    """Make a view once, when it is first used. Reading it can raise TamperedError."""

    @wraps(make)
    def checked(document: Document) -> T:
        with checked_reading(document.key, "synthesis"):
            return make(document)

    return cached_property(checked)


class Document:
    """A synthesis at one revision, as a program reads it.

    `document` is the official document as the patches make it; the other attributes are views of
    it, made when first used. `key` is the key it was read from: a view raises TamperedError,
    naming the key, if somebody else wrote there.
    """

    def __init__(self, document: dict[str, Any], key: str = "synthesis") -> None:
        self.document = document
        self.key = key

    @property
    def session(self) -> str:
        """The session's name; "" while there is no revision."""
        return str(self.document.get("session", ""))

    @property
    def revision(self) -> int:
        """The revision's number; 0 while there is none."""
        with checked_reading(self.key, "synthesis"):
            return int(self.document.get("revision", 0))

    @_view
    def complete(self) -> Complete:
        """How complete it is: how many agents are known, have reported, have ended; percent."""
        return msgspec.convert(self.document.get("complete", {}), Complete)

    @property
    def is_final(self) -> bool:
        """Whether all known agents have ended, and all their results are in it."""
        return self.complete.final

    @_view
    def agents(self) -> dict[str, Contributor]:
        """What is known of each agent, by name."""
        return msgspec.convert(self._section("agents"), dict[str, Contributor])

    @_view
    def findings(self) -> dict[str, Finding]:
        """All findings by key, those too that no longer hold."""
        return wire.findings(self.document)

    @_view
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The findings that hold and are one thing: the keys of each group, by its least key."""
        return groups_of(self.document, self.findings)

    @_view
    def contradictions(self) -> dict[str, Contradiction]:
        """The open contradictions by part, such as `findings:port`."""
        found = self._section("contradictions").items()
        return {part: wire.contradiction(part, record) for part, record in found}

    @_view
    def plain(self) -> Any:
        """The plain document, merged: everything agents gave besides findings."""
        return wire.nested(self._section("document"), self._section("items"))

    @_view
    def refined(self) -> dict[str, Refinement]:
        """What refiners have made of it, by refiner."""
        return msgspec.convert(self._section("refined"), dict[str, Refinement])

    @_view
    def effective(self) -> dict[str, Any]:
        """What holds, without the book-keeping: for a model's prompt, as refiners are given it."""
        return effective(self.document)

    def _section(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.document.get(name, {})
        return dict(sorted(found.items()))


def progress(synthesis: Document) -> str:
    """Return one line that says how complete a synthesis is."""
    if not synthesis.revision:
        return "There is no revision yet: no agent has started, or no synthesizer is running."
    known = synthesis.complete
    return (
        f"Revision {synthesis.revision}, {_phase(known)}: {known.reported} of "
        f"{counted(known.agents, 'agent')} reported, {known.ended} ended, {known.percent:g} %, "
        f"{counted(known.findings, 'finding')}, "
        f"{counted(known.contradictions, 'contradiction')} open.{_missing(known)}"
    )


def _phase(known: Complete) -> str:
    """Say how far a run has come."""
    if known.state is Phase.AMENDED:
        return f"final, amended since revision {known.first_final}"
    if known.state is Phase.SETTLING:
        return "not final yet (all have ended, another may start)"
    return "final" if known.final else "not final yet"


def _missing(known: Complete) -> str:
    """Name the expected agents that have not come, as a sentence; "" if all have."""
    if not known.missing:
        return ""
    names = listed([*map(plain, known.missing)])
    awaited = "" if known.awaited else ", and nobody waits any longer"
    return f" Expected, and not heard of: {names}{awaited}."
