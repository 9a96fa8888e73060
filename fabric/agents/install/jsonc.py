"""Inserts members and items into a JSON text, and takes them out; every other byte stays as it is.

Comments (`//`, `/* */`) and trailing commas are read too: clients allow them. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: Values within values; a deeper file is no configuration.
DEPTH_MAX = 100

#: Names of members and numbers of items, from the outermost.
Path = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_TOKEN = re.compile(rf"({_STRING.pattern})|(//[^\n]*|/\*.*?\*/)|[ \t\r\n\ufeff]+|.", re.DOTALL)
_WORD = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null")


class JsonError(ValueError):
    """The text is no JSON; `line` is where, from 1."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.line = text.count("\n", 0, position) + 1
        super().__init__(f"line {self.line}: {expected} expected")


@dataclass
class Node:
    """A value in the text, from `start` to before `end`."""

    start: int
    end: int
    value: Any = None
    #: Where the part begins that it is of another value: at its name, if it has one.
    head: int = 0
    #: Of an object: name → node. Of a list: number → node.
    parts: dict[Any, Node] = field(default_factory=dict)
    #: Whether a comma stands behind the last part.
    has_comma: bool = False
    #: Whether it is an object or a list.
    kind: str = ""

    def get(self, *path: str | int) -> Node | None:
        """Return the value under a path of names and numbers; None if there is none."""
        found: Node | None = self
        for name in path:
            found = found.parts.get(name) if found is not None else None
        return found


def parse(text: str) -> Node:
    """Return the value of a text; an empty one is an empty object. Raises JsonError."""
    at = _skip(text, 0)
    if at == len(text):
        return Node(at, at, {}, kind="{}")
    node = _value(text, at, 0)
    if _skip(text, node.end) != len(text):
        raise JsonError(text, node.end, "nothing more")
    return node


def insert(text: str, path: tuple[str, ...], value: Any) -> str:
    """Return a text with a member at a path; if a list is there already, the value's items join it.

    Raises JsonError for a text that is no JSON; KeyError if something else stands in the way.
    """
    root = parse(text)
    if root.start == root.end:
        whole: Any = value
        for name in reversed(path):
            whole = {name: whole}
        return text + json.dumps(whole, indent=2) + "\n"
    node, depth = root, 0
    while depth < len(path):
        if node.kind != "{}":
            raise KeyError(" → ".join(path[:depth]) or "the whole file")
        inner = node.parts.get(path[depth])
        if inner is None:
            break
        node, depth = inner, depth + 1
    if depth == len(path):
        if node.kind != "[]" or not isinstance(value, list):
            raise KeyError(" → ".join(path))
        for item in value:
            text = _add(text, parse(text).get(*path) or node, None, item)
        return text
    for name in reversed(path[depth + 1 :]):
        value = {name: value}
    return _add(text, node, path[depth], value)


def without(text: str, before: str, after: str) -> tuple[str, list[str]]:
    """Return a text without what `after` has over `before`, and the names of what it has not.

    `after` came from `before` by `insert`, the text from `after` by anybody's hand. If nothing but
    white space tells the rest from `before`, that is returned. Raises JsonError.
    """
    left: list[str] = []
    for path, value, is_new in reversed([*_added(parse(before), parse(after), ())]):
        text = _taken(text, path, value, left, is_new=is_new)
    ours, rest = _tokens(before), _tokens(text)
    is_before = rest[0] == (ours[0] or ["{", "}"]) and set(rest[1]) <= set(ours[1])
    return (before if is_before else text), left


