"""Planted: raises on a brace. Nothing else may come of that than a report."""

from __future__ import annotations

ANSWERS = (ValueError,)
WORDS = (b"{",)


def seeds() -> list[bytes]:
    """Return an input on which nothing is wrong, and one that is refused."""
    return [b"fine", b""]


def run(data: bytes) -> None:
    """Refuse the empty input, and fail on a brace."""
    if not data:
        raise ValueError("nothing given")
    if b"{" in data:
        raise ZeroDivisionError("planted")
