"""A synthesis as programs and people read it: typed views of the official document.

The document itself is what the patches make (`patch.py`): every part with all that was said of it.
The views say what came of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, wraps
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from fabric.core.contradiction import question_of
from fabric.core.synthesis.part import SAID, Edge, Standing, State
from fabric.core.synthesis.state import Complete, Contributor
from fabric.wire import nesting
from fabric.wire.stored import checked_reading

T = TypeVar("T")


class Source(Struct, frozen=True):
    """One statement: who says what, since when (ms since the epoch), and what became of it.

    `log` is the number of the log entry that said it. Without a value it takes one back.
    """

    agent: str
    log: int
    ms: int
    incarnation: int = 1
    standing: Standing = Standing.HOLDS
    value: Any = None
    evidence: Any = None
    confidence: float | None = None
    supersedes: list[str] = []

    @property
    def is_said(self) -> bool:
        """Whether the agent still says so, whatever others make of it."""
        return self.standing in SAID


class Ruling(Struct, frozen=True):
    """What a person has decided: for whose value, who and when (ms since the epoch)."""

    decision: str
    by: str
    log: int
    ms: int


class Finding(Struct, frozen=True):
    """What is known of one key. `value` is None while nothing holds, or two values do.

    `sources` are all statements that are kept, in the order of the log. `first_ms` is when it was
    first spoken of, ms since the epoch.
    """

    key: str
    state: State
    value: Any
    sources: list[Source]
    first_ms: int
    superseded_by: list[Edge] = []
    ruling: Ruling | None = None


class Contradiction(Struct, frozen=True):
    """Different values for one part, in the order in which they were first given.

    Each is a list of who gives it; `question` is what a person answers, with one of `options`.
    """

    part: str
    question: str
    values: list[list[Source]]

    @property
    def options(self) -> list[str]:
        """One agent for each value: to decide for the agent is to decide for the value."""
        return [claims[0].agent for claims in self.values]


class Refinement(Struct, frozen=True):
    """What a refiner made of a revision, when (ms since the epoch)."""

    value: Any
    log: int
    ms: int
    revision: int = 0


def _view(make: Callable[[Synthesis], T]) -> cached_property[T]:
    """A view that is made once. Raises TamperedError when the document is none of ours."""

    @wraps(make)
    def checked(synthesis: Synthesis) -> T:
        with checked_reading(synthesis.key, "synthesis"):
            return make(synthesis)

    return cached_property(checked)


class Synthesis:
    """A synthesis at one revision. `document` is the official one: views are made as needed.

    `key` is where it comes from: others may have written there, and a view that meets what is not
    ours raises TamperedError.
    """

    def __init__(self, document: dict[str, Any], key: str = "synthesis") -> None:
        self.document = document
        self.key = key

    @property
    def session(self) -> str:
        """The session that it is of; "" while there is no revision."""
        return str(self.document.get("session", ""))

    @property
    def revision(self) -> int:
        """Its number, 0 while there is none."""
        with checked_reading(self.key, "synthesis"):
            return int(self.document.get("revision", 0))

    @_view
    def complete(self) -> Complete:
        """How complete it is: agents that have reported and ended, of those known; percent."""
        return msgspec.convert(self.document.get("complete", {}), Complete)

    @property
    def is_final(self) -> bool:
        """Whether all agents known have ended, and all that they gave is in it."""
        return self.complete.final

    @_view
    def agents(self) -> dict[str, Contributor]:
        """What is known of each agent, by name."""
        return msgspec.convert(self._section("agents"), dict[str, Contributor])

    @_view
    def findings(self) -> dict[str, Finding]:
        """All findings by key, those too that no longer hold."""
        return {key: finding(key, part) for key, part in self._section("findings").items()}

    @_view
    def contradictions(self) -> dict[str, Contradiction]:
        """The open contradictions by part: `findings:port`."""
        return {
            part: contradiction(part, record)
            for part, record in self._section("contradictions").items()
        }

    @_view
    def plain(self) -> Any:
        """The plain document, merged: what agents gave besides findings (see `nesting.py`)."""
        return nesting.nested(self._section("document"), self._section("items"))

    @_view
    def refined(self) -> dict[str, Refinement]:
        """What refiners have made of it, by refiner."""
        return msgspec.convert(self._section("refined"), dict[str, Refinement])

    def _section(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.document.get(name, {})
        return dict(sorted(found.items()))


def finding(key: str, part: Mapping[str, Any]) -> Finding:
    """Return the view of a part."""
    verdict = part.get("verdict")
    return Finding(
        key,
        State(part["state"]),
        part.get("value"),
        sources(part),
        part.get("first", {}).get("ms", 0),
        msgspec.convert(part.get("superseded_by", []), list[Edge]),
        msgspec.convert(verdict, Ruling) if verdict is not None else None,
    )


def sources(part: Mapping[str, Any]) -> list[Source]:
    """Return all statements of a part, in the order of the log."""
    found = [
        msgspec.convert({"agent": agent, **_valued(one, part)}, Source)
        for agent, said in part["said"].items()
        for one in said
    ]
    return sorted(found, key=lambda one: (one.log, one.agent))


def contradiction(part: str, record: Mapping[str, Any]) -> Contradiction:
    """Return the view of a contradiction's record."""
    values = [[msgspec.convert({"ms": 0, **one}, Source) for one in c] for c in record["values"]]
    return Contradiction(part, question_of(part), values)


def _valued(statement: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a statement the value that the part says once for all."""
    if "value" in statement or statement.get("withdrawn") or "value" not in part:
        return statement
    return {**statement, "value": part["value"]}
