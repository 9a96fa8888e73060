"""The index: what it holds, how it is written, and what it calls a duplicate."""

from pathlib import Path

import msgspec
import pytest

from fabric.demo.symbols import INDEX_VERSION, Index, module_of, read_index, write_index
from tests.demo.tree import check, index_of, places

TEXT = """\
import os.path
from typing import TYPE_CHECKING, Any as Any
try:
    from fast import loads
except ImportError:
    loads = None
if TYPE_CHECKING:
    from .other import Thing
__all__ = ["Public"]
__all__ += ["more"]
LIMIT = 3
class Public(Base[int]):
    @property
    def size(self) -> "Width":
        return self.size + LIMIT
def main():
    from . import late
    return getattr(os, f"do_{late}") or main()
"""


def test_the_index_holds_definitions_imports_and_mentions() -> None:
    (file,) = index_of({"pkg/a.py": TEXT}).files
    symbols = {symbol.qualified: symbol for symbol in file.symbols}
    assert {name: (item.kind, item.line) for name, item in symbols.items()} == {
        "LIMIT": ("constant", 11),
        "Public": ("class", 12),
        "Public.size": ("method", 14),
        "main": ("function", 16),
    }
    assert symbols["Public"].bases == ("Base",)
    assert (symbols["Public.size"].owner, symbols["Public.size"].decorators) == (
        "Public",
        ("property",),
    )
    assert (symbols["Public.size"].self_references, symbols["main"].self_references) == (1, 1)
    assert file.exports == ("Public", "more")
    assert file.prefixes == ("do_",)
    assert {"os", "LIMIT", "Width", "main"} <= set(file.names)
    assert "size" in file.attributes


def test_the_index_knows_how_a_name_is_imported() -> None:
    (file,) = index_of({"pkg/a.py": TEXT}).files
    imports = {item.bound: item for item in file.imports}
    assert (imports["os"].module, imports["os"].name) == ("os.path", "")
    assert imports["Any"].explicit
    assert imports["loads"].guarded
    assert imports["Thing"].deferred
    assert (imports["Thing"].level, imports["late"].deferred) == (1, True)


def test_the_index_survives_its_file(tmp_path: Path) -> None:
    index = index_of({"pkg/a.py": TEXT, "pkg/b.py": "def broken(:"}, package="top")
    path = tmp_path / "index.json"
    path.write_text("older")
    write_index(index, path)
    assert read_index(path) == index
    assert [file.module for file in index.files] == ["top.pkg.a", "top.pkg.b"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.json"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "index.json").mkdir()
    with pytest.raises(OSError, match=r"index\.json"):
        write_index(index_of({}), tmp_path / "index.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.json"]


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    newer = msgspec.json.encode(Index("", (), version=INDEX_VERSION + 1))
    for data in (b"", b"{", b"[]", b'{"package": 1}', newer):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="index"):
            read_index(path)
    with pytest.raises(FileNotFoundError):
        read_index(tmp_path / "missing")


def test_modules_are_named_by_their_paths() -> None:
    assert module_of("a/b/c.py") == "a.b.c"
    assert module_of("a/__init__.py", "top") == "top.a"
    assert module_of("__init__.py", "top") == "top"
    assert module_of("__init__.py") == ""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("def f(): pass\ndef f(): pass\n", [2]),
        ("class A: pass\ndef A(): pass\n", [2]),
        ("class A:\n def f(self): pass\n def f(self): pass\n", [3]),
        # Alternatives, registries, setters, wrappers, and functions that are used in between.
        ("if a:\n def f(): pass\nelse:\n def f(): pass\n", []),
        ("try:\n def f(): pass\nexcept E:\n def f(): pass\n", []),
        ("@overload\ndef f(): ...\ndef f(): pass\n", []),
        (
            "class A:\n @property\n def f(self): pass\n @f.setter\n def f(self, v): pass\n",
            [],
        ),
        ("def f(): pass\nf = wrap(f)\ndef f(): pass\n", []),
        ("def f(): pass\ndel f\ndef f(): pass\n", []),
        ("class A: pass\nclass A(A): pass\n", []),
        ("def _(): pass\ndef _(): pass\n", []),
        ("def f():\n def g(): pass\ndef g(): pass\n", []),
    ],
)
def test_duplicate_definition(text: str, lines: list[int]) -> None:
    assert places(check("indexer", text), "duplicate-definition") == lines
