"""A planted defect: never ends on a brace."""

from __future__ import annotations

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = (b"{",)


def seeds() -> list[bytes]:
    """Return a good input."""
    return [b"fine"]


def run(data: bytes) -> None:
    """Loop forever on a brace, and ignore every error."""
    while b"{" in data:
        try:
            data = data[1:] + data[:1]
        except Exception:  # noqa: S112 -- deaf on purpose: the judge must get through
            continue
