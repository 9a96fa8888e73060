"""The scratch copy: the files most worth fixing, what was made of them, and nothing outside it."""

from hashlib import sha256
from pathlib import Path

import pytest

from fabric.core.resource import overlap
from fabric.demo import workshop as subject
from fabric.demo.edits import EDITS
from fabric.demo.workshop import ALL, Workshop, resource

BAD = "def f(items=[]):\n    return eval(items)\n"


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "tree"


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


def test_those_most_worth_fixing_are_copied(tmp_path: Path) -> None:
    code = tree(tmp_path, {"a.py": "x = 1\n", "b/c.py": BAD, "d.py": BAD + BAD, "e.py": "y = 1\n"})
    before = checksums(code)
    shop = Workshop.make(str(code), tmp_path / "copy")
    assert shop.files == ("d.py", "b/c.py", "a.py")
    assert Workshop.open(tmp_path / "copy").files == shop.files
    assert shop.made() == dict.fromkeys(shop.files, ())
    shop.write("b/c.py", EDITS["FORMATTER"]("b/c.py", shop.now("b/c.py")))
    assert shop.made()["b/c.py"] == ("FORMATTER",)
    assert shop.before("b/c.py") == BAD.encode()
    shop.write("a.py", b"something else")
    assert shop.made()["a.py"] is None
    assert checksums(code) == before
    assert overlap(ALL, resource("b/c.py"))


def test_what_cannot_be_edited_safely_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "FILE_BYTES_MAX", 200)
    files = {"broken.py": "def (:\n", "[a].py": BAD, "large.py": BAD * 9, "good.py": BAD}
    shop = Workshop.make(str(tree(tmp_path, files)), tmp_path / "copy")
    assert shop.files == ("good.py",)


def test_a_tree_without_any_is_an_empty_copy(tmp_path: Path) -> None:
    shop = Workshop.make(str(tree(tmp_path, {"broken.py": "def (:\n"})), tmp_path / "copy")
    assert shop.files == Workshop.open(tmp_path / "copy").files == ()
    shop.hand_over(tmp_path / "fixed")
    assert list((tmp_path / "fixed").iterdir()) == []


def test_the_fixed_files_are_handed_over(tmp_path: Path) -> None:
    shop = Workshop.make(str(tree(tmp_path, {"b/c.py": BAD})), tmp_path / "copy")
    shop.write("b/c.py", b"fixed\n")
    shop.hand_over(tmp_path / "fixed")
    assert (tmp_path / "fixed" / "b" / "c.py").read_bytes() == b"fixed\n"
