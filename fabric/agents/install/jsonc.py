"""Inserts members and items into a JSON text, and leaves every other byte of it as it is.

Comments (`//`, `/* */`) and trailing commas are read too: clients allow them. Pure.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

#: Values within values; a deeper file is no configuration.
DEPTH_MAX = 100

_SPACE = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
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
    #: Of an object: name → node. Of a list: number → node.
    parts: dict[Any, Node] = field(default_factory=dict)
    #: Whether a comma stands behind the last part.
    has_comma: bool = False
    #: Whether it is an object or a list.
    kind: str = ""

    def get(self, *path: str) -> Node | None:
        """Return the value under a path of names; None if there is none."""
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
        if is_object:
            name, at = _string(text, at)
            at = _skip(text, at)
            if text[at : at + 1] != ":":
                raise JsonError(text, at, "a colon")
            at = _skip(text, at + 1)
        part = _value(text, at, depth + 1)
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
