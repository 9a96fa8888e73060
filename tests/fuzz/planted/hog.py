"""Planted: takes half a gigabyte on a brace."""

from __future__ import annotations

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = (b"{",)

#: Twice what one input may take.
HOG_BYTES = 512 << 20


def seeds() -> list[bytes]:
    """Return an input on which nothing is wrong."""
    return [b"fine"]


def run(data: bytes) -> None:
    """Write to much memory on a brace."""
    if b"{" in data:
        assert len(bytearray(b"x") * HOG_BYTES) == HOG_BYTES
