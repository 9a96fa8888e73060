"""IMPORTS: unused ones, stars, and cycles between the modules of a tree."""

import pytest

from fabric.demo.cycle import Cycle, components, cycles
from tests.demo.tree import check, check_tree, places


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("import os\n", [1]),
        ("import os.path\n", [1]),
        ("import os as system\n", [1]),
        ("from os import (\n    path,\n    sep,\n)\nprint(sep)\n", [2]),
        ("def f():\n    import os\n", [2]),
        ("import os\nos = 1\n", [1]),
        ("import json\nx = {'json': 1}\n", [1]),
    ],
)
def test_an_unused_import_is_found(text: str, lines: list[int]) -> None:
    assert places(check("imports", text), "unused-import") == lines


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.sep\n",
        "import os.path\nos.path.join()\n",
        "import a as b, a.c\nb.c()\n",
        "from __future__ import annotations\n",
        "from os import path as path\n",
        "from os import sep\n__all__ = ['sep']\n",
        "from typing import Any\ndef f(x: 'list[Any]') -> None: pass\n",
        "from typing import Any, Optional\nx: Optional['Any'] = None\n",
        "from typing import Any\nx = []  # type: list[Any]\n",
        "from typing import Any, cast\ny = cast('Any', 1)\n",
        "try:\n    import fast\nexcept ImportError:\n    pass\n",
        "import os  # noqa: F401\n",
        "from os import (  # noqa\n    sep,\n)\n",
        "import readline\n",
        "class A:\n    from os import sep\n",
        "import os\ndel os\n",
        "@deco\ndef f(): pass\nimport deco\n",
        "def broken(:\n",
    ],
)
def test_a_used_import_is_not(text: str) -> None:
    assert places(check("imports", text), "unused-import") == []


def test_a_package_imports_for_others() -> None:
    text = "from pkg.a import *\nfrom pkg.a import b\n"
    assert check("imports", text, "pkg/__init__.py") == []


@pytest.mark.parametrize(
    "user", ["from pkg.a import sep\nsep", "from pkg import a\na.sep", "from .a import *\nx"]
)
def test_what_another_file_takes_from_here_is_used(user: str) -> None:
    files = {"pkg/__init__.py": "", "pkg/a.py": "from os import sep\n", "pkg/b.py": user}
    assert places(check_tree("imports", files)["pkg/a.py"], "unused-import") == []


def test_a_star_is_found() -> None:
    (finding,) = check("imports", "from os.path import *\njoin()\n")
    assert (finding.rule, finding.line) == ("star-import", 1)
    assert check("imports", "from os.path import join\njoin()\n") == []


def messages(files: dict[str, str], package: str = "") -> dict[str, str]:
    found = check_tree("imports", files, package)
    return {
        item.key: item.message
        for findings in found.values()
        for item in findings
        if item.rule == "import-cycle"
    }


def test_a_cycle_is_named_in_order_once() -> None:
    files = {
        "pkg/__init__.py": "",
        "pkg/b.py": "x = 1\nfrom pkg import c\nc\n",
        "pkg/c.py": "from . import d as dd\ndd\n",
        "pkg/d.py": "import pkg.b\npkg.b\n",
        "pkg/e.py": "import pkg.b\npkg.b\n",
    }
    assert messages(files) == {"pkg/b.py:2:import-cycle": "`pkg.b` → `pkg.c` → `pkg.d` → `pkg.b`"}


@pytest.mark.parametrize(
    "back",
    [
        "def f():\n    import b\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\n",
        "if __name__ == '__main__':\n    import b\n",
        "import c\n",
    ],
)
def test_an_import_that_does_not_run_at_load_closes_no_cycle(back: str) -> None:
    assert messages({"a.py": back, "b.py": "import a\n", "c.py": ""}) == {}


@pytest.mark.parametrize(
    "back",
    [
        "import b\n",
        "from b import name\n",
        "from b import *\n",
        "class A:\n    import b\n",
        "try:\n    import b\nexcept ImportError:\n    pass\n",
        "if flag:\n    pass\nelse:\n    import b\n",
    ],
)
def test_an_import_that_runs_at_load_does(back: str) -> None:
    assert messages({"a.py": back, "b.py": "import a\n"}) != {}


def test_a_package_and_its_part_may_form_a_cycle() -> None:
    files = {"p/__init__.py": "from p.a import f\n", "p/a.py": "from p import name\n"}
    assert list(messages(files).values()) == ["`p` → `p.a` → `p`"]
    # Taking a sister module runs nothing of the package that is not running already.
    files = {"p/__init__.py": "from p.a import f\n", "p/a.py": "from p import b\n", "p/b.py": ""}
    assert messages(files) == {}


def test_a_tree_below_its_package_and_a_source_folder_are_resolved() -> None:
    inside = {"__init__.py": "", "a.py": "import top.b\n", "b.py": "import top.a\n"}
    assert list(messages(inside, "top").values()) == ["`top.a` → `top.b` → `top.a`"]
    folder = {
        "src/p/__init__.py": "",
        "src/p/a.py": "import p.b\n",
        "src/p/b.py": "from p.a import x\n",
    }
    assert list(messages(folder).values()) == ["`src.p.a` → `src.p.b` → `src.p.a`"]


def test_a_file_elsewhere_is_not_the_standard_library() -> None:
    files = {"scripts/json.py": "import app.a\n", "app/a.py": "import json\n"}
    assert messages(files) == {}


def test_cycles_of_a_graph() -> None:
    graph = {"a": ["b"], "b": ["c", "a"], "c": ["a"], "d": ["d"], "e": ["f"], "f": ["e", "x"]}
    assert cycles(graph) == [Cycle(("a", "b"), 3), Cycle(("e", "f"), 2)]
    assert cycles({}) == []
    assert sorted(map(sorted, components({"a": ["b"], "b": []}))) == [["a"], ["b"]]


def test_a_long_cycle_needs_no_recursion() -> None:
    size = 5_000
    graph = {f"{number:04}": [f"{(number + 1) % size:04}"] for number in range(size)}
    (cycle,) = cycles(graph)
    assert (len(cycle.path), cycle.members, cycle.path[:2]) == (size, size, ("0000", "0001"))
