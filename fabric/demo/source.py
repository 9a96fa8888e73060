"""Reads and parses one Python file; whatever is in it, the answer is a text or a named problem."""

from __future__ import annotations

import ast
import codecs
import io
import os
import stat
import tokenize
import warnings
from dataclasses import dataclass
from functools import cached_property

import msgspec

from fabric.demo.excerpt import excerpt

#: Bytes of one file. Larger ones are generated tables: each holds a reviewer up for seconds.
FILE_BYTES_MAX = 1_000_000

#: Codecs that a coding line may name, but that are no character sets: slow, or a source of lone
#: surrogates. Spelt as Python normalises them.
_REFUSED_CODECS = frozenset(
    {"idna", "mbcs", "oem", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"}
    | {"utf_7"}
)


class Located(msgspec.Struct, frozen=True):
    """One file to review: `path` is printable and relative to the root, `location` is what the
    system opens.
    """

    path: str
    location: str


class Problem(msgspec.Struct, frozen=True):
    """Why a file could not be read or parsed; `rule` is `unreadable`, `undecodable` or
    `syntax-error`.
    """

    rule: str
    line: int
    message: str


@dataclass(frozen=True)
class Source:
    """The text of one file with every line end as a newline; empty when `problem` says that it
    cannot be read.
    """

    path: str
    text: str
    problem: Problem | None = None

    @cached_property
    def lines(self) -> list[str]:
        """The lines, split exactly where Python's parser splits them."""
        return self.text.split("\n")

    @property
    def name(self) -> str:
        """The file's name without directories."""
        return self.path.rpartition("/")[2]

    @property
    def is_test(self) -> bool:
        """Whether the file holds tests, by pytest's and unittest's naming."""
        return is_test_path(self.path)

    def line(self, number: int) -> str:
        """Return line `number` (from 1), or "" when there is no such line."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def parse(self) -> ast.Module | Problem:
        """Return the syntax tree, or the problem that prevents one. Never raises; the tree is not
        kept.
        """
        if self.problem is not None:
            return self.problem
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text)
        except SyntaxError as error:
            message = excerpt(error.msg or "invalid syntax")
            return Problem("syntax-error", max(error.lineno or 1, 1), f"does not parse: {message}")
        except (RecursionError, MemoryError):
            return Problem("syntax-error", 1, "is nested too deeply for Python's parser")
        except (ValueError, OverflowError) as error:
            return Problem("syntax-error", 1, f"does not parse: {excerpt(str(error))}")


def is_test_path(path: str) -> bool:
    """Tell whether a relative path names tests: in `tests/` or `test/`, `test_*.py`, `*_test.py`,
    `conftest.py`.
    """
    *folders, name = path.split("/")
    return (
        name.startswith("test_")
        or name.endswith("_test.py")
        or name in ("conftest.py", "tests.py", "test.py")
        or any(folder in ("tests", "test", "testing") for folder in folders)
    )


def read(file: Located) -> Source:
    """Read one file. Never raises: what cannot be read is a Source with a `problem`."""
    try:
        data = load(file.location)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Source(file.path, "", Problem("unreadable", 0, f"cannot be read: {excerpt(reason)}"))
    return decode(file.path, data)


def decode(path: str, data: bytes) -> Source:
    """Return `data` as source text by its byte order mark or coding line (PEP 263); UTF-8 when it
    has none.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if codecs.lookup(encoding).name.replace("-", "_") in _REFUSED_CODECS:
            raise LookupError(f"{encoding} is not a character set for source code")
        text = data.decode(encoding)
        text.encode("utf-8")
    except (UnicodeError, LookupError, SyntaxError, ValueError) as error:
        message = f"cannot be decoded: {excerpt(str(error))}"
        return Source(path, "", Problem("undecodable", 1, message))
    return Source(path, text.replace("\r\n", "\n").replace("\r", "\n"))


def load(location: str) -> bytes:
    """Return a file's bytes. Raises OSError, and ValueError for what is no file of a fit size."""
    # Opened without waiting and without following a link, and checked after opening: between
    # listing and reading somebody may have put a pipe or a device in the file's place.
    descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"has grown over {FILE_BYTES_MAX:,} bytes")
    return data
