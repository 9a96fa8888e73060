"""The bytes of a source file as lines that can be edited: its encoding and line ends are kept."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fabric.demo.source import Problem, Source, decode

#: Where Python's parser ends a line; a form feed, say, is no such place.
_LINE_END = re.compile(r"(\r\n|\r|\n)")


@dataclass(frozen=True, slots=True)
class Content:
    """One file: `lines` without, `ends` with how each of them ends ("" for the last, if it does not
    end).
    """

    path: str
    encoding: str
    lines: tuple[str, ...]
    ends: tuple[str, ...]

    @property
    def newline(self) -> str:
        """How lines end here: as the first of them does."""
        return next(filter(None, self.ends), "\n")

    @property
    def source(self) -> Source:
        """The same, as the reviewers read it."""
        return Source(self.path, "".join(f"{line}\n" for line in self.lines))

    def data(self) -> bytes:
        """Return the bytes of the file."""
        text = "".join(line + end for line, end in zip(self.lines, self.ends, strict=True))
        return text.encode(self.encoding)

    def with_lines(self, lines: Iterable[str]) -> Content:
        """Return the file with its lines replaced one by one."""
        return replace(self, lines=tuple(lines))

    def inserted(self, before: int, added: Iterable[str]) -> Content:
        """Return the file with lines added before line `before`, from 1; after the last line, that
        one ends like the others.
        """
        new = list(added)
        at = before - 1
        above = [end or self.newline for end in self.ends[:at]]
        ends = (*above, *[self.newline] * len(new), *self.ends[at:])
        return replace(self, lines=(*self.lines[:at], *new, *self.lines[at:]), ends=ends)

    def appended(self, line: str) -> Content:
        """Return the file with one more line at its end."""
        return self.inserted(len(self.lines) + 1, [line])


def content(path: str, data: bytes) -> Content | None:
    """Return a file's bytes as lines; None for what cannot be decoded, or would not come out the
    same again.
    """
    if decode(path, data).problem is not None:
        return None
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    parts = _LINE_END.split(data.decode(encoding))
    lines, ends = parts[::2], [*parts[1::2], ""]
    if not lines[-1]:
        del lines[-1], ends[-1]
    made = Content(path, encoding, tuple(lines), tuple(ends))
    return made if made.data() == data else None


def meaning(path: str, data: bytes) -> str | None:
    """Return what Python makes of a file, the same whatever its comments say; None when it does not
    parse.
    """
    tree = decode(path, data).parse()
    if isinstance(tree, Problem):
        return None
    try:
        return ast.dump(tree)
    except RecursionError:
        return None
