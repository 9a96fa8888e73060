"""The scratch copy: which files, what ruff makes of them, and an edit that is lost is seen."""

import asyncio
from pathlib import Path

from fabric.demo.tree import Tree
from fabric.demo.workshop import Workshop, choose
from tests.demo.plant import ABORTS_RUFF, plant

UNTIDY = "import sys\nimport os\nx = [1,2]\nprint( os,x )\n"


def workshop(tmp_path: Path, files: dict[str, str]) -> tuple[Tree, Workshop]:
    tree = plant(tmp_path, files)
    return tree, Workshop.make(tree, list(tree.files), tmp_path / "copy")


def edit(work: Workshop, agent: str, path: str, *, read: bytes | None = None) -> None:
    """Edit a file as a fixer does; `read` is what it has read, if that was earlier."""
    data = work.read(path) if read is None else read
    edited = asyncio.run(work.edited(agent, path, data))
    work.write(agent, path, data, edited)


def test_both_edits_are_made_and_noted(tmp_path: Path) -> None:
    _, work = workshop(tmp_path, {"a.py": UNTIDY, "pkg/b.py": ""})
    assert work.made() == {"a.py": (), "pkg/b.py": ()}
    for path in work.files:
        edit(work, "FIXER", path)
        edit(work, "FORMATTER", path)
    assert work.made() == dict.fromkeys(work.files, ("FIXER", "FORMATTER"))
    assert work.read("a.py") == b"import os\n\nx = [1, 2]\nprint(os, x)\n"
    assert work.read("a.py", "before") == UNTIDY.encode()


def test_an_edit_that_was_overwritten_is_seen(tmp_path: Path) -> None:
    _, work = workshop(tmp_path, {"a.py": UNTIDY})
    before = work.read("a.py")
    edit(work, "FIXER", "a.py")
    edit(work, "FORMATTER", "a.py", read=before)
    assert work.made() == {"a.py": None}


def test_a_file_that_somebody_else_has_written_is_seen(tmp_path: Path) -> None:
    _, work = workshop(tmp_path, {"a.py": UNTIDY})
    edit(work, "FIXER", "a.py")
    (tmp_path / "copy/fixed/a.py").write_text("")
    assert work.made() == {"a.py": None}


def test_what_ruff_fails_on_stays_as_it_is(tmp_path: Path) -> None:
    _, work = workshop(tmp_path, {"a.py": ABORTS_RUFF, "b.py": "def (:\n"})
    for path in work.files:
        edit(work, "FIXER", path)
        edit(work, "FORMATTER", path)
        assert work.read(path) == work.read(path, "before")
        assert work.made()[path] == ("FIXER", "FORMATTER")


def test_own_modules_come_last_and_no_line_gets_longer(tmp_path: Path) -> None:
    long = f"value = call({'a' * 40}, {'b' * 40})  # 96 characters are more than 88\n"
    text = f"import zebra\n\nimport own\n\nprint(zebra, own, {'c' * 70})\n{long}"
    _, work = workshop(tmp_path, {"a.py": text, "own/__init__.py": ""})
    edit(work, "FIXER", "a.py")
    assert work.read("a.py").startswith(b"import zebra\n\nimport own\n")
    edit(work, "FORMATTER", "a.py")
    assert long.encode() in work.read("a.py")


def test_the_largest_files_are_chosen_and_none_that_cannot_be_edited(tmp_path: Path) -> None:
    files = {
        "a.py": "x = 1\n",
        "b.py": UNTIDY,
        "bad.py": ABORTS_RUFF,
        "broken.py": "def (:\n",
        "c.py": "import os\n",
        "glob[1].py": UNTIDY,
        "large.py": UNTIDY + "#" * 40_000,
        "z.py": "import os, sys\nimport re\n",
    }
    assert choose(plant(tmp_path, files)) == ["b.py", "z.py", "c.py"]
    assert choose(plant(tmp_path / "more", {"broken.py": "def (:\n"})) == []
