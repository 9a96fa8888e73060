"""Numbers in fields that anybody can write to: read as far as they can be ours."""

from __future__ import annotations

from typing import Final

from fabric.config.defaults import PARTITIONS_MAX
from fabric.errors import TamperedError

#: No number of ours comes near it: times in ms have 13 digits, with the worth of a priority 17.
#: Beyond a float's range the server fails on it as a score, in the middle of a commit.
NUMBER_LIMIT: Final = 10**18

#: Digits of such a number, with zeros that somebody has put before it.
_DIGITS_MAX = 40

#: Bytes of what is none that are told.
_SHOWN_BYTES_MAX = 40


def whole(value: bytes | None, limit: int = NUMBER_LIMIT) -> int | None:
    """Return the whole number below a limit that a field holds; None when it holds none."""
    if not value or not value.isdigit() or len(value) > _DIGITS_MAX:
        return None
    number = int(value)
    return number if number < limit else None


def partitions(key: str, value: bytes) -> int:
    """Return the number of partitions that a namespace's key holds. Raises TamperedError."""
    number = whole(value, PARTITIONS_MAX + 1)
    if not number:
        found = f"hash with partitions={value[:_SHOWN_BYTES_MAX]!r}"
        raise TamperedError(key, found, f"whole number up to {PARTITIONS_MAX} there")
    return number
