"""The snapshot: stable order, printable names, no loop, nothing left out in silence."""

import itertools
import os
from pathlib import Path

import pytest

from fabric.demo import tree
from fabric.demo.tree import FILE_BYTES_MAX, Tree, open_snapshot, take_snapshot

#: Numbers the snapshots of a test.
_numbers = itertools.count()


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")


_scratch: list[Path] = []


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder for the snapshots of a test, outside of the trees that it plants."""
    _scratch[:] = [tmp_path_factory.mktemp("scratch")]


def find(path: Path) -> Tree:
    folder = _scratch[0] / str(next(_numbers))
    folder.mkdir()
    taken = take_snapshot(os.fspath(path), folder)
    assert open_snapshot(folder) == taken
    return taken


def paths(root: Path) -> list[str]:
    return list(find(root).files)


def test_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "a/z.py", "a/b/c.py", "a.py", "c/a.py", "note.txt", "x.pyc")
    assert paths(tmp_path) == ["a/b/c.py", "a/z.py", "a.py", "b.py", "c/a.py"]
    assert find(tmp_path).read("a/b/c.py") == b"# a/b/c.py\n"


def test_other_peoples_code_and_caches_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.py", ".git/a.py", ".venv/a.py", "__pycache__/a.py", "node_modules/m/a.py")
    write(tmp_path, "build/a.py", "env/pyvenv.cfg", "env/lib/a.py")
    assert paths(tmp_path) == ["a.py"]
    assert sorted(item.path for item in find(tmp_path).skipped) == ["build", "env", "node_modules"]


def test_a_path_below_a_skipped_name_is_reviewed_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "build/a.py", ".hidden/b.py")
    assert paths(tmp_path / "build") == ["a.py"]
    assert paths(tmp_path / ".hidden") == ["b.py"]


def test_one_file_is_a_tree(tmp_path: Path) -> None:
    write(tmp_path, "script", "other.py")
    assert paths(tmp_path / "script") == ["script"]


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe"):
        with pytest.raises(FileNotFoundError):
            find(tmp_path / name)


def test_links_are_not_followed_and_cannot_loop(tmp_path: Path) -> None:
    write(tmp_path, "a/a.py", "outside.py")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/self.py").symlink_to("self.py")
    (tmp_path / "a/link.py").symlink_to(tmp_path / "outside.py")
    found = find(tmp_path / "a")
    assert list(found.files) == ["a.py"]
    assert [item.path for item in found.skipped] == ["link.py", "self.py"]
    (tmp_path / "entry").symlink_to(tmp_path / "a")
    assert paths(tmp_path / "entry") == ["a.py"]


def test_a_pipe_with_a_python_name_is_skipped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.py")
    found = find(tmp_path)
    assert (found.files, found.skipped[0].reason) == ((), "cannot be read: not a regular file")


def test_a_large_file_is_skipped_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    write(tmp_path, "small.py")
    found = find(tmp_path)
    assert list(found.files) == ["small.py"]
    assert found.skipped[0].path == "large.py"
    assert "more than 1,000,000 bytes" in found.skipped[0].reason


@pytest.mark.parametrize(
    ("limit", "value", "word"),
    [
        ("FILES_MAX", 2, "files"),
        ("TREE_BYTES_MAX", 14, "bytes"),
        ("DIRECTORIES_MAX", 1, "director"),
    ],
)
def test_a_limit_that_is_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, word: str
) -> None:
    write(tmp_path, "a.py", "b.py", "c/c.py", "d.py")
    monkeypatch.setattr(tree, limit, value)
    found = find(tmp_path)
    assert list(found.files) == ["a.py", "b.py"]
    (item,) = found.skipped
    assert (item.path[0], word in item.reason, "nothing after" in item.reason) == ("c", True, True)


def test_skipped_things_over_the_limit_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"{number}.py").symlink_to("nowhere")
    monkeypatch.setattr(tree, "SKIPPED_NAMED_MAX", 2)
    assert [item.path for item in find(tmp_path).skipped] == ["0.py", "1.py", "…"]
    assert "3 more" in find(tmp_path).skipped[-1].reason


def test_names_that_do_not_print_are_escaped_and_still_open(tmp_path: Path) -> None:
    name = b"a\x1b[31m\xff\n.py"
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:  # noqa: PTH118, PTH123 - a name of bytes
        file.write(b"x = 1\n")
    taken = find(tmp_path)
    (path,) = taken.files
    assert path == "a\\x1b[31m\\udcff\\x0a.py"
    assert taken.read(path) == b"x = 1\n"


def test_the_packages_around_the_root_are_named(tmp_path: Path) -> None:
    write(tmp_path, "src/outer/__init__.py", "src/outer/inner/__init__.py", "src/outer/inner/a.py")
    found = find(tmp_path / "src")
    assert found.folder == found.root
    for path in ("src/outer/inner", "src/outer/inner/a.py"):
        found = find(tmp_path / path)
        assert Path(found.folder).relative_to(found.root) == Path("outer/inner")
        assert found.read("a.py").startswith(b"# src/outer/inner/a.py")


def test_two_names_that_look_the_same_are_not_mixed_up(tmp_path: Path) -> None:
    (tmp_path / "a\n.py").write_text("1\n")
    (tmp_path / "a\\x0a.py").write_text("2\n")
    found = find(tmp_path)
    assert len(found.files) == 1
    assert "another file" in found.skipped[0].reason
