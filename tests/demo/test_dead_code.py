"""DEAD_CODE: what nothing mentions is possibly unused; what a framework may call is left alone."""

from collections.abc import Mapping

import pytest

from fabric.demo.finding import Severity
from tests.demo.tree import check_tree


def dead(files: Mapping[str, str]) -> list[str]:
    found = check_tree("dead_code", files)
    return [item.message.split("`")[1] for findings in found.values() for item in findings]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(): pass\n", ["f"]),
        ("def f(): return f()\n", ["f"]),
        ("class A:\n def make(self): return A()\n", ["A"]),
        ("LIMIT = 1\n", ["LIMIT"]),
        ("_LIMIT: int = 1\n", ["_LIMIT"]),
        ("class A:\n def run(self): return self.run()\nA()\n", ["A.run"]),
        ("class A:\n @staticmethod\n def run(): pass\nA()\n", ["A.run"]),
        ("def f():\n def g(): pass\nf()\n", ["f.g"]),
        ("class A:\n def run(self): pass\nclass B(A):\n def run(self): pass\nB()\n", ["A.run"]),
        ("class E(ValueError):\n def hint(self): pass\nE()\n", ["E.hint"]),
    ],
)
def test_what_nothing_mentions(text: str, names: list[str]) -> None:
    assert dead({"a.py": text}) == names


@pytest.mark.parametrize(
    "text",
    [
        "def f(): pass\nf()\n",
        "def f(): pass\nx = {'f': f}\n",
        "def f(): pass\n__all__ = ['f']\n",
        "@app.route('/')\ndef f(): pass\n",
        "def main(): pass\n",
        "def __getattr__(name): pass\n",
        "__version__ = '1'\n",
        "T = TypeVar('T')\n",
        "def visit_name(): pass\ngetattr(x, f'visit_{kind}')\n",
        "def visit_name(): pass\ngetattr(x, 'visit_' + kind)\n",
        "def int_schema(): pass\ngetattr(x, f'{kind}_schema')\n",
        "def f(): pass\nx: 'f' = 1\n",
        "def f(): pass\nx = 'module:f'\n",
        "class A(Framework): pass\n",
        "class A(Framework):\n def hook(self): pass\nA()\n",
        "class A(dict):\n def update(self): pass\nA()\n",
        "class A(metaclass=Registry): pass\n",
        "class A:\n def __init_subclass__(cls): pass\nclass B(A): pass\n",
        "class A:\n def __len__(self): pass\nA()\n",
        "class A:\n def run(self): pass\n__all__ = ['A']\n",
        "if debug: LIMIT = 1\nprint(LIMIT)\n",
        "def f(): pass\nx = y.f\n",
        "def broken(:\n",
    ],
)
def test_what_is_mentioned_or_may_be_called_from_outside(text: str) -> None:
    assert dead({"a.py": text}) == []


def test_other_files_keep_a_name_alive() -> None:
    assert dead({"a.py": "def f(): pass\n", "b.py": "from a import f\n"}) == []
    assert dead({"a.py": "def f(): pass\n", "tests/b.py": "import a\na.f()\n"}) == []
    assert dead({"a.py": "def f(): pass\n", "b.py": "def g(): pass\n"}) == ["f", "g"]


def test_an_override_of_another_file_is_alive() -> None:
    base = "class Base:\n def run(self): pass\nrunner.run()\n"
    files = {
        "a.py": base,
        "b.py": "from a import Base\nclass B(Base):\n def run(self): pass\nB()\n",
    }
    assert dead(files) == []


def test_what_a_package_offers_is_alive() -> None:
    module = "class A:\n def run(self): pass\n def _hidden(self): pass\n"
    files = {"pkg/__init__.py": "from pkg.a import A\n", "pkg/a.py": module}
    assert dead(files) == ["A._hidden"]


def test_runners_call_tests_and_fixtures() -> None:
    text = "import pytest\ndef test_a(): pass\nclass TestA:\n def test(self): pass\n"
    text += "@pytest.fixture\ndef thing(): pass\ndef setup_module(): pass\n"
    assert dead({"tests/test_a.py": text}) == []
    assert dead({"tests/test_a.py": "def make(): pass\n"}) == ["make"]


def test_settings_and_tables_of_constants_are_for_others() -> None:
    assert dead({"settings.py": "DEBUG = True\n"}) == []
    table = "".join(f"CODE_{number} = {number}\n" for number in range(20))
    assert dead({"codes.py": table + "_HIDDEN = 1\n"}) == ["_HIDDEN"]


def test_private_names_are_surer_and_a_dead_class_is_reported_once() -> None:
    text = "class _A:\n def run(self): pass\ndef f(): pass\n"
    findings = check_tree("dead_code", {"a.py": text})["a.py"]
    assert [item.severity for item in findings] == [Severity.MEDIUM, Severity.LOW]
    assert all("possibly" in item.message and item.confidence < 1 for item in findings)
