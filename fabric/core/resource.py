"""What agents read or write: one spelling for each thing, and whether two name the same.

A resource is a path, a glob, a name (`port-8080`, `db:main`) or a URL (`s3://bucket/x`); a name is
a path of one part. When it is uncertain whether two name the same thing, they overlap: that costs
a wait, and the other answer could cost an overwritten file.

- `*`, `?`, `[a-z]` and `[!x]` stay inside a part and take a leading dot too; `**` as a whole part
  takes any number of parts, none included. So `src/**` is the folder with all that is below it,
  and `src` itself: an agent that moves or deletes the folder touches all of it. The file `src` and
  the file `src/a.py` are two things.
- `**` at the front also takes a leading `/` and `..`. Otherwise `/x`, `x` and `../x` are three
  things: the fabric does not know the folder that relative paths start from.
- URLs and paths never meet. In a URL globs work the same way, part by part.

Theory of operation. Globs are sequences: what two of them have in common is found by walking both.
A path is a sequence of parts, and a part one of characters. In both there are items that take
exactly one element, and stars that take any number of them: `**` as a whole part, `*` inside a
part. So one walk decides both: a row holds, as bits, the positions in one sequence that can be
reached together with one position in the other. The walk never goes back: reading a glob of n
characters takes at most about n² steps, walking it beside one of m at most n × m, for any input.
A meter counts the steps, because a signal may name many globs where many others are in use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar
from unicodedata import normalize

from msgspec import Struct

T = TypeVar("T")

#: What one character may be: ranges of code points, first and last, ascending, disjoint.
Ranges = tuple[tuple[int, int], ...]

CODE_POINT_MAX = 0x10FFFF
SLASH = ord("/")

#: Ranges of a class in a glob; one with more counts as any character, so that it overlaps too much
#: rather than too little. All letters and digits are three.
CLASS_RANGES_MAX = 16

#: Searches whose outcome an index keeps: those of some signals that name very much.
FOUND_MAX = 10_000

#: As RFC 3986 spells a scheme; it is matched at the front only.
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class CostlyError(Exception):
    """Comparing resources takes more steps than its caller allows."""


class Meter:
    """Counts the steps of comparisons; each takes some tenths of a microsecond, at most one."""

    __slots__ = ("steps", "steps_max")

    def __init__(self) -> None:
        self.steps = 0
        self.steps_max: int | None = None

    def spend(self, steps: int) -> None:
        """Count steps. Raises CostlyError when there are more than allowed."""
        self.steps += steps
        if self.steps_max is not None and self.steps > self.steps_max:
            raise CostlyError


def normalise(text: str) -> str:
    """Return the one spelling of a resource; normalising again changes nothing. Raises nothing.

    Text is in Unicode's NFC; `.` parts, doubled `/` and `x/..` go, `..` at the front of a relative
    path stays. What ends in `/`, `.` or `..` is a folder, with all that is below it: `src/` is
    `src/**`, `.` is `**`. A URL is left as it is, and so is a backslash.

    `..` after `*` takes back exactly the one part that `*` stands for: `a/*/../b` is `a/b`. After
    `**` it may take back a part of it, or the part before when `**` stands for none: `a/**/../b`
    is `b`, `a/b`, `a/x/b` and so on. `**/b` is the narrowest glob that has them all.
    """
    if (
        text.isascii()
        and "/." not in text
        and "//" not in text
        and "**/**" not in text
        and not text.startswith(".")
        and not text.endswith("/")
    ):
        return text
    if _is_url(text):
        return text
    parts = normalize("NFC", text).split("/")
    root = [""] if parts[0] == "" and len(parts) > 1 else []
    kept = root.copy()
    for part in parts:
        if part == "..":
            _climb(kept, rooted=bool(root))
        elif part not in ("", ".") and not (part == "**" and kept[-1:] == ["**"]):
            kept.append(part)
    if parts[-1] in ("", ".", "..") and kept[-1:] != ["**"]:
        kept.append("**")
    return "/".join(kept)


def overlap(a: str, b: str, meter: Meter | None = None) -> bool:
    """Whether two normalised resources can name the same thing.

    At most some len(a) × len(b) steps. Symmetric; each overlaps with itself. Raises CostlyError
    when the meter has a limit and this is more.
    """
    if meter is not None:
        meter.spend(1)
    if a == b:
        return True
    if meter is not None:
        meter.spend(reading_steps(a) + reading_steps(b))
    if _is_url(a) != _is_url(b) or not (is_glob(a) or is_glob(b)):
        return False
    return read_glob(a, meter).accepts(read_glob(b, meter).items)


def matches(pattern: str, name: str, meter: Meter) -> bool:
    """Whether a name matches a pattern; `*`, `?` and `[` in the name are characters.

    Raises CostlyError as `overlap` does.
    """
    meter.spend(1)
    if pattern == name or not is_glob(pattern):
        return pattern == name
    return _is_url(pattern) == _is_url(name) and read_glob(pattern, meter).accepts(name.split("/"))


def reading_steps(resource: str) -> int:
    """Return how many steps it takes at most to tell which of its `[` open a class."""
    return resource.count("[") * len(resource) if "[" in resource else 0


class Pattern(Generic[T]):
    """A sequence of literals (str), other items (T) and stars (None), ready to be walked.

    `meets` says whether two items can take the same element. Bit i of a row is the position before
    item i; `end` is the one after the last.
    """

    __slots__ = ("end", "items", "literals", "meets", "meter", "others", "stars", "start", "tail")

    def __init__(
        self,
        items: Iterable[str | T | None],
        meets: Callable[[str | T, str | T], bool],
        meter: Meter,
    ) -> None:
        self.items: list[str | T | None] = []
        self.meets = meets
        self.meter = meter
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
        #: Before a star that is the last item: from there on everything is accepted.
        self.tail = (self.end >> 1) & self.stars

    def closed(self, row: int) -> int:
        """Return the row, and what it reaches without taking an element."""
        return row | ((row & self.stars) << 1)

    def step(self, row: int, item: str | T) -> int:
        """Return the row after an element that the other side's item takes too; 0 if none."""
        self.meter.spend(1 + len(self.others))
        if isinstance(item, str):
            hits = self.literals.get(item, 0)
        else:
            self.meter.spend(len(self.literals))
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
            if row & self.tail:
                return True
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