def has(theirs: Any, ours: Any) -> bool:
    """Whether a value has all of another; a command may have got more flags."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if isinstance(command := ours.get("command"), str):
            return f"{theirs.get('command')} ".startswith(f"{command} ")
        return all(name in theirs and has(theirs[name], value) for name, value in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return all(any(has(one, item) for one in theirs) for item in ours)
    return type(theirs) is type(ours) and bool(theirs == ours)


def _added(before: Node, after: Node, path: Path) -> Iterator[tuple[Path, Any, bool]]:
    """Yield what `insert` has added: a new member, or new items of a list that was there."""
    if after.kind == "[]":
        if items := after.value[len(before.parts) :]:
            yield path, items, False
        return
    for name, part in after.parts.items():
        known = before.parts.get(name)
        if known is None:
            yield (*path, name), part.value, True
        elif part.kind:
            yield from _added(known, part, (*path, name))


def _taken(text: str, path: Path, ours: Any, left: list[str], *, is_new: bool = True) -> str:
    """Take a value out, as far as it is there; add the names of what is not to `left`.

    What is empty then goes too, if it is new.
    """
    node = parse(text).get(*path)
    if node is not None and isinstance(ours, list) and node.kind == "[]":
        for item in ours:
            text = _without_item(text, path, item, left)
    elif node is not None and isinstance(ours, dict) and "command" not in ours and node.kind:
        for name, value in reversed(ours.items()):
            text = _taken(text, (*path, name), value, left)
    elif node is None or not has(node.value, ours):
        left.append(" → ".join(map(str, path)))
        return text
    elif path == ("version",) and "hooks" in parse(text).value:
        return text  # what others have put beside it needs it
    else:
        return _cut(text, path)
    return _cut(text, path) if is_new and _is_empty(text, path) else text


def _without_item(text: str, path: Path, ours: Any, left: list[str]) -> str:
    """Take an item out of a list; what others have put into a list of its own stays there."""
    node = parse(text).get(*path)
    parts = node.parts.items() if node is not None else ()
    at = next(((*path, number) for number, one in parts if has(one.value, ours)), None)
    if at is None:
        left.append(" → ".join(map(str, path)))
        return text
    members = ours.items() if isinstance(ours, dict) else ()
    lists = [(*at, name) for name, inner in members if isinstance(inner, list)]
    for inner in lists:
        for item in ours[inner[-1]]:
            text = _without_item(text, inner, item, left)
    return _cut(text, at) if all(_is_empty(text, inner) for inner in lists) else text


def _is_empty(text: str, path: Path) -> bool:
    node = parse(text).get(*path)
    return node is not None and not node.parts


def _cut(text: str, path: Path) -> str:
    """Remove a member or an item, with its comma and its line."""
    parent = parse(text).get(*path[:-1])
    assert parent is not None
    part = parent.parts[path[-1]]
    start, end = part.head, part.end
    after = _skip(text, end)
    is_last = part.end == max(one.end for one in parent.parts.values())
    if text[after : after + 1] == ",":
        end = after + 1
    line = text.rfind("\n", 0, start) + 1
    end += len(text[end:]) - len(text[end:].lstrip(" \t")) if not is_last else 0
    has_line = not text[line:start].strip(" \t") and text[end:].lstrip(" \t")[:1] in ("\r", "\n")
    if has_line:
        start, end = line, text.index("\n", end) + 1
    before = [one.end for one in parent.parts.values() if one.end < part.end]
    if is_last and before and not parent.has_comma:
        comma = text.index(",", _skip(text, max(before)))
        between = text[comma + 1 : start]
        return text[:comma] + (between if between.strip() else between.rstrip(" \t")) + text[end:]
    text = text[:start] + text[end:]
    inner = parse(text).get(*path[:-1])
    if inner is not None and not inner.parts and not text[inner.start + 1 : inner.end - 1].strip():
        return f"{text[: inner.start + 1]}{text[inner.end - 1 :]}"
    return text


def _tokens(text: str) -> tuple[list[str], list[str]]:
    """Return a text's words and signs without trailing commas, and its comments."""
    found = [*_TOKEN.finditer(text)]
    words = [one[0] for one in found if not (one[2] or one[0].isspace() or one[0] == "\ufeff")]
    # Clients leave a comma behind the last one, or take it away.
    kept = [
        one
        for one, then in zip(words, [*words[1:], ""], strict=False)
        if one != "," or then not in ("]", "}")
    ]
    return kept, [one[2] for one in found if one[2]]


def _add(text: str, node: Node, name: str | None, value: Any) -> str:
    """Add a part at the end of an object or a list, indented as the others are."""
    newline = "\r\n" if "\r\n" in text else "\n"
    outer = _indent(text, node.start)
    is_flat = bool(node.parts) and "\n" not in text[node.start : node.end]
    if node.parts and not is_flat:
        first = min(part.start for part in node.parts.values())
        inner = _indent(text, first)
        inner = inner if len(inner) > len(outer) else outer + "  "
    else:
        inner = outer + _step(text)
    step = inner[len(outer) :] or "  "
    if is_flat:
        said = json.dumps(value, ensure_ascii=False)
    else:
        lines = json.dumps(value, indent=step, ensure_ascii=False).split("\n")
        said = (newline + inner).join(lines)
    if name is not None:
        said = f"{json.dumps(name)}: {said}"
    if not node.parts:
        # What is between the brackets, a comment say, stays where it is.
        at = node.end - 1
        return f"{text[:at]}{newline}{inner}{said}{newline}{outer}{text[at:]}"
    at = max(part.end for part in node.parts.values())
    comma = "" if node.has_comma else ","
    if node.has_comma:
        at = text.index(",", _skip(text, at)) + 1
    space = " " if is_flat else newline + inner
    tail = "," if node.has_comma else ""
    return f"{text[:at]}{comma}{space}{said}{tail}{text[at:]}"


def _indent(text: str, at: int) -> str:
    """Return the white space at the beginning of a position's line."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _step(text: str) -> str:
    """Return by how much the text indents."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found else "  "


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int, depth: int) -> Node:
    if depth > DEPTH_MAX:
        raise JsonError(text, at, f"at most {DEPTH_MAX} values within values")
    opening = text[at : at + 1]
    if opening in ("{", "["):
        return _group(text, at, depth, opening)
    if opening == '"':
        value, end = _string(text, at)
        return Node(at, end, value)
    found = _WORD.match(text, at)
    if found is None:
        raise JsonError(text, at, "a value")
    try:
        return Node(at, found.end(), json.loads(found[0]))
    except ValueError:
        raise JsonError(text, at, "a value") from None


def _string(text: str, at: int) -> tuple[str, int]:
    found = _STRING.match(text, at)
    if found is None:
        raise JsonError(text, at, "text in double quotes")
    try:
        return str(json.loads(found[0])), found.end()
    except ValueError:
        raise JsonError(text, at, "text in double quotes") from None


def _group(text: str, at: int, depth: int, opening: str) -> Node:
    is_object = opening == "{"
    closing = "}" if is_object else "]"
    node = Node(at, at, {} if is_object else [], kind=opening + closing)
    at = _skip(text, at + 1)
    while text[at : at + 1] != closing:
        if node.parts and not node.has_comma:
            raise JsonError(text, at, f"a comma, or {closing}")
        name: Any = len(node.parts)
        head = at
        if is_object:
            name, at = _string(text, at)
            at = _skip(text, at)
            if text[at : at + 1] != ":":
                raise JsonError(text, at, "a colon")
            at = _skip(text, at + 1)
        part = _value(text, at, depth + 1)
        part.head = head
        node.parts[name] = part
        if is_object:
            node.value[name] = part.value
        else:
            node.value.append(part.value)
        at = _skip(text, part.end)
        node.has_comma = text[at : at + 1] == ","
        at = _skip(text, at + 1) if node.has_comma else at
    node.end = at + 1
    return node
