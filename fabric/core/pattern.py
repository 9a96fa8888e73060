"""Globs as sequences: what two of them have in common is found by walking both at once.

A path is a sequence of parts, and a part one of characters. In both there are items that take
exactly one element, and stars that take any number of them: `**` as a whole part, `*` inside a
part. So one walk decides both: a row holds, as bits, the positions in one sequence that can be
reached together with one position in the other. The walk never goes back: reading a glob of n
characters takes at most about n² steps, walking it beside one of m at most n × m, for any input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

#: What one character may be: ranges of code points, first and last, ascending, disjoint.
Ranges = tuple[tuple[int, int], ...]

CODE_POINT_MAX = 0x10FFFF
SLASH = ord("/")


class Pattern(Generic[T]):
    """A sequence of literals (str), other items (T) and stars (None), ready to be walked.

    `meets` says whether two items can take the same element. Bit i of a row is the position before
    item i; `end` is the one after the last.
    """

    __slots__ = ("end", "items", "literals", "meets", "others", "stars", "start")

    def __init__(
        self, items: Iterable[str | T | None], meets: Callable[[str | T, str | T], bool]
    ) -> None:
        self.items: list[str | T | None] = []
        self.meets = meets
        self.stars = 0
        self.literals: dict[str, int] = {}
        self.others: dict[T, int] = {}
        for item in items:
            bit = 1 << len(self.items)
            if item is None:
                if self.stars & (bit >> 1):
                    continue  # two stars in a row are one: `closed` steps over one only
                self.stars |= bit
            elif isinstance(item, str):
                self.literals[item] = self.literals.get(item, 0) | bit
            else:
                self.others[item] = self.others.get(item, 0) | bit
            self.items.append(item)
        self.end = 1 << len(self.items)
        self.start = self.closed(1)

    def closed(self, row: int) -> int:
        """Return the row, and what it reaches without taking an element."""
        return row | ((row & self.stars) << 1)

    def step(self, row: int, item: str | T) -> int:
        """Return the row after an element that the other side's item takes too; 0 if none."""
        if isinstance(item, str):
            hits = self.literals.get(item, 0)
        else:
            hits = 0
            for literal, bits in self.literals.items():
                if bits & row and self.meets(item, literal):
                    hits |= bits
        for other, bits in self.others.items():
            if bits & row and self.meets(item, other):
                hits |= bits
        return self.closed((row & self.stars) | ((row & hits) << 1))

    def accepts(self, items: Sequence[str | T | None], first: int = 0, row: int = 0) -> bool:
        """Whether the two have a sequence in common, going on from a row (default: the start)."""
        row = row or self.start
        for index in range(first, len(items)):
            item = items[index]
            if item is None:
                row = -(row & -row) & ((self.end << 1) - 1)  # all from the lowest bit on
            else:
                row = self.step(row, item)
                if not row:
                    return False
        return bool(row & self.end)


#: One part with wildcards, over characters.
Part = Pattern[Ranges]
#: A whole resource, over parts.
Path = Pattern[Part]


def is_glob(resource: str) -> bool:
    """Whether a normalised resource can name more than one thing: `*`, `?` or `[...]` in a part.

    A `[` that opens no class, as in `notes[1` or `[user-id]` (its range goes backwards), is a
    character like any other.
    """
    if "*" in resource or "?" in resource:
        return True
    return "[" in resource and any(
        _class(part, at)
        for part in resource.split("/")
        for at, char in enumerate(part)
        if char == "["
    )


def read(resource: str) -> Path:
    """Return a normalised resource, glob or not, for `accepts` and `step`."""
    return Pattern((_part(part) for part in resource.split("/")), _parts_meet)


def _part(text: str) -> str | Part | None:
    if text == "**":
        return None
    if not is_glob(text):
        return text
    items: list[str | Ranges | None] = []
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            items.append(None)
        elif char == "?":
            items.append(_complement([]))
        elif char == "[" and (found := _class(text, at - 1)):
            ranges, at = found
            items.append(ranges)
        else:
            items.append(char)
    return Pattern(items, _characters_meet)


def _class(text: str, opening: int) -> tuple[Ranges, int] | None:
    """Return the class that a `[` opens and its end; None when it opens none, or an empty one.

    As in shells and git: `!` or `^` negates, a `]` that comes first is a member.
    """
    first = opening + 1
    negated = text[first : first + 1] in ("!", "^")
    first += negated
    closing = text.find("]", first + 1)
    if closing < 0:
        return None
    ranges: list[tuple[int, int]] = []
    at = first
    while at < closing:
        low = high = ord(text[at])
        at += 1
        if at + 1 < closing and text[at] == "-":
            high = ord(text[at + 1])
            at += 2
        if low > high:
            return None
        ranges.append((low, high))
    outside = _complement(ranges)
    members = outside if negated else _complement(outside)
    return (members, closing + 1) if members else None


def _complement(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return every character outside the ranges, except `/`, which no part contains."""
    free: list[tuple[int, int]] = []
    low = 0
    for first, last in sorted([*ranges, (SLASH, SLASH)]):
        if low < first:
            free.append((low, first - 1))
        low = max(low, last + 1)
    if low <= CODE_POINT_MAX:
        free.append((low, CODE_POINT_MAX))
    return tuple(free)


def _characters_meet(a: str | Ranges, b: str | Ranges) -> bool:
    if isinstance(a, str):
        a = ((ord(a), ord(a)),)
    if isinstance(b, str):
        b = ((ord(b), ord(b)),)
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i][1] < b[j][0]:
            i += 1
        elif b[j][1] < a[i][0]:
            j += 1
        else:
            return True
    return False


def _parts_meet(a: str | Part, b: str | Part) -> bool:
    if isinstance(a, str):
        # The root is an empty part, and no `*`: that names a file or a folder.
        return a == b if isinstance(b, str) else a != "" and b.accepts(a)
    return b != "" and a.accepts(b if isinstance(b, str) else b.items)
