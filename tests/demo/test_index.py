"""The index: modules by name, what they import at load, what does not parse, and cycles."""

from pathlib import Path

import msgspec
import pytest

from fabric.demo.tree import build_index, cycles, read_index, take_snapshot
from tests.demo.plant import ABORTS_RUFF, TOO_DEEP, plant

TREE = {
    "shop/__init__.py": "",
    "shop/basket.py": "import os\nfrom shop.price import total\nfrom . import tax\n",
    "shop/price.py": "from shop import basket\n",
    "shop/tax.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from shop import basket\n"
        "def later():\n    from shop import basket\n"
        "try:\n    import shop.extra.deep\nexcept ImportError:\n    from ..shop import price\n"
    ),
    "shop/extra/__init__.py": "from .. import tax\n",
    "shop/extra/deep.py": "",
}


def test_imports_at_load_are_found_in_every_spelling(tmp_path: Path) -> None:
    index = build_index(plant(tmp_path, TREE))
    found = {module.path: module.imports for module in index}
    assert found["shop/basket.py"] == {"shop/price.py": 2, "shop/tax.py": 3}
    assert found["shop/price.py"] == {"shop/basket.py": 1}
    assert found["shop/tax.py"] == {"shop/extra/deep.py": 7, "shop/price.py": 9}
    assert found["shop/extra/__init__.py"] == {"shop/tax.py": 1}
    assert {module.name for module in index} >= {"shop", "shop.extra", "shop.extra.deep"}


def test_cycles_are_named_from_their_first_module(tmp_path: Path) -> None:
    found = [[one.name for one in cycle] for cycle in cycles(build_index(plant(tmp_path, TREE)))]
    assert ["shop.basket", "shop.price"] in found
    assert all(cycle[0] == min(cycle) for cycle in found)


def test_a_package_that_is_reviewed_by_itself_is_known_by_its_name(tmp_path: Path) -> None:
    plant(tmp_path, TREE)
    (tmp_path / "own").mkdir()
    tree = take_snapshot(str(tmp_path / "code/shop"), tmp_path / "own")
    found = {module.path: module.imports for module in build_index(tree)}
    assert found["basket.py"] == {"price.py": 2, "tax.py": 3}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("def (:\n", "syntax-error"),
        ("\0", "syntax-error"),
        ("# coding: nothing\n", "syntax-error"),
        ("# coding: unicode_escape\nx = '\\\\ud800'\n", ""),
        ("(" * 5_000, "syntax-error"),
        (ABORTS_RUFF, "too-deep"),
        (TOO_DEEP, "too-deep"),
    ],
)
def test_what_does_not_parse_is_a_problem_and_ends_nothing(
    tmp_path: Path, text: str, rule: str
) -> None:
    index = build_index(plant(tmp_path, {"a.py": text, "b.py": "import a\n"}))
    assert index[0].rule == rule
    assert index[1].imports == {"a.py": 1}


def test_the_index_comes_back_from_its_file(tmp_path: Path) -> None:
    index = build_index(plant(tmp_path, TREE))
    file = tmp_path / "index.json"
    file.write_bytes(msgspec.json.encode(index))
    assert read_index(file) == index
    file.write_text("{")
    with pytest.raises(msgspec.DecodeError):
        read_index(file)
