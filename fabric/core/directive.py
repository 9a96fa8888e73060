"""What the orchestrator says to agents: the directives and their payloads (design, section 4)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class DirectiveType(StrEnum):
    """What an agent can be told. The value is the word on the wire."""

    PAUSE = "PAUSE"
    RESUME = "RESUME"
    PROCEED = "PROCEED"
    WAIT = "WAIT"
    NUDGE = "NUDGE"
    ASSIGN = "ASSIGN"
    CANCEL = "CANCEL"
    DECISION = "DECISION"


class Resume(Struct, frozen=True, omit_defaults=True):
    """Go on: what you waited for is there."""

    reason: str
    dependency: str | None = None
    resources: list[str] = []
    barrier: str | None = None


class Nudge(Struct, frozen=True):
    """Somebody waits on you: for what, and who."""

    on: str
    waiting: list[str]


#: Directive type → payload struct, as far as this version gives them.
DIRECTIVES: dict[DirectiveType, type[Struct]] = {
    DirectiveType.RESUME: Resume,
    DirectiveType.NUDGE: Nudge,
}
