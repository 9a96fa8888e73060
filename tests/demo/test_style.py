"""STYLE: notes, code in comments, long functions, missing docstrings."""

import pytest

from fabric.demo.finding import Severity
from fabric.demo.reviews.style import FUNCTION_LINES_MAX
from tests.demo.tree import check, places


def test_notes_are_found_in_comments_only() -> None:
    text = '# TODO: a\nx = 1  # FIXME b\ny = "# TODO: not a comment"\n# XXXL, TODOS\n# see "XXX"\n'
    findings = [item for item in check("style", text) if item.rule == "todo-comment"]
    assert [(item.line, item.severity) for item in findings] == [
        (1, Severity.LOW),
        (2, Severity.MEDIUM),
    ]
    assert findings[1].evidence == "FIXME b"


@pytest.mark.parametrize(
    "comment",
    [
        "# x = compute(1)\n# return x.value()\n",
        "# if ready:\n#     start(now)\n",
        "#def f(a):\n#    pass\n",
        "# from os import path\n",
        "# import os.path\n",
        '# print("here", x)\n',
    ],
)
def test_code_in_comments_is_found(comment: str) -> None:
    assert places(check("style", f"a = 1\n{comment}b = 2\n"), "commented-out-code") == [2]


@pytest.mark.parametrize(
    "comment",
    [
        "# This is a sentence.\n",
        "# return value (see above)\n",
        "# import errors\n",
        "# note: this\n",
        "# f(x) = x + 1\n",
        "# a = b + c\n",
        "# Use it like this:\n#     x = compute(1)\n",
        "# for example:\n# x = 1\n",
        "# type: ignore[misc]\n",
        "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n",
        "#: The limit.\n#: x = 1\n",
        "# A\n# B\n",
        "# ----------\n# section()\n# ----------\n",
        "#\n#\n",
    ],
)
def test_prose_in_comments_is_not_code(comment: str) -> None:
    assert places(check("style", f"{comment}b = 2\n"), "commented-out-code") == []


def test_a_long_function_is_measured_without_its_docstring() -> None:
    body = "    x = 1\n" * (FUNCTION_LINES_MAX - 1)
    docstring = '    """' + "\n" * 20 + '    """\n'
    assert places(check("style", f"def f():\n{docstring}{body}"), "long-function") == []
    (finding,) = [
        item
        for item in check("style", f"class A:\n async def f(s):\n{body}    x = 1\n")
        if item.rule == "long-function"
    ]
    assert (finding.line, finding.measure) == (2, FUNCTION_LINES_MAX + 1)


def test_public_modules_and_classes_want_docstrings() -> None:
    text = "class A:\n    x = 1\nclass _B:\n    x = 1\nclass C(Exception): pass\nclass D: ...\n"
    assert places(check("style", text), "missing-docstring") == [1, 1]
    told = '"""M."""\nclass A:\n    """A."""\n'
    assert places(check("style", told), "missing-docstring") == []
    for path in ("pkg/_private.py", "pkg/__main__.py"):
        assert places(check("style", "def f(): pass\n", path), "missing-docstring") == []
    assert places(check("style", text, "tests/test_a.py"), "missing-docstring") == []
    assert places(check("style", "", "pkg/__init__.py"), "missing-docstring") == []
