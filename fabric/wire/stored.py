"""What others may have written into our keys: read it as ours, and say so when it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from fabric.errors import TamperedError
from fabric.wire.printable import printable

#: What goes wrong in reading a document of another shape than ours.
_WRONG = (
    msgspec.MsgspecError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
)

#: Characters of what went wrong that are told.
_TOLD_CHARS_MAX = 300


@contextmanager
def checked_reading(key: str, kind: str) -> Iterator[None]:
    """Read what a key of a kind (`hash`) holds. Raises TamperedError when it is none of ours."""
    try:
        yield
    except _WRONG as error:
        found = f"{kind} with a foreign field ({printable(str(error)[:_TOLD_CHARS_MAX])})"
        raise TamperedError(key, found, kind) from None