def read_glob(resource: str, meter: Meter | None = None) -> Path:
    """Return a normalised resource, glob or not, for `accepts` and `step`; `meter` counts these."""
    counted = meter or Meter()
    return Pattern((_part(part, counted) for part in resource.split("/")), _parts_meet, counted)


class Node(Struct):
    """A folder or a file in the index: its children, and the resources in use here.

    `exact` is the path or name itself, when it is in use; `globs`: whose literal front ends here.
    """

    children: dict[str, Node] = {}
    exact: str | None = None
    globs: dict[str, Path] = {}


class Index:
    """Normalised resources in use; a search for overlaps looks at the near ones, not at all.

    A path meets the globs filed at its own ancestors. A glob meets those at its ancestors too, and
    below its literal front the branches that it can reach. What was found is kept until a resource
    comes or goes: one signal asks for the same several times.
    """

    __slots__ = ("_found", "_held", "_paths", "_urls", "meter")

    def __init__(self) -> None:
        self.meter = Meter()
        self._found: dict[str, list[str]] = {}
        self._held: set[str] = set()
        self._paths = Node()
        self._urls = Node()

    def __contains__(self, resource: str) -> bool:
        return resource in self._held

    def __len__(self) -> int:
        return len(self._held)

    def add(self, resource: str) -> None:
        """File a resource; there are no counts: adding it again changes nothing."""
        if resource in self._held:
            return
        self._held.add(resource)
        self._found.clear()
        node = self._top(resource)
        for part in _front(resource):
            node = node.children.setdefault(part, Node())
        if is_glob(resource):
            node.globs[resource] = read_glob(resource, self.meter)
        else:
            node.exact = resource

    def remove(self, resource: str) -> None:
        """Take a resource out, if it is there."""
        if resource not in self._held:
            return
        self._held.remove(resource)
        self._found.clear()
        front = _front(resource)
        way = [self._top(resource)]
        for part in front:
            way.append(way[-1].children[part])
        if way[-1].globs.pop(resource, None) is None:
            way[-1].exact = None
        while front and not (way[-1].children or way[-1].globs or way[-1].exact is not None):
            way.pop()
            del way[-1].children[front.pop()]

    def overlapping(self, resource: str) -> list[str]:
        """Return all in use that overlap a resource, itself included if it is there; sorted."""
        found = self._found.get(resource)
        if found is None:
            found = self._near_glob(resource) if is_glob(resource) else self._near_exact(resource)
            found.sort()
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            self._found[resource] = found
        return found

    def measure(self, steps_max: int) -> None:
        """Search anew from here on, at most so many steps; see `stop_measuring`."""
        self._found.clear()
        self.meter.steps = 0
        self.meter.steps_max = steps_max

    def stop_measuring(self) -> None:
        """Search without a limit again."""
        self.meter.steps_max = None

    def _near_exact(self, resource: str) -> list[str]:
        found = [resource] if resource in self._held else []
        parts = resource.split("/")
        node: Node | None = self._top(resource)
        depth = 0
        while node is not None:
            self.meter.spend(1 + len(node.globs))
            for glob, path in node.globs.items():
                if path.accepts(parts, depth, path.closed(1 << depth)):
                    found.append(glob)
            if depth == len(parts):
                break
            node = node.children.get(parts[depth])
            depth += 1
        return found

    def _near_glob(self, resource: str) -> list[str]:
        found: list[str] = []
        path = read_glob(resource, self.meter)
        todo = [(self._top(resource), 0, path.start)]
        while todo:
            node, depth, row = todo.pop()
            self.meter.spend(1 + len(node.globs))
            if node.exact is not None and row & path.end:
                found.append(node.exact)
            for glob, other in node.globs.items():
                if path.accepts(other.items, depth, row):
                    found.append(glob)
            if row == path.end or not node.children:
                continue
            only = path.items[row.bit_length() - 1] if row & (row - 1) == 0 else None
            if isinstance(only, str):
                # Only one literal part can come next: skip its siblings.
                below = node.children.get(only)
                if below is not None:
                    todo.append((below, depth + 1, path.step(row, only)))
                continue
            for part, below in node.children.items():
                reached = path.step(row, part)
                if reached:
                    todo.append((below, depth + 1, reached))
        return found

    def _top(self, resource: str) -> Node:
        return self._urls if _is_url(resource) else self._paths


def _is_url(text: str) -> bool:
    return "://" in text and SCHEME.match(text) is not None


def _climb(kept: list[str], rooted: bool) -> None:
    """Apply `..` to the parts so far; see `normalise` for `**`."""
    if kept[-1:] == ["**"]:
        kept.pop()
        if len(kept) > rooted and kept[-1] != "..":
            kept.pop()
        if kept[-1:] != ["**"]:
            kept.append("**")
    elif len(kept) > rooted and kept[-1] != "..":
        kept.pop()
    elif not rooted:
        kept.append("..")


def _front(resource: str) -> list[str]:
    """Return the parts before the first with a wildcard: a resource is filed there."""
    parts = resource.split("/")
    for depth, part in enumerate(parts):
        if is_glob(part):
            return parts[:depth]
    return parts


def _part(text: str, meter: Meter) -> str | Part | None:
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
    return Pattern(items, _characters_meet, meter)


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
    if len(members) > CLASS_RANGES_MAX:
        members = _complement([])
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
