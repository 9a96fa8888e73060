"""What agents read or write: one spelling for each thing, and whether two name the same.

A resource is a path, a glob, a name (`port-8080`, `db:main`) or a URL (`s3://bucket/x`); a name is
a path of one part. When it is uncertain whether two name the same thing, they overlap: that costs
a wait, and the other answer could cost an overwritten file.

- `*`, `?`, `[a-z]` and `[!x]` stay inside a part and take a leading dot too; `**` as a whole part
  takes any number of parts, none included. So `src/**` is the folder with all that is below it,
  and `src` itself: an agent that moves or deletes the folder touches all of it.
- A path without wildcards is all that is below it too, because it may be a folder: `src` overlaps
  `src/a.py` and `src/*.py`. A glob is only what it matches: `src/*` does not overlap `src/a/b.py`.
- A name in brackets, as in `app/[id]/page.tsx`, is both that name and a class of characters: the
  folder `[id]` overlaps `i`, to be safe. Two such names are compared as names: `[id]` and
  `[userId]` are two folders.
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

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from fabric.core.resource_name import is_bracketed, is_url

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
    if is_url(a) != is_url(b):
        return False
    if not (is_glob(a) or is_glob(b)):
        return a.startswith(f"{b}/") or b.startswith(f"{a}/")
    one, other = read_glob(a, meter), read_glob(b, meter)
    pairs = ((one.items, other.items), (other.items, one.items))
    return one.accepts(other.items) or any(_covers(*pair) for pair in pairs)


def matches(pattern: str, name: str, meter: Meter) -> bool:
    """Whether a name matches a pattern; `*`, `?` and `[` in the name are characters.

    Raises CostlyError as `overlap` does.
    """
    meter.spend(1)
    if pattern == name or not is_glob(pattern):
        return pattern == name
    return is_url(pattern) == is_url(name) and read_glob(pattern, meter).accepts(name.split("/"))


def reading_steps(resource: str) -> int:
    """Return how many steps it takes at most to tell which of its `[` open a class."""
    return resource.count("[") * len(resource) if "[" in resource else 0


class Pattern(Generic[T]):
    """A sequence of literals (str), other items (T) and stars (None), ready to be walked.

    `name` is the part of a path itself if it is a name in brackets, else "".

    `meets` says whether two items can take the same element. Bit i of a row is the position before
    item i; `end` is the one after the last.
    """

    __slots__ = (
        "end", "items", "literals", "meets", "meter", "name", "others", "stars", "start", "tail",
    )  # fmt: skip

    def __init__(
        self,
        items: Iterable[str | T | None],
        meets: Callable[[str | T, str | T], bool],
        meter: Meter,
        name: str = "",
    ) -> None:
        self.name = name
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
    `bracketed`: the children whose names are in brackets, and what these stand for as classes.
    """

    children: dict[str, Node] = {}
    bracketed: dict[str, Part] = {}
    exact: str | None = None
    globs: dict[str, Path] = {}


