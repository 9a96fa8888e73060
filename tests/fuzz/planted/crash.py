"""A planted defect: raises on a brace. The fuzzer must report it."""

from __future__ import annotations

ANSWERS = (ValueError,)
WORDS = (b"{",)


def seeds() -> list[bytes]:
    """Return a good input, and one that is refused."""
    return [b"fine", b""]


def run(data: bytes) -> None:
    """Refuse the empty input; fail on a brace."""
    if not data:
        raise ValueError("nothing given")
    if b"{" in data:
        raise ZeroDivisionError("planted")
