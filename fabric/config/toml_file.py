"""A TOML file that a person wrote: its values, the line of each, and what is wrong with its text.

The standard library's parser names no lines. It also takes time that grows with the square of a
dotted key's length, and a stack frame for each bracket. The scan here runs first, and refuses both.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

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

#: What may stand between two pieces. A comma is no more than that: the parser will see to it.
_BLANK = re.compile(r"(?:[\s,] | \#[^\n]*)*", re.VERBOSE)
_TEXT = r"""
    (?: "{3} (?:[^\\"] | \\. | "{1,2}(?!"))* "{3,5}
    | '{3} (?:[^'] | '{1,2}(?!'))* '{3,5}
    | "(?:[^"\\\n] | \\[^\n])*"
    | '[^'\n]*' )
"""
_PART = rf"(?:{_TEXT} | [^\s\#\"'\[\]{{}}=,.]+)"
_KEY = re.compile(rf"{_PART} (?:[ \t\r]*\.[ \t\r]* {_PART})*", re.VERBOSE | re.DOTALL)
_PARTS = re.compile(_PART, re.VERBOSE | re.DOTALL)
_SCALAR = re.compile(rf"{_TEXT} | [^\n\#\"'\[\]{{}}=,]+", re.VERBOSE | re.DOTALL)


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
        return parse(file.read(FILE_BYTES_MAX + 1))


def parse(data: bytes) -> Document:
    """Read the bytes of a file. Raises FaultError."""
    if len(data) > FILE_BYTES_MAX:
        found = f"more than {FILE_BYTES_MAX} bytes"
        raise FaultError(1, found, "the rules alone: `fabric rules show` prints those in force")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{data[error.start]:02x}, which is no UTF-8"
        raise FaultError(line, found, "the file in UTF-8") from None
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
    outer = (path[:length] for length in range(len(path), 0, -1))
    return next((found[one] for one in outer if one in found), 1)


def described(value: object) -> str:
    """Say what a value is, in a few words."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, bool | str):
        return cut(json.dumps(value, ensure_ascii=False))
    return cut(str(value))


def cut(text: str) -> str:
    """Return a text, cut to what a message repeats."""
    return text if len(text) <= FOUND_CHARS_MAX else f"{text[:FOUND_CHARS_MAX]}…"


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


def _too_deep(line: int) -> FaultError:
    found = f"more than {LEVELS_MAX} levels of keys or brackets"
    return FaultError(line, found, "no more levels than the tables of the rules have: four")


class _EndError(Exception):
    """The text ends, or is no TOML from here on: the parser will say so."""


class _Scan:
    """Reads every text that is TOML, and more."""

    def __init__(self, text: str) -> None:
        self.found: dict[Keys, int] = {}
        #: Lists of tables, and how many tables each has so far.
        self._counts: Counter[Keys] = Counter()
        self._text = text
        self._at = 0
        self._line_ends = [end.start() for end in re.finditer("\n", text)]

    def document(self) -> None:
        """Go through all statements; ends with _EndError, at the end."""
        table: Keys = ()
        while True:
            if self._has("["):
                is_list, line = self._has("["), self._line()
                table = self._within(self._key())
                if is_list:
                    self._counts[table] += 1
                    table = (*table, self._counts[table] - 1)
                self._note(table, line)
                while self._has("]"):
                    pass
            else:
                self._pair(table, 1)

    def _pair(self, table: Keys, level: int) -> None:
        line = self._line()
        path = (*table, *self._key())
        self._note(path, line)
        if not self._has("="):
            raise _EndError
        self._value(path, level)

    def _value(self, path: Keys, level: int) -> None:
        line = self._line()
        if level > LEVELS_MAX:
            raise _too_deep(line)
        if self._has("["):
            index = 0
            while not self._has("]"):
                self._note((*path, index), self._line())
                self._value((*path, index), level + 1)
                index += 1
        elif self._has("{"):
            while not self._has("}"):
                self._pair(path, level + 1)
        elif (scalar := self._take(_SCALAR))[0] not in "\"'":
            longest = max(re.split(r"[\s.]", scalar), key=len)
            if len(longest) > BARE_CHARS_MAX:
                found = f"{len(longest)} characters without quotes"
                fix = 'a number, true or false; a text stands in double quotes: "text"'
                raise FaultError(line, found, fix)

    def _key(self) -> Keys:
        line = self._line()
        parts = _PARTS.findall(self._take(_KEY))
        if len(parts) > LEVELS_MAX:
            raise _too_deep(line)
        return tuple(_unquoted(part) if part[0] in "\"'" else part for part in parts)

    def _within(self, path: Keys) -> Keys:
        """Return the path of a header, each list of tables in it with its last table's number."""
        *outer, last = path
        whole: Keys = ()
        for part in outer:
            whole = (*whole, part)
            if whole in self._counts:
                whole = (*whole, self._counts[whole] - 1)
        return (*whole, last)

    def _note(self, path: Keys, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], line)

    def _line(self) -> int:
        """Return the line of the next piece."""
        self._take(_BLANK)
        return bisect_left(self._line_ends, self._at) + 1

    def _has(self, mark: str) -> bool:
        """Take the next piece if it is that mark."""
        self._take(_BLANK)
        has = self._text.startswith(mark, self._at)
        self._at += has
        return has

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _EndError
        self._at = match.end()
        return match[0]


def _unquoted(text: str) -> str:
    try:
        return str(tomllib.loads(f"key = {text}")["key"])
    except tomllib.TOMLDecodeError:
        raise _EndError from None