class Index:
    """Normalised resources in use; a search for overlaps looks at the near ones, not at all.

    A path meets what is filed at its own ancestors and below it; a glob what is at its ancestors,
    and below its literal front the branches that it can reach. What was found is kept until a
    resource comes or goes: one signal asks for the same several times.
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
        parts = resource.split("/")
        front = _front(parts)
        for part in front:
            if "[" in part and part not in node.bracketed and part not in node.children:
                read = _part(part, self.meter)
                if isinstance(read, Pattern):
                    node.bracketed[part] = read
            node = node.children.setdefault(part, Node())
        if len(front) < len(parts):
            node.globs[resource] = read_glob(resource, self.meter)
        else:
            node.exact = resource

    def remove(self, resource: str) -> None:
        """Take a resource out, if it is there."""
        if resource not in self._held:
            return
        self._held.remove(resource)
        self._found.clear()
        front = _front(resource.split("/"))
        way = [self._top(resource)]
        for part in front:
            way.append(way[-1].children[part])
        if way[-1].globs.pop(resource, None) is None:
            way[-1].exact = None
        while front and not (way[-1].children or way[-1].globs or way[-1].exact is not None):
            way.pop()
            del way[-1].children[front[-1]]
            way[-1].bracketed.pop(front.pop(), None)

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
        found: list[str] = []
        parts = resource.split("/")
        node: Node | None = self._top(resource)
        depth = 0
        branches: list[tuple[Node, int]] = []
        while True:
            while node is not None:
                if depth == len(parts):
                    self._collect(node, found)
                    break
                self.meter.spend(1 + len(node.globs))
                if node.exact is not None:
                    found.append(node.exact)
                for glob, path in node.globs.items():
                    if path.accepts(parts, depth, path.closed(1 << depth)):
                        found.append(glob)
                for name, part in node.bracketed.items():
                    if _parts_meet(part, parts[depth]):
                        branches.append((node.children[name], depth + 1))
                node = node.children.get(parts[depth])
                depth += 1
            if not branches:
                return found
            node, depth = branches.pop()

    def _collect(self, top: Node, found: list[str]) -> None:
        """Add all that is filed at a node and below it."""
        todo = [top]
        while todo:
            node = todo.pop()
            self.meter.spend(1 + len(node.globs))
            if node.exact is not None:
                found.append(node.exact)
            found += node.globs
            todo += node.children.values()

    def _near_glob(self, resource: str) -> list[str]:
        found: list[str] = []
        path = read_glob(resource, self.meter)
        front = len(_literal_front(path.items))
        is_path = front == len(path.items)
        todo = [(self._top(resource), 0, path.start)]
        while todo:
            node, depth, row = todo.pop()
            self.meter.spend(1 + len(node.globs))
            if is_path and depth == front:
                self._collect(node, found)
                continue
            # A path in use is all below it, so it also takes what begins with its parts.
            if node.exact is not None and (row & path.end or depth <= front):
                found.append(node.exact)
            for glob, other in node.globs.items():
                if path.accepts(other.items, depth, row):
                    found.append(glob)
            if row == path.end or not node.children:
                continue
            only = path.items[row.bit_length() - 1] if row & (row - 1) == 0 else None
            if isinstance(only, str):
                # Only one literal part can come next: skip its siblings, but for classes.
                names = [only, *node.bracketed] if node.bracketed else [only]
            else:
                names = list(node.children)
            for name in names:
                reached = path.step(row, node.bracketed.get(name, name))
                if reached and name in node.children:
                    todo.append((node.children[name], depth + 1, reached))
        return found

    def _top(self, resource: str) -> Node:
        return self._urls if is_url(resource) else self._paths


def _front(parts: list[str]) -> list[str]:
    """Return the parts before the first with a wildcard: a resource is filed there."""
    for depth, part in enumerate(parts):
        if is_glob(part) and not is_bracketed(part):
            return parts[:depth]
    return parts


def _literal_front(items: Sequence[str | Part | None]) -> list[str | Part]:
    """Return the items before the first with a wildcard, as `_front` does."""
    front: list[str | Part] = []
    for item in items:
        if item is None or (isinstance(item, Pattern) and not item.name):
            break
        front.append(item)
    return front


def _covers(path: Sequence[str | Part | None], other: Sequence[str | Part | None]) -> bool:
    """Whether the first is a path, and the second begins with its parts."""
    whole, front = _literal_front(path), _literal_front(other)
    return len(path) == len(whole) <= len(front) and all(map(_parts_meet, whole, front))


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
    return Pattern(items, _characters_meet, meter, text if is_bracketed(text) else "")


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
    if isinstance(b, str):
        return b != "" and a.accepts(b)
    if a.name and b.name:
        return a.name == b.name
    return a.accepts(b.items) or (
        a.accepts(b.name) if b.name else bool(a.name) and b.accepts(a.name)
    )
