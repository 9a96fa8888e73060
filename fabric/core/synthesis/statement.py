"""What agents have said about one thing, so kept that the order of arrival leaves no trace.

Of each incarnation of an agent three statements at most are kept: the last one it made, and the
last two that gave a value. Which these are follows from the statements' log numbers alone: the
same set of statements leaves the same ones, in whatever order and however often they come.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

#: Statements with a value that are kept of one incarnation: the last, and the one before.
VALUES_KEPT = 2

#: Incarnations of one agent whose statements about one thing are kept, the highest ones.
INCARNATIONS_KEPT_MAX = 16

#: Bytes of the digest by which a decision names values, however long they are.
DIGEST_BYTES = 8

#: Beyond this, a whole number is not the same in every reader of JSON.
WHOLE_MAX = 2**53

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class Standing(StrEnum):
    """What became of a statement."""

    HOLDS = "holds"
    #: A finding that another one supersedes.
    SUPERSEDED = "superseded"
    #: A person has decided for another value.
    REJECTED = "rejected"
    #: The agent has said something else since.
    REPLACED = "replaced"
    #: The agent has taken it back.
    WITHDRAWN = "withdrawn"
    #: Of an incarnation that has died, and that the next one has not confirmed.
    STALE = "stale"


#: The agent still says so, whatever others make of it.
SAID = frozenset({Standing.HOLDS, Standing.SUPERSEDED, Standing.REJECTED})


class Statement(Struct, omit_defaults=True, gc=False):
    """One agent's word about one thing; with `withdrawn`, that it says nothing about it any more.

    `log` is the number of the log entry that said it (its id is `<log>-0`), `ms` its time. A value
    is left out where it is the same as that of the whole.
    """

    log: int
    ms: int
    incarnation: int = 1
    standing: Standing = Standing.HOLDS
    value: Raw | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET
    confidence: float | UnsetType = UNSET
    supersedes: list[str] = []
    withdrawn: bool = False


def keep(said: list[Statement], new: Statement) -> list[Statement] | None:
    """Return what is kept with one statement more, the last first; None when nothing changes."""
    same = [one for one in said if one.incarnation == new.incarnation]
    if any(one.log == new.log for one in same):
        return None
    same.append(new)
    same.sort(key=_log, reverse=True)
    values = [one for one in same if not one.withdrawn][:VALUES_KEPT]
    kept = [one for one in same if one is same[0] or one in values]
    if new not in kept:
        return None
    others = [one for one in said if one.incarnation != new.incarnation]
    if not others:
        return kept
    kept += others
    kept.sort(key=lambda one: (one.incarnation, one.log), reverse=True)
    incarnations = sorted({one.incarnation for one in kept}, reverse=True)
    if len(incarnations) > INCARNATIONS_KEPT_MAX:
        lowest = incarnations[INCARNATIONS_KEPT_MAX - 1]
        kept = [one for one in kept if one.incarnation >= lowest]
        if new.incarnation < lowest:
            return None
    return kept


def last_values(said: list[Statement]) -> dict[int, Statement]:
    """Return each incarnation's last statement that gave a value."""
    found: dict[int, Statement] = {}
    for one in said:
        if not one.withdrawn:
            found.setdefault(one.incarnation, one)
    return found


def canonical(value: Any) -> bytes:
    """Return a value as JSON, the same bytes for the same value: 1.0 is 1, members are sorted."""
    kind = type(value)
    if kind is str or kind is int or kind is bool:
        return _encode(value)
    return _encode(_normal(value))


def canonical_raw(raw: Raw) -> Raw:
    """Return JSON in its canonical form."""
    return Raw(canonical(_decode(raw)))


def digest(value: Raw) -> str:
    """Return what tells a canonical value from others, in hexadecimal."""
    return hashlib.blake2b(bytes(value), digest_size=DIGEST_BYTES).hexdigest()


def _normal(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < WHOLE_MAX else value
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {name: _normal(item) for name, item in value.items()}
    return value


def _log(statement: Statement) -> int:
    return statement.log
