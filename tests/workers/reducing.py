"""Reducers, as a user's package would have them."""

from collections.abc import Sequence


def spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def failing(values: Sequence[float]) -> float:
    raise ZeroDivisionError("ours")
