"""Reading and parsing one file: any bytes give a text or a named problem, never an exception."""

import ast
import os
from pathlib import Path

import pytest

from fabric.demo.reviews import REVIEWS, Indexer, examine, reviewer
from fabric.demo.source import (
    FILE_BYTES_MAX,
    Located,
    Problem,
    Source,
    decode,
    is_test_path,
    read,
)

BROKEN = {
    "latin-1 without a coding line": (b"x = '\xe9'\n", "undecodable"),
    "a coding nobody knows": (b"# coding: nonsense\n", "undecodable"),
    "a codec that is no character set": (b"# coding: zlib\n", "undecodable"),
    "a codec that makes lone surrogates": (
        b"# coding: raw_unicode_escape\nx = '\\ud800'\n",
        "undecodable",
    ),
    "a codec that takes for ever": (b"# coding: punycode\n" + b"a" * 100_000, "undecodable"),
    "UTF-16": ("x = 1\n".encode("utf-16"), "undecodable"),
    "a syntax error": (b"def f(:\n", "syntax-error"),
    "old Python": (b"print 'x'\n", "syntax-error"),
    "a null byte": (b"x = 1\0\n", "syntax-error"),
    "a number too long": (b"x = " + b"9" * 5_000, "syntax-error"),
    "open brackets": (b"(" * 50_000, "syntax-error"),
    "deep operators": (b"x = " + b"-" * 50_000 + b"1", "syntax-error"),
    "a long chain": (b"x = 1" + b"+1" * 100_000, "syntax-error"),
    "deep elif": (b"if a: pass\n" + b"elif a: pass\n" * 20_000, "syntax-error"),
}


@pytest.mark.parametrize(("data", "rule"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_one_finding_of_the_indexer(data: bytes, rule: str) -> None:
    broken = decode("broken.py", data)
    assert isinstance(broken.parse(), Problem)
    indexer = Indexer()
    (finding,) = examine(indexer, broken)
    assert (finding.rule, finding.path) == (rule, "broken.py")
    assert finding.message.isprintable()
    assert [file.parsed for file in indexer.index().files] == [False]
    for name in REVIEWS[1:]:
        assert examine(reviewer(name, index=indexer.index()), broken) == []


HOSTILE = {
    "empty": b"",
    "byte order mark": b"\xef\xbb\xbfx = 1\n",
    "escapes": "# \u202e TODO \x1b[31m\nx = '\\ud800'\n__all__ = ['\\ud800', 'no name']\n".encode(),
    "invalid escape": b"x = '\\d'\n",
    "wide tree": b"x = 1" + b"+1" * 2_000,
    "many elif": b"if a: pass\n" + b"elif a: pass\n" * 1_500,
    "deep definitions": b"".join(b" " * i + b"def f%d():\n" % i for i in range(90))
    + b" " * 90
    + b"pass\n",
    "one long line": b"a == None;" * 5_000,
    "many constants": b"".join(b"_A%d = 1\n" % i for i in range(20_000)),
    "form feeds": b"\x0c" * 1_000 + b"\nx = 1\n",
    "one import of all": b"import " + b",".join(b"a%d" % i for i in range(20_000)),
    "decorators": b"@a\n" * 20_000 + b"def f(): pass\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_reviewed_in_bounds(data: bytes) -> None:
    file = decode("hostile.py", data)
    assert isinstance(file.parse(), ast.Module)
    indexer = Indexer()
    findings = examine(indexer, file)
    for name in REVIEWS[1:]:
        findings += examine(reviewer(name, index=indexer.index()), file)
    assert len(findings) < 300
    assert all(finding.evidence.isprintable() for finding in findings)
    assert all(finding.message.isprintable() for finding in findings)


def test_line_ends_of_all_systems_count_the_same() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        file = decode("a.py", end.join([b"x = 1", b"y = '\x0c'", b"z = 2"]))
        assert [file.line(number) for number in (0, 1, 3, 4)] == ["", "x = 1", "z = 2", ""]


def test_the_coding_line_is_obeyed() -> None:
    assert decode("a.py", b"# coding: latin-1\nx = '\xe9'\n").line(2) == "x = 'é'"


def test_what_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.py"
    os.mkfifo(pipe)
    link = tmp_path / "link.py"
    link.symlink_to(tmp_path / "nowhere.py")
    for path in (pipe, link, tmp_path, tmp_path / "missing.py"):
        problem = read(Located("x.py", str(path))).problem
        assert problem is not None
        assert problem.rule == "unreadable"


def test_a_file_that_grew_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large.py"
    path.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    problem = read(Located("large.py", str(path))).problem
    assert problem is not None
    assert "grown" in problem.message


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/a.py", True),
        ("pkg/test_a.py", True),
        ("pkg/a_test.py", True),
        ("conftest.py", True),
        ("pkg/contest.py", False),
        ("pkg/latest/a.py", False),
    ],
)
def test_tests_are_told_by_their_path(path: str, expected: bool) -> None:
    assert is_test_path(path) is expected
    assert Source(path, "").is_test is expected
