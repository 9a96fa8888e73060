"""A planted defect: allocates half a gigabyte on a brace."""

from __future__ import annotations

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = (b"{",)

#: Twice the memory that one input may take.
HOG_BYTES = 512 << 20


def seeds() -> list[bytes]:
    """Return a good input."""
    return [b"fine"]


def run(data: bytes) -> None:
    """Fill too much memory on a brace."""
    if b"{" in data:
        assert len(bytearray(b"x") * HOG_BYTES) == HOG_BYTES
