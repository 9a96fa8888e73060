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
"""

from __future__ import annotations

import re
from unicodedata import normalize

from msgspec import Struct

from fabric.core.pattern import Path, is_glob, read

__all__ = ["Index", "is_glob", "normalise", "overlap"]

#: As RFC 3986 spells a scheme; it is matched at the front only.
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


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


def overlap(a: str, b: str) -> bool:
    """Whether two normalised resources can name the same thing.

    At most some len(a) × len(b) steps. Symmetric; each overlaps with itself.
    """
    if a == b:
        return True
    if _is_url(a) != _is_url(b) or not (is_glob(a) or is_glob(b)):
        return False
    return read(a).accepts(read(b).items)


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
    below its literal front the branches that it can reach.
    """

    __slots__ = ("_held", "_paths", "_urls")

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._paths = Node()
        self._urls = Node()

    def __contains__(self, resource: str) -> bool:
        return resource in self._held

    def __len__(self) -> int:
        return len(self._held)

    def add(self, resource: str) -> None:
        """File a resource; there are no counts: adding it again changes nothing."""
        self._held.add(resource)
        node = self._top(resource)
        for part in _front(resource):
            node = node.children.setdefault(part, Node())
        if is_glob(resource):
            node.globs[resource] = read(resource)
        else:
            node.exact = resource

    def remove(self, resource: str) -> None:
        """Take a resource out, if it is there."""
        if resource not in self._held:
            return
        self._held.remove(resource)
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
        found = self._near_glob(resource) if is_glob(resource) else self._near_exact(resource)
        found.sort()
        return found

    def _near_exact(self, resource: str) -> list[str]:
        found = [resource] if resource in self._held else []
        parts = resource.split("/")
        node: Node | None = self._top(resource)
        depth = 0
        while node is not None:
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
        path = read(resource)
        todo = [(self._top(resource), 0, path.start)]
        while todo:
            node, depth, row = todo.pop()
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
