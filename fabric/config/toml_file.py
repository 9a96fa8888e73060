"""A TOML file that a person wrote: its values, the line of each, and what is wrong with its text.

The standard library's parser names no lines. It also takes time that grows with the square of a
dotted key's length, and a stack frame for each bracket. The scan here runs first, and refuses both.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

#: Bytes of a file: priorities and routes of the largest fleets take some 300 KB. A longer file is
#: no configuration, and reading it would only find that out late.
FILE_BYTES_MAX = 1_048_576
#: Parts of a key, and brackets within brackets. The deepest field has four: triggers, 0, tags, 0.
LEVELS_MAX = 16
#: Characters of a number or a date. The longest that means anything, a time with an offset, has 35;
#: reading numbers of thousands of digits takes time that grows with the square.
BARE_CHARS_MAX = 64
#: Characters of a wrong value that a message repeats.
FOUND_CHARS_MAX = 60

#: Names of tables and keys, numbers of list elements.
Keys = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r]+ | \#[^\n]*)
    | (?P<line>\n)
    | (?P<text> \"{3} (?:[^\\"] | \\. | \"{1,2}(?!\"))* \"{3,5}
              | '{3} (?:[^'] | '{1,2}(?!'))* '{3,5}
              | "(?:[^"\\\n] | \\[^\n])*"
              | '[^'\n]*')
    | (?P<mark>[][{}=,.])
    | (?P<bare>[^\s\#"'\[\]{}=,.]+)
    """,
    re.VERBOSE | re.DOTALL,
)


class Fault(NamedTuple):
    """One thing wrong in the file: where, the dotted field (may be ""), and how to put it right."""

    line: int
    field: str
    found: str
    fix: str

    def __str__(self) -> str:
        """Return it in a sentence, without the line."""
        field = f"{self.field}: " if self.field else ""
        return f"{field}found {self.found}; write {self.fix}"


class FaultError(Exception):
    """The text is not TOML, or is TOML that nobody means and that would take too long to read."""

    def __init__(self, line: int, found: str, fix: str) -> None:
        self.fault = Fault(line, "", found, fix)
        super().__init__(found)


class Document(NamedTuple):
    """What a file holds, and the line of each table, key and list element."""

    values: dict[str, Any]
    lines: dict[Keys, int]


def read(path: Path) -> Document:
    """Read a file. Raises FaultError; OSError when it cannot be read."""
    with path.open("rb") as file:
        # One more byte than allowed shows that there is more: devices and pipes have no size.
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise _too_long()
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{data[error.start]:02x}, which is no UTF-8"
        raise FaultError(line, found, "the file in UTF-8") from None


def parse(text: str) -> Document:
    """Read a text. Raises FaultError."""
    if len(text) > FILE_BYTES_MAX:
        raise _too_long()
    lines = places(text)
    try:
        return Document(tomllib.loads(text), lines)
    except (ValueError, RecursionError) as error:  # the parser's own, and what the scan let pass
        raise _no_toml(text, str(error)) from None


def places(text: str) -> dict[Keys, int]:
    """Return the line of each table, key and list element; of bad TOML, as far as it is TOML.

    Raises FaultError where keys or brackets are nested too deep.
    """
    scan = _Scan(text)
    with suppress(_EndError):
        scan.document()
    return scan.found


def line_of(path: Keys, found: Mapping[Keys, int]) -> int:
    """Return the line of a field, or of the table that it is missing in."""
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return 1


