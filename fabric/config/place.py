"""Where in a TOML file each key stands: a scan for table headers, keys and list elements.

The standard library's parser tells no lines. It also takes time that grows with the square of a
dotted key's length, and a stack frame for each bracket: the scan comes first, and refuses both.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import NamedTuple, NoReturn

#: Parts of a key, and brackets within brackets. The deepest field has four: triggers, 0, tags, 0.
LEVELS_MAX = 16
#: Characters of a number or a date. The longest that means anything, a time with an offset, has 35;
#: numbers of thousands of digits are read in a time that grows with the square.
BARE_CHARS_MAX = 64

#: Names of tables and keys, numbers of list elements.
Path = tuple[str | int, ...]

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


class Token(NamedTuple):
    """A piece of the text, and the line it begins on."""

    kind: str
    text: str
    line: int


class UnreadableError(Exception):
    """The text is TOML that nobody means, and that would take too long to read."""

    def __init__(self, line: int, found: str, fix: str) -> None:
        self.line, self.found, self.fix = line, found, fix
        super().__init__(found)


class _EndError(Exception):
    """The text ends, or is no TOML from here on: the parser will say so."""


def places(text: str) -> dict[Path, int]:
    """Return the line of each table, key and list element; of bad TOML, as far as it is TOML.

    Raises UnreadableError where keys or brackets are nested too deep.
    """
    scan = _Scan(text)
    with suppress(_EndError):
        scan.document()
    return scan.found


def line_of(path: Path, found: dict[Path, int]) -> int:
    """Return the line of a field; where it is not in the file, of what it belongs to."""
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return 1


class _Scan:
    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        #: Lists of tables, and how many tables each has so far.
        self._counts: dict[Path, int] = {}
        self._tokens: list[Token] = []
        self._next = 0
        at, line = 0, 1
        while (match := _TOKEN.match(text, at)) is not None:
            at = match.end()
            kind = match.lastgroup or ""
            if kind != "space":
                self._tokens.append(Token(kind, match[0], line))
            line += match[0].count("\n")

    def document(self) -> None:
        """Go through all statements; ends with _EndError, at the end."""
        table: Path = ()
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

    def _pair(self, table: Path) -> None:
        line = self._peek().line
        path = (*table, *self._key())
        self._note(path, line)
        self._take("=")
        self._value(path, 1)

    def _value(self, path: Path, level: int) -> None:
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
                raise UnreadableError(
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

    def _key(self) -> Path:
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

    def _within(self, path: Path) -> Path:
        """Return the path of a header, each list of tables in it with its last table's number."""
        whole: Path = ()
        for index, part in enumerate(path):
            whole = (*whole, part)
            if whole in self._counts and index + 1 < len(path):
                whole = (*whole, self._counts[whole] - 1)
        return whole

    def _note(self, path: Path, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.found.setdefault(path[:length], line)

    def _peek(self) -> Token:
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
        raise UnreadableError(
            line,
            f"more than {LEVELS_MAX} levels of keys or brackets",
            "no more levels than the tables of the rules have: four",
        )


def _unquoted(text: str) -> str:
    try:
        return str(tomllib.loads(f"key = {text}")["key"])
    except tomllib.TOMLDecodeError:
        raise _EndError from None
