"""Payloads between agents and the synthesizer: findings, and what becomes of them (design, 4)."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from fabric.core.field import Count, Name, Names, Share
from fabric.core.limits import LIST_ITEMS_MAX


class Finding(Struct, frozen=True):
    """One finding of a partial result: what it is about, and what was found.

    `supersedes` names the keys of findings whose place it takes, its own among them or not. With
    `withdrawn` the agent takes back what it has said of the key, and there is no value.
    """

    key: Name
    value: Raw | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET
    confidence: Share | UnsetType = UNSET
    supersedes: Name | Names | UnsetType | None = UNSET
    withdrawn: bool = False

    def __post_init__(self) -> None:
        if (self.value is UNSET) is not self.withdrawn:
            raise ValueError("a `value`, or `withdrawn` as true: one of the two")


#: What `__post_init__` checks, for those who read the JSON Schema.
_OneFinding = Annotated[
    Finding,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": ["value"], "properties": {"withdrawn": {"const": False}}},
                {"required": ["withdrawn"], "properties": {"withdrawn": {"const": True}},
                 "not": {"required": ["value"]}},
            ]
        }
    ),
]  # fmt: skip


class Partial(Struct, frozen=True):
    """A partial document: typed findings where it has some; all else is merged as it stands."""

    findings: list[_OneFinding] | UnsetType = UNSET


class Rival(Struct, frozen=True, omit_defaults=True):
    """One of several different values for one thing: who gives it, how sure, and why.

    A value or evidence that is very large is left out; the synthesis has it.
    """

    agents: Annotated[list[Name], Meta(min_length=1, max_length=LIST_ITEMS_MAX)]
    digest: str
    value: Raw | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET


class Synthesized(Struct, frozen=True):
    """The synthesis is final: every agent known has ended, and all that they gave is in it."""

    revision: Count = 0
    agents: Count = 0
    findings: Count = 0
    contradictions: Count = 0


class Refined(Struct, frozen=True):
    """What a refiner has made of a synthesis as it was at a revision; any JSON."""

    refiner: Name
    value: Raw
    revision: Count = 0
