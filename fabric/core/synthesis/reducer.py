"""Reducers make one value of those that several agents give at one place of a document.

Maps are merged member by member, so a reducer sees numbers, texts and lists. It gets the values in
the order of the agents' names and must not depend on that order. A rule file names a reducer for a
path (docs/rules.md); packages add reducers under the entry point `fabric.reducers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from fabric.core import resource
from fabric.core.rules import Merge

#: Takes values, at least one; returns one, which must be JSON.
Reducer = Callable[[Sequence[Any]], Any]

#: Names the reducer of a place, given its JSON Pointer and one of its values.
Strategy = Callable[[str, Any], str]

#: Every agent's value is kept beside the others', under the agent's name.
BY_SOURCE: Final = "by_source"
#: Two values that differ are a contradiction, as between findings.
AGREE: Final = "agree"
#: The last value in the log holds.
LAST: Final = "last"
#: The items of all lists, each once, no matter how many agents give it.
UNION: Final = "union"
#: The items of all lists, each as often as it is given.
APPEND: Final = "append"
#: The sum of all numbers.
SUM: Final = "sum"

#: These keep each item of a list as a part of its own, so that a long list is never rewritten.
OF_ITEMS: Final = frozenset({UNION, APPEND})
#: These need more than the values: `merge.py` implements them.
SPECIAL: Final = frozenset({BY_SOURCE, AGREE, LAST, UNION, APPEND})

#: The largest number that JSON readers can hold.
_LARGEST = 1.7976931348623157e308
_LARGEST_WHOLE = int(_LARGEST)
_WHOLE_MAX = 2**63 - 1

#: Places whose reducer is remembered. Emptied when full.
_REMEMBERED_MAX = 50_000


class Strategies:
    """The reducer of each place: by the rules, or else by the kind of value."""

    def __init__(self, merges: Iterable[Merge] = ()) -> None:
        self._merges = [(resource.read_glob(merge.path), merge.reducer) for merge in merges]
        self._remembered: dict[str, str] = {}

    def of(self, pointer: str, value: Any) -> str:
        """Return the name of a place's reducer, given one of its values."""
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


def is_number(value: Any) -> bool:
    """Whether a value is a number; JSON's true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(values: Sequence[Any]) -> Any:
    if all(isinstance(value, int) for value in values):
        total = sum(values)
        if abs(total) <= _WHOLE_MAX:
            return total
    return _float(_exact_sum(values))


def _mean(values: Sequence[Any]) -> float:
    return _float(_exact_sum(values) / len(values))


def _exact_sum(values: Sequence[Any]) -> Fraction:
    """Add without rounding, so that the order of the values leaves no trace."""
    return sum(map(Fraction, values), Fraction())


def _float(number: Fraction) -> float:
    """Return the nearest finite float: the only rounding there is."""
    return float(max(Fraction(-_LARGEST_WHOLE), min(number, Fraction(_LARGEST_WHOLE))))


#: Reducers of numbers. If one of the values is no number, all of them are kept by source.
NUMBERS: Final[Mapping[str, Reducer]] = {"sum": _sum, "mean": _mean, "max": max, "min": min}

#: Names that a rule file may use without anything being installed.
KNOWN: Final = frozenset(NUMBERS) | SPECIAL