def described(value: object) -> str:
    """Say what a value is, in a few words."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return cut(json.dumps(value, ensure_ascii=False))
    return cut(str(value))


def cut(text: str) -> str:
    """Return a text, cut to what a message repeats."""
    return text if len(text) <= FOUND_CHARS_MAX else f"{text[:FOUND_CHARS_MAX]}…"


def _too_long() -> FaultError:
    found = f"more than {FILE_BYTES_MAX} bytes"
    return FaultError(1, found, "the rules alone: `fabric rules show` prints those in force")


def _no_toml(text: str, message: str) -> FaultError:
    """Return what the parser says, with the line that it names."""
    match = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if match is None:
        return FaultError(1, described(message), "TOML")
    # Lines as TOML counts them: Python ends lines at more characters.
    line = int(match[2]) if match[2] else text.removesuffix("\n").count("\n") + 1
    where = f" at column {match[3]}" if match[3] else " at the end"
    found = f"no TOML: {match[1]}{where}"
    return FaultError(line, found, 'lines of the form `key = value`, texts in "double quotes"')


class _EndError(Exception):
    """The text ends, or is no TOML from here on: the parser will say so."""


class _Token(NamedTuple):
    """A piece of the text, and the line that it begins on."""

    kind: str
    text: str
    line: int


class _Scan:
    def __init__(self, text: str) -> None:
        self.found: dict[Keys, int] = {}
        #: Lists of tables, and how many tables each has so far.
        self._counts: dict[Keys, int] = {}
        self._tokens: list[_Token] = []
        self._next = 0
        at, line = 0, 1
        while (match := _TOKEN.match(text, at)) is not None:
            at = match.end()
            kind = match.lastgroup or ""
            if kind != "space":
                self._tokens.append(_Token(kind, match[0], line))
            line += match[0].count("\n")

    def document(self) -> None:
        """Go through all statements; ends with _EndError, at the end."""
        table: Keys = ()
        while True:
            if self._has("line"):
                continue
            if not self._has("["):
                self._pair(table)
            elif self._has("["):
                line = self._peek().line
                path = self._within(self._key())
                self._counts[path] = self._counts.get(path, 0) + 1
                table = (*path, self._counts[path] - 1)
                self._note(path, line)
                self._note(table, line)
                self._take("]", "]")
            else:
                line = self._peek().line
                table = self._within(self._key())
                self._note(table, line)
                self._take("]")

    def _pair(self, table: Keys) -> None:
        line = self._peek().line
        path = (*table, *self._key())
        self._note(path, line)
        self._take("=")
        self._value(path, 1)

    def _value(self, path: Keys, level: int) -> None:
        opened = self._peek()
        if level > LEVELS_MAX:
            self._too_deep(opened.line)
        if self._has("["):
            index = 0
            while not self._closes("]"):
                self._note((*path, index), self._peek().line)
                self._value((*path, index), level + 1)
                index += 1
        elif self._has("{"):
            while not self._closes("}"):
                line = self._peek().line
                inner = (*path, *self._key())
                self._note(inner, line)
                self._take("=")
                self._value(inner, level + 1)
        else:
            self._scalar()

    def _scalar(self) -> None:
        if self._has("text"):
            return
        before = self._next
        while (token := self._peek()).kind == "bare" or token.text == ".":
            self._next += 1
            if len(token.text) > BARE_CHARS_MAX:
                raise FaultError(
                    token.line,
                    f"{len(token.text)} characters without quotes",
                    'a number, true or false; a text stands in double quotes: "text"',
                )
            if self._next == len(self._tokens):
                raise _EndError
        if self._next == before:
            raise _EndError

    def _closes(self, mark: str) -> bool:
        while self._has("line") or self._has(","):
            pass
        return self._has(mark)

    def _key(self) -> Keys:
        path: list[str] = []
        line = self._peek().line
        while True:
            token = self._peek()
            if token.kind not in ("bare", "text"):
                raise _EndError
            self._next += 1
            path.append(token.text if token.kind == "bare" else _unquoted(token.text))
            if len(path) > LEVELS_MAX:
                self._too_deep(line)
            if not self._has("."):
                return tuple(path)

    def _within(self, path: Keys) -> Keys:
        """Return the path of a header, each list of tables in it with its last table's number."""
        whole: Keys = ()
        for index, part in enumerate(path):
            whole = (*whole, part)
            if whole in self._counts and index + 1 < len(path):
                whole = (*whole, self._counts[whole] - 1)
        return whole

    def _note(self, path: Keys, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], line)

    def _peek(self) -> _Token:
        if self._next == len(self._tokens):
            raise _EndError
        return self._tokens[self._next]

    def _has(self, what: str) -> bool:
        """Take the next token if it is of that kind or is that mark."""
        token = self._peek()
        is_it = token.kind == what or (token.kind == "mark" and token.text == what)
        self._next += is_it
        return is_it

    def _take(self, *marks: str) -> None:
        for mark in marks:
            if not self._has(mark):
                raise _EndError

    @staticmethod
    def _too_deep(line: int) -> NoReturn:
        raise FaultError(
            line,
            f"more than {LEVELS_MAX} levels of keys or brackets",
            "no more levels than the tables of the rules have: four",
        )


def _unquoted(text: str) -> str:
    try:
        return str(tomllib.loads(f"key = {text}")["key"])
    except tomllib.TOMLDecodeError:
        raise _EndError from None
