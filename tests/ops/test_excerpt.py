"""Lines of files beside findings: those of the project, and nothing else of the machine."""

import os
from pathlib import Path

import pytest

from fabric.ops import excerpt
from fabric.ops.excerpt import Excerpts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "a.py").write_text("".join(f"line {number}\n" for number in range(1, 31)))
    return project


def test_the_lines_of_a_finding(root: Path) -> None:
    read = Excerpts(root)
    assert read("src/a.py", 3, 3) == ["line 3"]
    assert read("src/a.py", 3, 5) == ["line 3", "line 4", "line 5"]
    assert len(read("src/a.py", 3, 30)) == excerpt.LINES_MAX
    assert read("src/a.py", 31, 40) == []


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", ".env", "src/.env", ".git/config", "link", "src", "x\0",
     "a" * 5_000, "binary", "circle", "missing", "", "https://example.com/a.py", "pipe", "large"],
)  # fmt: skip
def test_no_other_file_is_read(root: Path, path: str) -> None:
    (root.parent / "secret").write_text("secret\n")
    for name in (".env", "src/.env"):
        (root / name).write_text("secret\n")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret\n")
    (root / "link").symlink_to("/etc/passwd")
    (root / "circle").symlink_to("circle")
    (root / "binary").write_bytes(b"\xff\xfe\x00")
    (root / "large").write_text("x\n" * excerpt.FILE_BYTES_MAX)
    os.mkfifo(root / "pipe")
    assert Excerpts(root)(path, 1, 3) == []


def test_a_long_line_is_cut(root: Path) -> None:
    (root / "min.js").write_text("x" * 10_000)
    (line,) = Excerpts(root)("min.js", 1, 1)
    assert len(line) == excerpt.CHARS_MAX
