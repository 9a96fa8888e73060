"""The fixers' edits: both in every file in any order, and never a change of what the file means."""

import codecs
from itertools import permutations

import pytest

from fabric.demo.content import content, meaning
from fabric.demo.edits import EDITS, annotated, formatted, is_editable, made_so_far

#: What has broken editors before: path → bytes.
FILES = {
    "plain.py": b"import os\n\n\ndef pay(items=[]):   \n    return eval(items)\t\n",
    "empty.py": b"",
    "blank.py": b"\n  \n",
    "no_end.py": b"def pay(items=[]):\n    return items  ",
    "windows.py": b"def pay(items=[]):  \r\n    return items\r\n",
    "old_mac.py": b"def pay(items=[]):  \r    return items\r",
    "mixed.py": b"x = 1\r\ny = 2\nz = 3\r",
    "bom.py": b"\xef\xbb\xbfdef pay(items=[]):  \n    return items\n",
    "latin.py": b"# coding: latin-1\ndef pay(gr\xfc\xdfe=[]):  \n    return gr\xfc\xdfe\n",
    "second_line.py": b"#!/usr/bin/python\n# -*- coding: cp1252 -*-\ndef f(a=[]): return '\x80'\n",
    "string.py": b'x = """a  \n  b  \n"""; y = eval(x)  \n',
    "f_string.py": b'y = 1\nx = f"""a  \n{y}  \n"""\n',
    "continued.py": b"x = 1\nif x: \\\n    eval('x')  \n",
    "one_line.py": b"def f(a=[]): x = 1; eval('x')\n",
    "decorated.py": b"@a\n@b(\n  1)\ndef f(x=[]):\n    pass\n",
    "handler.py": b"try:\n    x()\nexcept:\n    pass\n",
    "form_feed.py": b"x = 1\n\x0c\ndef f(a=[]):\n    return a \n",
    "only_comment.py": b"# TODO: coding=latin-1\n",
    "tabs.py": b"class A:\n\tdef f(self, a=[]):\n\t\treturn a\n",
}


@pytest.mark.parametrize("path", FILES)
def test_both_edits_are_there_in_every_order(path: str) -> None:
    before = FILES[path]
    assert is_editable(path, before)
    for names in permutations(EDITS):
        now = before
        for done, name in enumerate(names):
            assert made_so_far(path, before, now) == names[:done]
            now = EDITS[name](path, now)
        assert made_so_far(path, before, now) == names
        assert now.count(b"# fabric demo: formatted by FORMATTER") == 1
        assert now.count(b"# fabric demo: annotated by ANNOTATOR") == 1
        assert meaning(path, now) == meaning(path, before)
        kept = before.removeprefix(codecs.BOM_UTF8).split()
        assert all(word in now for word in kept)
        assert now.startswith(before[:10].split(b"\n")[0]) or not before.startswith(b"#")


def test_whoever_reads_before_the_other_has_written_is_found_out() -> None:
    """The overwritten file is whole and parses, and yet it is none of the outcomes."""
    before = FILES["plain.py"]
    read_early = before
    now = formatted("plain.py", before)
    assert made_so_far("plain.py", before, now) == ("FORMATTER",)
    now = annotated("plain.py", read_early)
    assert made_so_far("plain.py", before, now) == ("ANNOTATOR",)
    assert made_so_far("plain.py", before, now[:-5]) is None
    assert made_so_far("plain.py", before, now + now) is None


def test_remarks_stand_above_what_they_are_about() -> None:
    lines = annotated("plain.py", FILES["plain.py"]).decode().splitlines()
    assert lines[0] == "# review: missing-docstring: the module has no docstring"
    assert lines[4].startswith("# review: mutable-default: ")
    assert lines[5] == "def pay(items=[]):   "
    assert lines[6].startswith("    # review: eval-or-exec: ")


def test_the_first_lines_stay_the_first() -> None:
    lines = annotated("second_line.py", FILES["second_line.py"]).splitlines()
    assert lines[:2] == FILES["second_line.py"].splitlines()[:2]
    assert b"# review: missing-docstring: the module has no docstring" in lines[2:4]


def test_white_space_goes_where_it_means_nothing() -> None:
    assert formatted("a.py", FILES["plain.py"]).splitlines()[3:5] == [
        b"def pay(items=[]):",
        b"    return eval(items)",
    ]
    kept = formatted("string.py", FILES["string.py"]).splitlines()
    assert kept[:3] == [b'x = """a  ', b"  b  ", b'"""; y = eval(x)']


@pytest.mark.parametrize(
    ("path", "end"), [("windows.py", b"\r\n"), ("old_mac.py", b"\r"), ("no_end.py", b"\n")]
)
def test_new_lines_end_as_the_others_do(path: str, end: bytes) -> None:
    now = formatted(path, annotated(path, FILES[path]))
    assert now.endswith(b"FORMATTER" + end)
    assert now.replace(end, b"").count(b"\r") == now.replace(end, b"").count(b"\n") == 0


@pytest.mark.parametrize(
    "data",
    [b"def (:\n", b"\x00", b"\xff\xfe", b"# coding: utf-7\n", b"x = 1 + \\", b"# coding: nope\n"],
)
def test_what_does_not_parse_is_left_alone(data: bytes) -> None:
    assert not is_editable("a.py", data)


def test_what_is_no_text_is_refused() -> None:
    assert content("a.py", b"\xff\xfe") is None
    with pytest.raises(ValueError, match="no text"):
        formatted("a.py", b"\xff\xfe")
