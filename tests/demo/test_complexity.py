"""COMPLEXITY: branches as McCabe counts them, nesting, parameters."""

import ast
from textwrap import dedent

import pytest

from fabric.demo.finding import Severity
from fabric.demo.reviews.complexity import (
    COMPLEXITY_MAX,
    COMPLEXITY_SEVERE,
    NESTING_MAX,
    PARAMETERS_MAX,
    complexity,
    nesting,
)
from tests.demo.tree import check, places


def function(body: str) -> ast.FunctionDef:
    text = "def f():\n" + "\n".join(f"    {line}" for line in dedent(body).splitlines())
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ("pass", 1),
        ("if a: pass\nelif b: pass\nelse: pass", 3),
        ("for x in y: pass\nelse: pass", 2),
        ("while a and b or c: pass", 4),
        ("return 1 if a else 2", 2),
        ("try: pass\nexcept A: pass\nexcept B: pass\nfinally: pass", 3),
        ("return [x for x in y if a if b]", 4),
        ("with a: pass", 1),
        ("match a:\n    case 1: pass\n    case 2: pass\n    case _: pass", 3),
        ("match a:\n    case x if x: pass", 2),
        ("return lambda: 1 if a else 2", 2),
        ("def g():\n    if a: pass", 1),
    ],
)
def test_complexity(body: str, paths: int) -> None:
    assert complexity(function(body)) == paths


@pytest.mark.parametrize(
    ("body", "depth", "line"),
    [
        ("pass", 0, 1),
        ("if a: pass\nelif b: pass\nelif c: pass\nelse: pass", 1, 2),
        ("if a:\n    pass\nelse:\n    if b: pass", 2, 5),
        ("for a in b:\n    with c:\n        try: pass\n        finally: pass", 3, 4),
        ("if a:\n    def g():\n        if b: pass", 1, 2),
    ],
)
def test_nesting(body: str, depth: int, line: int) -> None:
    assert nesting(function(body)) == (depth, line)


def branching(paths: int) -> str:
    return "def f():\n" + "    if a: pass\n" * (paths - 1)


def test_a_complex_function_is_found() -> None:
    assert places(check("complexity", branching(COMPLEXITY_MAX)), "complex-function") == []
    (finding,) = check("complexity", branching(COMPLEXITY_MAX + 1))
    assert (finding.severity, finding.measure) == (Severity.MEDIUM, COMPLEXITY_MAX + 1)
    (severe,) = check("complexity", branching(COMPLEXITY_SEVERE))
    assert severe.severity is Severity.HIGH


def test_deep_nesting_is_found_where_it_is_deepest() -> None:
    def nested(depth: int) -> str:
        return (
            "def f():\n"
            + "".join(f"{' ' * (i + 1)}if a:\n" for i in range(depth))
            + " " * 20
            + "x\n"
        )

    assert places(check("complexity", nested(NESTING_MAX)), "deep-nesting") == []
    assert places(check("complexity", nested(NESTING_MAX + 1)), "deep-nesting") == [NESTING_MAX + 2]


def test_many_parameters_are_found() -> None:
    names = ", ".join(f"a{number}" for number in range(PARAMETERS_MAX))
    fine = [
        f"def f({names}, *args, **kwargs): pass\n",
        f"class A:\n def f(self, {names}): pass\n",
        f"@overload\ndef f({names}, b): ...\n",
    ]
    for text in fine:
        assert check("complexity", text) == []
    many = [
        f"def f({names}, b): pass\n",
        f"def f({names}, *, b): pass\n",
        f"class A:\n @staticmethod\n def f({names}, b): pass\n",
    ]
    for text in many:
        assert [item.rule for item in check("complexity", text)] == ["too-many-parameters"]
