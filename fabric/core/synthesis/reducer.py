"""How what several agents give at one place of a document becomes one value.

Maps are merged member by member, so a reducer sees the rest: numbers, texts, lists. It is given
the values in the order of the agents' names, and must not care. A rule file names one per path;
others can be added under the entry point `fabric.reducers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from fabric.core import pattern
from fabric.core.rules import Merge

#: Takes values, at least one; returns one, which must be JSON.
Reducer = Callable[[Sequence[Any]], Any]

#: Every agent's value stands beside the others', under the agent's name.
BY_SOURCE: Final = "by_source"
#: Two values that differ are a contradiction, as between findings.
AGREE: Final = "agree"
#: What was said last holds.
LAST: Final = "last"
#: Items of lists, each once, whoever and however often gives it.
UNION: Final = "union"
#: Items of lists, each as often as it is given.
APPEND: Final = "append"
#: Numbers are added up.
SUM: Final = "sum"

#: Keep each item of a list as a part of its own, so that a long list is never rewritten.
OF_ITEMS: Final = frozenset({UNION, APPEND})
#: Are no function of the values alone: `judgement.py` knows what to do.
SPECIAL: Final = frozenset({BY_SOURCE, AGREE, LAST, UNION, APPEND})

#: Largest number that JSON readers and ours can hold.
_LARGEST = 1.7976931348623157e308
_LARGEST_WHOLE = int(_LARGEST)
_WHOLE_MAX = 2**63 - 1


def is_number(value: Any) -> bool:
    """Whether a value is a number; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(values: Sequence[Any]) -> Any:
    if all(isinstance(value, int) for value in values):
        return _bounded(sum(values))
    return _fsum(values)


def _mean(values: Sequence[Any]) -> Any:
    return _float(sum(map(Fraction, values), Fraction()) / len(values))


def _fsum(values: Sequence[Any]) -> float:
    """Add up, rounding once at the end: the order of the agents leaves no trace."""
    return _float(sum(map(Fraction, values), Fraction()))


def _float(number: Fraction) -> float:
    """Return the nearest float there is."""
    return float(max(Fraction(-_LARGEST_WHOLE), min(number, Fraction(_LARGEST_WHOLE))))


def _bounded(number: float) -> float:
    """Return a number that a float or 64 bits can hold: itself, or the nearest."""
    if isinstance(number, int) and abs(number) <= _WHOLE_MAX:
        return number
    return float(max(-_LARGEST_WHOLE, min(number, _LARGEST_WHOLE)))


#: Reducers of numbers. Where one of the values is none, all of them are kept by source.
NUMBERS: Final[Mapping[str, Reducer]] = {"sum": _sum, "mean": _mean, "max": max, "min": min}

#: Names that a rule file may use without anything being installed.
KNOWN: Final = frozenset(NUMBERS) | SPECIAL


#: Places whose reducer is remembered. Emptied when full.
_REMEMBERED_MAX = 50_000


class Strategies:
    """The rules' reducers by place. A value is asked about where no rule matches."""

    def __init__(self, merges: Iterable[Merge] = ()) -> None:
        self._merges = [(pattern.read(merge.path), merge.reducer) for merge in merges]
        self._remembered: dict[str, str] = {}

    def of(self, pointer: str, value: Any) -> str:
        """Name the reducer of a place, given one of its values."""
        if self._merges:
            named = self._remembered.get(pointer)
            if named is None:
                named = self._find(pointer)
            if named:
                return named
        if isinstance(value, list):
            return UNION
        return SUM if is_number(value) else BY_SOURCE

    def _find(self, pointer: str) -> str:
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        tokens = pointer.split("/")
        named = next((name for path, name in self._merges if path.accepts(tokens)), "")
        self._remembered[pointer] = named
        return named
